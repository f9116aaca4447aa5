//! Components that misbehave in one way each, and keep the contract otherwise.

mod image;

use std::path::Path;

use image::Image;
use tallyman::policy::World;
use tallyman::policy::metering::{
    Description, Measurement, MeterDescription, MeterTerms, OptionDescription, OptionKind,
    Rounding, Stretch,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Function, IndexMap, Resolve, SourceMap, WorldItem, WorldKey};

const TEMPLATE: &str = include_str!("policy.wat");

/// An evil question is one about an instant before this one: long before every golden vector.
pub(crate) const EVIL_BEFORE: i64 = 1_000_000;

/// Condition under which a component misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// In every call, so also in the self-test.
    Always,
    /// Only in calls about an instant from 0 to before [`EVIL_BEFORE`].
    AskedAboutEarlyInstants,
    /// In no call: the template as it is.
    Never,
}

/// A misbehaviour as code, in a single call and in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evil {
    /// Runs in `enter`; the answer is at 1024.
    pub(crate) enter: &'static str,
    /// Runs in `enter-all`; the answer is at 1024.
    pub(crate) columns: &'static str,
}

impl Evil {
    /// The same code in both.
    pub(crate) const fn both(code: &'static str) -> Self {
        Self { enter: code, columns: code }
    }

    /// Builds the component.
    pub(crate) fn component(self, when: When) -> Vec<u8> {
        self.component_with(when, "", "")
    }

    /// Builds the component with one more change to the template.
    pub(crate) fn component_with(self, when: When, from: &str, to: &str) -> Vec<u8> {
        Component { accounting: self, when, metering: Metering::default() }.build(
            World::Policy,
            from,
            to,
        )
    }
}

/// A component's metering.
#[derive(Debug, Clone)]
pub(crate) struct Metering {
    pub(crate) description: Description,
    /// Answer to a request that begins at [`EVIL_SPAN_START`], in place of an honest one.
    pub(crate) answer: Answer,
}

/// An answer to an evil request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Every interval is counted by the first meter.
    Honest,
    /// The given measurement, for every such request.
    Canned(Box<Measurement>),
    /// Runs in `measure`; the honest answer is at 1024, a result's discriminant first.
    Code(&'static str),
}

/// A request is evil if its span begins here: no golden vector's does.
pub(crate) const EVIL_SPAN_START: i64 = 7;

impl Default for Metering {
    fn default() -> Self {
        let meter = |name: &str, stretch| MeterDescription {
            name: name.into(),
            counts: "all time".into(),
            stretch,
        };
        let option = |name: &str, kind, default: &str| OptionDescription {
            name: name.into(),
            kind,
            default: default.into(),
            does: "nothing".into(),
        };
        let description = Description {
            meters: vec![meter("active", Stretch::Start), meter("other", Stretch::Life)],
            options: vec![
                option("grain", OptionKind::Duration, "1s"),
                option("how", OptionKind::Choice(vec!["so".into(), "else".into()]), "so"),
                option("word", OptionKind::Text, ""),
            ],
            billed_ratio: 1_000,
        };
        Self { description, answer: Answer::Honest }
    }
}

impl Metering {
    /// Terms that the component answers: exact ones for each declared meter.
    pub(crate) fn terms(&self) -> Vec<MeterTerms> {
        let terms = |meter: &MeterDescription| MeterTerms {
            name: meter.name.clone(),
            stretch: meter.stretch,
            minimum: 0,
            granularity: 1,
            rounding: Rounding::Up,
        };
        self.description.meters.iter().map(terms).collect()
    }

    /// Builds a component that misbehaves in its metering only.
    pub(crate) fn component(self) -> Vec<u8> {
        Component { accounting: HONEST, when: When::Never, metering: self }.build(
            World::Policy,
            "",
            "",
        )
    }

    /// Builds a component that misbehaves in every call of its accounting, and measures like this.
    #[allow(dead_code, reason = "for the simulation alone")]
    pub(crate) fn component_that(self, accounting: Evil) -> Vec<u8> {
        Component { accounting, when: When::Always, metering: self }.build(World::Policy, "", "")
    }

