//! Imports between files, read off `use` declarations and paths in the code. A re-export is not an
//! import: an item that a module passes on is looked up where it is defined.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{code, sources};

/// The files that each file imports.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

type ModulePath = Vec<String>;

/// One file.
struct Module {
    file: String,
    text: String,
    uses: Vec<Use>,
}

/// One name of a `use` declaration, with braces expanded.
struct Use {
    public: bool,
    path: Vec<String>,
    name: String,
}

pub(crate) fn of(host: &Path) -> Imports {
    let modules: BTreeMap<ModulePath, Module> =
        sources(host).iter().filter_map(|path| module(path, host)).collect();
    let edges = |(at, module): (&ModulePath, &Module)| {
        let passed_on = |found: &Use| found.public && absolute(at, &found.path).starts_with(at);
        let used =
            module.uses.iter().filter(|found| !passed_on(found)).map(|found| found.path.clone());
        let is_child =
            |first: &str| modules.contains_key(&[at.as_slice(), &[first.to_owned()]].concat());
        let named = paths(&without_uses(&module.text), is_child);
        let files = used.chain(named).filter_map(|path| home(&modules, &absolute(at, &path), 0));
        (module.file.clone(), files.filter(|file| *file != module.file).collect())
    };
    modules.iter().map(edges).collect()
}

fn module(path: &Path, host: &Path) -> Option<(ModulePath, Module)> {
    let file = path.strip_prefix(host).expect("inside").to_string_lossy().into_owned();
    let at: ModulePath = match file.strip_suffix(".rs")? {
        "lib" => Vec::new(),
        "main" => return None,
        name => name.trim_end_matches("/mod").split('/').map(str::to_owned).collect(),
    };
    let text = without_scopes(&code(path));
    let uses = declarations(&text).into_iter().flat_map(|(public, tree)| {
        let mut names = Vec::new();
        let tree: Vec<_> = tree.split_whitespace().collect();
        written_out(&[], &tree.join(" "), &mut names);
        names.into_iter().map(move |(path, name)| Use { public, path, name })
    });
    let uses = uses.collect();
    Some((at, Module { file, text, uses }))
}

/// The text without the paths of `pub(in PATH)`, which import nothing.
fn without_scopes(text: &str) -> String {
    let mut parts = text.split("pub(in ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "pub(" + &part[part.find(')').unwrap_or(0)..])
}

/// The bodies of all `use` declarations.
fn declarations(text: &str) -> Vec<(bool, String)> {
    let starts = text.match_indices("use ").filter(|&(at, _)| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
        line.is_empty() || line.starts_with("pub")
    });
    let body = |at: usize| text[at + 4..].split(';').next().unwrap_or_default().to_owned();
    let public = |at: usize| text[..at].rsplit('\n').next().unwrap_or_default().contains("pub");
    starts.map(|(at, _)| (public(at), body(at))).collect()
}

fn without_uses(text: &str) -> String {
    let mut text = text.to_owned();
    for (_, body) in declarations(&text.clone()) {
        text = text.replace(&body, "");
    }
    text
}

/// Expands `a::{b, c::{d as e}}` to `a::b` and `a::c::d`, each with the name under which it is
/// known.
fn written_out(before: &[String], tree: &str, names: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once('{') {
        let head = head.trim().trim_end_matches("::");
        let mut path = before.to_vec();
        path.extend(
            head.split("::").filter(|part| !part.is_empty()).map(|part| part.trim().to_owned()),
        );
        let inner = rest.trim_end().trim_end_matches('}');
        let inner = &rest[..inner.len() + rest[inner.len()..].find('}').unwrap_or(0)];
        for part in top_level(inner) {
            written_out(&path, part, names);
        }
        return;
    }
    let (path, name) =
        tree.split_once(" as ").unwrap_or((tree, tree.rsplit("::").next().unwrap_or(tree)));
    let mut whole = before.to_vec();
    whole.extend(
        path.split("::")
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty() && part != "self"),
    );
    if path.trim().starts_with("self::") {
        whole.insert(before.len(), "self".into());
    }
    names.push((whole, name.trim().to_owned()));
}

fn top_level(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// Paths from `crate`, `super`, `self` and the file's own modules in the code.
fn paths(text: &str, is_child: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = text.split(|letter| !is_part(letter));
    let begins = |word: &&str| {
        let first = word.split_once("::").map_or("", |(first, _)| first);
        ["crate", "super", "self"].contains(&first) || is_child(first)
    };
    words.filter(begins).map(|word| word.split("::").map(str::to_owned).collect()).collect()
}

/// The path from the root of the crate.
fn absolute(at: &[String], path: &[String]) -> ModulePath {
    let mut whole = at.to_vec();
    let mut parts = path.iter().peekable();
    match parts.peek().map(|part| part.as_str()) {
        Some("crate") => {
            whole.clear();
            parts.next();
        }
        Some("self") => drop(parts.next()),
        Some("super") => {}
        // Another crate, or a module declared here.
        Some(_) | None => {}
    }
    for part in parts {
        if part == "super" { drop(whole.pop()) } else { whole.push(part.clone()) }
    }
    whole
}

/// The file in which the item at `path` is defined; none for another crate's.
fn home(modules: &BTreeMap<ModulePath, Module>, path: &[String], depth: usize) -> Option<String> {
    assert!(depth < 16, "{path:?} is passed on for ever");
    let (at, module) =
        (1..=path.len()).rev().find_map(|len| modules.get_key_value(&path[..len]))?;
    let Some(item) = path.get(at.len()) else { return Some(module.file.clone()) };
    let follow = |found: &Use| {
        let mut next = absolute(at, &found.path);
        next.extend(path[at.len() + 1..].iter().cloned());
        (next != *path).then(|| home(modules, &next, depth + 1)).flatten()
    };
    let named = module.uses.iter().filter(|found| found.public && found.name == *item);
    if let Some(file) = named.into_iter().find_map(follow) {
        return Some(file);
    }
    let everything = module.uses.iter().filter(|found| found.public && found.name == "*");
    let targets = everything.filter_map(|found| {
        let path = absolute(at, &found.path[..found.path.len() - 1]);
        modules.get(&path).filter(|target| defines(&target.text, item))
    });
    targets.map(|target| target.file.clone()).next().or_else(|| Some(module.file.clone()))
}

fn defines(text: &str, item: &str) -> bool {
    ["struct", "enum", "fn", "trait", "type", "const", "static", "union"]
        .iter()
        .any(|kind| text.contains(&format!("{kind} {item}")))
}

/// Groups of files of which each imports, over some others, each.
pub(crate) fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<_, _> =
        imports.keys().map(|file| (file, reachable(file, imports))).collect();
    let mut found = BTreeSet::new();
    for (file, reached) in &reach {
        let back = reached
            .iter()
            .filter(|other| reach.get(other).is_some_and(|back| back.contains(*file)));
        let circle: BTreeSet<String> = back.cloned().collect();
        if !circle.is_empty() {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

fn reachable(from: &str, imports: &Imports) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(file) = next.pop() {
        for other in imports.get(&file).into_iter().flatten() {
            if reached.insert(other.clone()) {
                next.push(other.clone());
            }
        }
    }
    reached
}

/// The circle with the arrows inside it.
pub(crate) fn describe(circle: &BTreeSet<String>, imports: &Imports) -> String {
    let arrows = circle.iter().flat_map(|from| {
        let inside = imports[from].iter().filter(|to| circle.contains(*to));
        inside.map(move |to| format!("  {from} -> {to}"))
    });
    arrows.collect::<Vec<_>>().join("\n")
}
