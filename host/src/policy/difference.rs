//! The differences between a component's contract and this host's, in words: functions that are
//! missing, unknown, or of another type.

use std::collections::BTreeMap;

use wit_component::DecodedWasm;
use wit_parser::{
    Function, Handle, Resolve, Type, TypeDefKind, TypeId, WorldId, WorldItem, WorldKey,
};

use super::component::World;
use super::wit::contract;

/// Most differences that are listed.
const TOLD_MAX: usize = 8;

/// Returns the first [`TOLD_MAX`] differences; empty if the bytes can't be decoded as a component.
pub(super) fn of(bytes: &[u8]) -> Vec<String> {
    let Ok(DecodedWasm::Component(theirs, world)) = wit_component::decode(bytes) else {
        return Vec::new();
    };
    let Ok((ours, wanted)) = contract(World::Policy) else { return Vec::new() };
    let theirs = exports(&theirs, world);
    let ours = exports(&ours, wanted);
    let mut told = Vec::new();
    for (name, wants) in &ours {
        // World `meter` has no accounting, which is no difference.
        let interface = name.split('.').next().unwrap_or_default();
        let has_interface = theirs.keys().any(|name| name.split('.').next() == Some(interface));
        match theirs.get(name) {
            Some(has) if has == wants => {}
            Some(has) => told.push(differing(name, has, wants)),
            None if has_interface => told.push(format!("{name} is missing")),
            None => {}
        }
    }
    let more = theirs.keys().filter(|name| !ours.contains_key(*name));
    told.extend(more.map(|name| format!("{name} is unknown here")));
    let left_out = told.len().saturating_sub(TOLD_MAX);
    told.truncate(TOLD_MAX);
    if left_out > 0 {
        told.push(format!("and {left_out} more"));
    }
    told
}

/// Describes a difference between two types, from where they differ: types may be long.
fn differing(name: &str, has: &str, wants: &str) -> String {
    const AROUND: usize = 48;
    let same = has.bytes().zip(wants.bytes()).take_while(|(one, other)| one == other).count();
    let begin =
        has[..has.floor_char_boundary(same)].rfind(['(', '{', ',', '<']).map_or(0, |at| at + 1);
    let piece = |text: &str| {
        let text = text.get(begin..).unwrap_or_default().trim_start();
        text[..text.floor_char_boundary(AROUND)].trim_end_matches([' ', ',', '}', ')']).to_owned()
    };
    format!("{name} has `{}`, this host `{}`", piece(has), piece(wants))
}

/// Returns every exported function as `interface.function`, without versions, with its type written
/// out.
fn exports(resolve: &Resolve, world: WorldId) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, item) in &resolve.worlds[world].exports {
        match item {
            WorldItem::Interface { id, .. } => {
                let interface = &resolve.interfaces[*id];
                let name = match key {
                    WorldKey::Name(name) => name.clone(),
                    WorldKey::Interface(_) => interface.name.clone().unwrap_or_default(),
                };
                for function in interface.functions.values() {
                    found.insert(format!("{name}.{}", function.name), signature(resolve, function));
                }
            }
            WorldItem::Function(function) => {
                found.insert(function.name.clone(), signature(resolve, function));
            }
            WorldItem::Type { .. } => {}
        }
    }
    found
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let params = function
        .params
        .iter()
        .map(|param| format!("{}: {}", param.name, type_text(resolve, &param.ty)));
    let result =
        function.result.as_ref().map(|result| format!(" -> {}", type_text(resolve, result)));
    format!("func({}){}", params.collect::<Vec<_>>().join(", "), result.unwrap_or_default())
}

/// Writes out a type down to built-in types, so that two types of the same name are compared by
/// content.
fn type_text(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::U8 => "u8".into(),
        Type::U16 => "u16".into(),
        Type::U32 => "u32".into(),
        Type::U64 => "u64".into(),
        Type::S8 => "s8".into(),
        Type::S16 => "s16".into(),
        Type::S32 => "s32".into(),
        Type::S64 => "s64".into(),
        Type::F32 => "f32".into(),
        Type::F64 => "f64".into(),
        Type::Char => "char".into(),
        Type::String => "string".into(),
        Type::ErrorContext => "error-context".into(),
        Type::Id(id) => defined(resolve, *id),
    }
}

fn defined(resolve: &Resolve, id: TypeId) -> String {
    let text = |ty: &Type| type_text(resolve, ty);
    let optional = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), text);
    match &resolve.types[id].kind {
        TypeDefKind::Type(ty) => text(ty),
        TypeDefKind::Record(record) => {
            let fields =
                record.fields.iter().map(|field| format!("{}: {}", field.name, text(&field.ty)));
            format!("record {{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| match &case.ty {
                Some(ty) => format!("{}({})", case.name, text(ty)),
                None => case.name.clone(),
            });
            format!("variant {{{}}}", cases.collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Enum(cases) => {
            let cases = cases.cases.iter().map(|case| case.name.as_str());
            format!("enum {{{}}}", cases.collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Flags(flags) => {
            let flags = flags.flags.iter().map(|flag| flag.name.as_str());
            format!("flags {{{}}}", flags.collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Tuple(tuple) => {
            format!("tuple<{}>", tuple.types.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::List(ty) => format!("list<{}>", text(ty)),
        TypeDefKind::Option(ty) => format!("option<{}>", text(ty)),
        TypeDefKind::Result(result) => {
            format!("result<{}, {}>", optional(&result.ok), optional(&result.err))
        }
        TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id)) => {
            format!("handle {}", resolve.types[*id].name.as_deref().unwrap_or("?"))
        }
        // The contract has no other kinds of types.
        other => other.as_str().into(),
    }
}