    /// Builds a component for world `meter`, which leaves accounting to the standard policy, with
    /// this number of pages of memory.
    pub(crate) fn alone(self, pages: u32) -> Vec<u8> {
        let memory = "(export \"memory\") 1)";
        let enough = format!("(export \"memory\") {pages})");
        Component { accounting: HONEST, when: When::Never, metering: self }.build(
            World::Meter,
            memory,
            &enough,
        )
    }
}

struct Component {
    accounting: Evil,
    when: When,
    metering: Metering,
}

/// Address of constant answers. Addresses below hold the answers that code makes.
const IMAGE_BASE: u32 = 4_096;

impl Component {
    fn build(self, world: World, from: &str, to: &str) -> Vec<u8> {
        assert!(TEMPLATE.contains(from), "the template has no '{from}'");
        let decide = match self.when {
            When::Always => "(i32.const 1)".to_owned(),
            When::Never => "(i32.const 0)".to_owned(),
            When::AskedAboutEarlyInstants => {
                format!("(i64.lt_u (local.get $at) (i64.const {EVIL_BEFORE}))")
            }
        };
        let mut image = Image::at(IMAGE_BASE);
        let description = image.description(&self.metering.description);
        let (terms, count) = image.terms(&self.metering.terms());
        let measure = match &self.metering.answer {
            Answer::Honest => String::new(),
            Answer::Canned(answer) => {
                let address = image.measurement(answer);
                format!("(memory.copy (i32.const 1024) (i32.const {address}) (i32.const 28))")
            }
            Answer::Code(code) => (*code).to_owned(),
        };
        let heap = image.end().next_multiple_of(16);
        let pages = heap.div_ceil(65_536);
        let template = match world {
            World::Policy => TEMPLATE.to_owned(),
            World::Meter => without_accounting(),
        };
        let text = template
            .replace(if from.is_empty() { "\0" } else { from }, to)
            .replace("(export \"memory\") 1)", &format!("(export \"memory\") {pages})"))
            .replace("{evil}", &decide)
            .replace("{enter}", self.accounting.enter)
            .replace("{columns}", self.accounting.columns)
            .replace("{measure}", &measure)
            .replace("{evil-span-start}", &EVIL_SPAN_START.to_string())
            .replace("{description}", &description.to_string())
            .replace("{terms}", &format!("(i32.const {terms}) (i32.const {count})"))
            .replace("{image}", &format!("(data (i32.const {IMAGE_BASE}) \"{}\")", image.escaped()))
            .replace("{heap}", &heap.to_string())
            .replace("{accounting}", "tallyman:policy/accounting@0.2.0")
            .replace("{metering}", "tallyman:policy/metering@0.2.0");
        let mut module = wat::parse_str(text).expect("the template is text");
        Contract::served().embed(world.as_str(), &mut module);
        encode(&module)
    }
}

/// The template from its metering on, and the part before its accounting.
fn without_accounting() -> String {
    let (head, rest) = TEMPLATE.split_once(";; accounting").expect("a mark");
    let (_, tail) = rest.split_once(";; metering").expect("a mark");
    format!("{head}{tail}")
}

pub(crate) const LOOPS: Evil = Evil::both("(loop $for_ever (br $for_ever))");
pub(crate) const EATS_MEMORY: Evil =
    Evil::both("(loop $more (drop (memory.grow (i32.const 16))) (br $more))");
pub(crate) const RECURSES: Evil = Evil::both("(drop (call $recurse (i64.const 0)))");
pub(crate) const TRAPS: Evil = Evil::both("unreachable");
pub(crate) const REFUSES: Evil = Evil {
    enter: "(i32.store8 (i32.const 1024) (i32.const 1)) \
         (i32.store8 (i32.const 1032) (i32.const 2)) (i32.store (i32.const 1036) (i32.const 0))",
    columns: "(i32.store8 (i32.const 1024) (i32.const 1)) \
         (i32.store8 (i32.const 1028) (i32.const 2)) (i32.store (i32.const 1032) (i32.const 1))",
};
/// Claims a text of a gigabyte, which its memory can't hold.
pub(crate) const CLAIMS_A_GIGABYTE: Evil = Evil {
    enter: "(i32.store8 (i32.const 1024) (i32.const 1)) \
         (i32.store8 (i32.const 1032) (i32.const 3)) (i32.store (i32.const 1036) (i32.const 0)) \
         (i32.store (i32.const 1040) (i32.const 1073741824))",
    columns: "(i32.store (i32.const 1032) (i32.const 1073741824))",
};
/// Returns as much as its memory can hold.
pub(crate) const RETURNS_MEGABYTES: Evil = Evil {
    enter: "(drop (memory.grow (i32.const 200))) (i32.store8 (i32.const 1024) (i32.const 1)) \
         (i32.store8 (i32.const 1032) (i32.const 3)) (i32.store (i32.const 1036) (i32.const 0)) \
         (i32.store (i32.const 1040) (i32.const 12000000))",
    columns: "(drop (memory.grow (i32.const 200))) (i32.store (i32.const 1028) (i32.const 0)) \
         (i32.store (i32.const 1032) (i32.const 12000000))",
};
/// Adds a second to `created`.
pub(crate) const INVENTS_A_SECOND: Evil = Evil {
    enter: "(i64.store (i32.const 1048) \
             (i64.add (i64.load (i32.const 1048)) (i64.const 1000000000)))",
    columns: "(i64.store (i32.load (i32.const 1044)) \
             (i64.add (i64.load (i32.load (i32.const 1044))) (i64.const 1000000000)))",
};
/// Takes a nanosecond from `running`.
pub(crate) const LOSES_A_NANOSECOND: Evil = Evil {
    enter: "(i64.store (i32.const 1064) (i64.sub (i64.load (i32.const 1064)) (i64.const 1)))",
    columns: "(i64.store (i32.load (i32.const 1060)) \
             (i64.sub (i64.load (i32.load (i32.const 1060))) (i64.const 1)))",
};
/// Sets the total of `stopped` to 0, and adds as much to `created`.
pub(crate) const SHRINKS_A_TOTAL: Evil = Evil {
    enter: "(i64.store (i32.const 1096) (i64.const 0)) (i64.store (i32.const 1048) (i64.const 77))",
    columns: "(i64.store (i32.load (i32.const 1092)) (i64.const 0)) \
         (i64.store (i32.load (i32.const 1044)) (i64.const 77))",
};
/// Begins the new visit a nanosecond early.
pub(crate) const MOVES_SINCE_BACK: Evil = Evil {
    enter: "(i64.store (i32.const 1040) (i64.sub (i64.load (i32.const 1040)) (i64.const 1)))",
    columns: "(i64.store (i32.load (i32.const 1036)) \
             (i64.sub (i64.load (i32.load (i32.const 1036))) (i64.const 1)))",
};
pub(crate) const FORGETS_THE_PHASE: Evil = Evil {
    enter: "(i32.store8 (i32.const 1032) (i32.const 0))",
    columns: "(i32.store8 (i32.load (i32.const 1028)) (i32.const 255))",
};
pub(crate) const MAKES_UP_A_PHASE: Evil = Evil {
    enter: "(i32.store8 (i32.const 1033) (i32.const 9))",
    columns: "(i32.store8 (i32.load (i32.const 1028)) (i32.const 9))",
};
/// Returns a list of `since` with one item too few.
pub(crate) const SHORTENS_A_LIST: Evil = Evil {
    enter: "",
    columns: "(i32.store (i32.const 1040) (i32.sub (i32.load (i32.const 1040)) (i32.const 1)))",
};
/// Answers single calls correctly, and traps in batches.
pub(crate) const BREAKS_BATCHES: Evil = Evil { enter: "", columns: "unreachable" };
pub(crate) const HONEST: Evil = Evil::both("");

/// The contract's WIT texts, to be changed.
#[derive(Debug, Clone)]
pub(crate) struct Contract {
    files: Vec<(&'static str, String)>,
    others: Vec<(&'static str, &'static str)>,
}

impl Contract {
    /// The contract as this host serves it.
    pub(crate) fn served() -> Self {
        let file = |name: &'static str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit").join(name);
            (name, std::fs::read_to_string(path).expect("the contract is in wit/"))
        };
        Self {
            files: ["types.wit", "accounting.wit", "metering.wit", "world.wit"].map(file).into(),
            others: Vec::new(),
        }
    }

    /// Replaces every `from`.
    ///
    /// # Panics
    /// Panics if `from` does not occur: the test would test nothing.
    #[must_use]
    pub(crate) fn with(mut self, from: &str, to: &str) -> Self {
        assert!(
            self.files.iter().any(|(_, text)| text.contains(from)),
            "the contract has no '{from}'"
        );
        for (_, text) in &mut self.files {
            *text = text.replace(from, to);
        }
        self
    }

    /// Adds a package of another namespace.
    #[must_use]
    pub(crate) fn beside(mut self, name: &'static str, package: &'static str) -> Self {
        self.others.push((name, package));
        self
    }

    fn resolve(&self, world: &str) -> (Resolve, wit_parser::WorldId) {
        let mut resolve = Resolve::default();
        for (name, text) in &self.others {
            resolve.push_source(name, text).expect("a package");
        }
        let mut sources = SourceMap::new();
        for (name, text) in &self.files {
            sources.push_str(name, text.as_str());
        }
        let group = sources.parse().unwrap_or_else(|(_, why)| panic!("{why}"));
        let package = resolve.push_group(group).expect("a package");
        let world = resolve.select_world(&[package], Some(world)).expect("a world");
        (resolve, world)
    }

    /// Adds the section by which an encoder knows `world` to a core module.
    pub(crate) fn embed(&self, world: &str, module: &mut Vec<u8>) {
        let (resolve, world) = self.resolve(world);
        embed_component_metadata(module, &resolve, world, StringEncoding::UTF8).expect("a world");
    }

    /// A component of the right shape, each of whose functions traps.
    pub(crate) fn dummy(&self, world: &str) -> Vec<u8> {
        encode(&self.dummy_module(world))
    }

    /// The core module in [`Contract::dummy`].
    pub(crate) fn dummy_module(&self, world: &str) -> Vec<u8> {
        let (resolve, id) = self.resolve(world);
        let mut imports = String::new();
        let mut exports = String::new();
        for (interface, function) in functions(&resolve, &resolve.worlds[id].imports) {
            let signature = signature(&resolve, AbiVariant::GuestImport, function);
            imports +=
                &format!("(import \"{interface}\" \"{}\" (func {signature}))", function.name);
        }
        for (interface, function) in functions(&resolve, &resolve.worlds[id].exports) {
            let name = if interface.is_empty() {
                function.name.clone()
            } else {
                format!("{interface}#{}", function.name)
            };
            let signature = signature(&resolve, AbiVariant::GuestExport, function);
            exports += &format!("(func (export \"{name}\") {signature} unreachable)");
        }
        let text = format!(
            "(module {imports} (memory (export \"memory\") 1) {exports}
               (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) unreachable))"
        );
        let mut module = wat::parse_str(text).expect("text");
        self.embed(world, &mut module);
        module
    }
}

type Items = IndexMap<WorldKey, WorldItem>;

/// Every function of these items with the name of its interface; the name is empty for a function
/// of the world itself.
fn functions<'a>(resolve: &'a Resolve, items: &'a Items) -> Vec<(String, &'a Function)> {
    let mut found = Vec::new();
    for (key, item) in items {
        match item {
            WorldItem::Interface { id, .. } => {
                let interface = match key {
                    WorldKey::Name(name) => name.clone(),
                    WorldKey::Interface(id) => {
                        resolve.id_of(*id).expect("interfaces of packages have names")
                    }
                };
                found.extend(
                    resolve.interfaces[*id]
                        .functions
                        .values()
                        .map(|function| (interface.clone(), function)),
                );
            }
            WorldItem::Function(function) => found.push((String::new(), function)),
            WorldItem::Type { .. } => {}
        }
    }
    found
}

fn signature(resolve: &Resolve, variant: AbiVariant, function: &Function) -> String {
    let signature = resolve.wasm_signature(variant, function);
    let types = |types: &[WasmType]| types.iter().map(|&of| name(of)).collect::<Vec<_>>().join(" ");
    format!("(param {}) (result {})", types(&signature.params), types(&signature.results))
}

fn name(of: WasmType) -> &'static str {
    match of {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    }
}

/// Encodes a core module as a component.
pub(crate) fn encode(module: &[u8]) -> Vec<u8> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    encoder.and_then(|mut encoder| encoder.encode()).expect("the module fits its world")
}
