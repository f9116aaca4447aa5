//! The rules of the program's structure and documentation, read off its own source text.
//!
//! `units, id, limits <- vm, tenant, billing <- driver, policy, journal, hypervisor <- tenancy <-
//! invoice <- rollout <- api <- runtime <- cli`, pure cores stay pure, and each heavy crate has one
//! home.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").into()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    files(folder, &["rs"])
}

/// Files below a folder whose names end in one of `endings`; not those of a build, nor hidden ones.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let entry = entry.expect("an entry");
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|&ending| path.extension().is_some_and(|own| own == ending)) {
            found.push(path);
        }
    }
    found
}

/// The code of a file: comments and its unit tests left out.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The top-level module of `host/src` that a file belongs to.
fn module(path: &Path, host: &Path) -> String {
    let inside = path.strip_prefix(host).expect("inside");
    let first =
        inside.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Modules of the host that each module may use.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    const WORDS: &[&str] = &["units", "id", "limits"];
    const DRIVER: &[&str] = &[
        "units",
        "id",
        "limits",
        "vm",
        "tenant",
        "billing",
        "clock",
        "journal",
        "hypervisor",
        "image",
    ];
    const ALL: &[&str] = &[
        "units",
        "id",
        "limits",
        "vm",
        "tenant",
        "billing",
        "clock",
        "journal",
        "hypervisor",
        "image",
        "policy",
        "driver",
        "tenancy",
        "invoice",
        "rollout",
        "probe",
        "api",
        "runtime",
    ];
    const API: &[&str] = ALL.split_at(15).0;
    const RUNTIME: &[&str] = ALL.split_at(17).0;
    const CLI: &[&str] = ALL;
    BTreeMap::from([
        ("units", &[][..]),
        ("id", &[]),
        ("limits", &[]),
        ("vm", WORDS),
        ("tenant", WORDS),
        ("billing", &["units", "id", "limits", "vm", "tenant"]),
        ("clock", &["units", "billing"]),
        ("image", &["id", "limits", "clock"]),
        ("journal", &["units", "id", "limits", "vm", "tenant", "billing", "clock"]),
        ("policy", &["units", "id", "limits", "vm", "tenant", "billing", "clock"]),
        ("hypervisor", &["units", "id", "limits", "vm", "tenant", "billing", "clock"]),
        ("driver", DRIVER),
        ("probe", &["driver", "hypervisor"]),
        ("tenancy", &["units", "id", "limits", "tenant", "billing", "clock", "journal"]),
        ("invoice", &["units", "id", "limits", "vm", "tenant", "billing", "journal", "policy"]),
        (
            "rollout",
            &[
                "units", "id", "limits", "vm", "tenant", "billing", "journal", "policy", "driver",
                "tenancy", "invoice",
            ],
        ),
        ("api", API),
        ("runtime", RUNTIME),
        ("cli", CLI),
    ])
}

#[test]
fn dependencies_point_one_way() {
    let host = root().join("host/src");
    let allowed = allowed();
    let mut wrong = Vec::new();
    for path in sources(&host) {
        let from = module(&path, &host);
        if from == "lib" || from == "main" {
            continue;
        }
        let may = allowed
            .get(from.as_str())
            .unwrap_or_else(|| panic!("the module `{from}` needs a place in the order"));
        let text = code(&path);
        for to in allowed.keys() {
            let names =
                [format!("crate::{to}::"), format!("crate::{to};"), format!("crate::{to},")];
            if *to != from && !may.contains(to) && names.iter().any(|name| text.contains(name)) {
                wrong.push(format!("{} uses crate::{to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_heavy_crate_has_one_home() {
    let host = root().join("host/src");
    let homes: [(&str, &[&str]); 10] = [
        ("wasmtime", &["policy"]),
        ("wasmparser", &["policy"]),
        ("wit_component", &["policy"]),
        ("rusqlite", &["journal"]),
        ("axum", &["api"]),
        ("jsonwebtoken", &["tenancy"]),
        ("ed25519_dalek", &["tenancy"]),
        ("clap", &["cli", "main"]),
        ("reqwest", &["cli", "hypervisor", "probe"]),
        ("indicatif", &["cli"]),
    ];
    let mut wrong = Vec::new();
    for path in sources(&host) {
        let from = module(&path, &host);
        let text = code(&path);
        for (name, home) in homes {
            if !home.contains(&from.as_str()) && text.contains(&format!("{name}::")) {
                wrong.push(format!("{} uses {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_modules_wait_for_nothing_and_ask_nobody() {
    let host = root().join("host/src");
    let forbidden = [
        "async ",
        "tokio",
        "std::fs",
        "std::net",
        "std::io",
        "std::time",
        "std::thread",
        "serde",
        "rustix",
    ];
    let mut wrong = Vec::new();
    let folders = ["vm", "billing"].into_iter().flat_map(|folder| sources(&host.join(folder)));
    for path in folders.chain([host.join("tenant.rs")]) {
        let text = code(&path);
        wrong.extend(
            forbidden
                .iter()
                .filter(|word| text.contains(**word))
                .map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_clock_asks_for_the_time() {
    let host = root().join("host/src");
    let asks = ["SystemTime::now", "Utc::now", "Local::now", "clock_gettime"];
    let mut wrong = Vec::new();
    for path in sources(&host) {
        if module(&path, &host) == "clock" {
            continue;
        }
        let text = code(&path);
        wrong.extend(
            asks.iter()
                .filter(|ask| text.contains(**ask))
                .map(|ask| format!("{}: {ask}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn host_and_guest_meet_only_in_the_contract() {
    let manifest = |path: &str| fs::read_to_string(root().join(path)).expect("a manifest");
    assert!(!manifest("host/Cargo.toml").contains("guest-tracker"));
    assert!(!manifest("guest-tracker/Cargo.toml").contains("tallyman"));
}

#[test]
fn states_are_matched_without_a_wildcard() {
    let host = root().join("host/src/vm");
    for file in ["decide.rs", "event.rs", "state.rs"] {
        let text = code(&host.join(file));
        assert!(!text.contains("_ =>"), "{file} has a wildcard arm");
    }
}

/// Words that begin a bare clause: a doc comment opens with a noun phrase or a verb instead.
const CLAUSES: [&str; 16] = [
    "What", "Who", "Whom", "Whose", "Whether", "Those", "So many", "Whoever", "Whatever", "How",
    "Why", "When", "Where", "Which", "If", "That",
];

/// Every line of the Rust and WIT files of the repository that satisfies `is_wrong`, as
/// `file:line: text`.
fn wrong_lines(is_wrong: impl Fn(&str) -> bool) -> String {
    let root = root();
    let mut wrong = String::new();
    for path in files(&root, &["rs", "wit"]) {
        let text = fs::read_to_string(&path).expect("readable");
        let place = path.strip_prefix(&root).expect("inside").display();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_wrong(line)) {
            let _ = writeln!(wrong, "{place}:{}: {}", number + 1, line.trim());
        }
    }
    wrong
}

#[test]
fn no_line_of_a_doc_comment_opens_with_a_bare_clause() {
    let begins = |text: &str, word: &str| {
        let rest = text.strip_prefix(word);
        rest.is_some_and(|rest| {
            !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
        })
    };
    let wrong = wrong_lines(|line| {
        let mut docs = ["/// ", "//! "].into_iter().flat_map(|mark| line.split(mark).skip(1));
        docs.any(|text| CLAUSES.iter().any(|word| begins(text, word)))
    });
    assert!(wrong.is_empty(), "open with a noun phrase or a third-person verb:\n{wrong}");
}

#[test]
fn comments_fit_into_100_columns() {
    let wrong =
        wrong_lines(|line| line.trim_start().starts_with("//") && line.chars().count() > 100);
    assert!(wrong.is_empty(), "break these lines:\n{wrong}");
}

/// Identifiers of the glossary's columns, each looked up in the texts that it must occur in.
#[test]
fn the_glossary_names_what_is_there() {
    let root = root();
    let code = |folder: &str, ending: &str| -> String {
        files(&root.join(folder), &[ending]).iter().map(|path| code(path)).collect()
    };
    let json = |folder: &str| -> String {
        let files = files(&root.join(folder), &["json"]);
        files.iter().map(|path| fs::read_to_string(path).expect("readable")).collect()
    };
    let rust = code("host", "rs") + &code("guest-tracker", "rs");
    let texts = [code("wit", "wit"), json("openapi") + &json("docs"), rust];
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    let known = texts.map(|text| {
        text.split(|letter| !is_part(letter)).map(str::to_owned).collect::<HashSet<String>>()
    });
    let glossary = fs::read_to_string(root.join("docs/glossary.md")).expect("the glossary");
    let rows = glossary.lines().filter(|line| line.starts_with("| ")).skip(1);
    let rows: Vec<Vec<&str>> =
        rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect();
    assert!(rows.len() > 50, "the glossary is read");
    let mut wrong = Vec::new();
    for row in rows {
        assert_eq!(row.len(), 5, "{row:?}");
        for (cell, known) in row[2..].iter().zip(&known).filter(|(cell, _)| **cell != "-") {
            if !known.contains(cell.trim_matches('`')) {
                wrong.push(format!("{}: {cell}", row[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "the glossary names what is not there:\n{}", wrong.join("\n"));
}

/// Files that still import each other in a circle. The list may only shrink.
const KNOWN_CIRCLES: &[&str] = &[
    "hypervisor/cloud_hypervisor/machine.rs",
    "hypervisor/cloud_hypervisor/mod.rs",
    "hypervisor/firecracker/machine.rs",
    "hypervisor/firecracker/mod.rs",
];

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports::of(&root().join("host/src"));
    assert!(imports.len() > 100, "the sources are read");
    let circles = imports::circles(&imports);
    let files = circles
        .iter()
        .filter(|circle| !circle.iter().all(|file| KNOWN_CIRCLES.contains(&file.as_str())));
    let wrong: Vec<_> = files.map(|circle| imports::describe(circle, &imports)).collect();
    assert!(wrong.is_empty(), "these files import each other in a circle:\n{}", wrong.join("\n"));
}

/// Imports between files, read off `use` declarations and paths in the code. A re-export is not an
/// import: an item that a module passes on is looked up where it is defined.
mod imports {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::{code, sources};

    /// The files that each file imports.
    pub(super) type Imports = BTreeMap<String, BTreeSet<String>>;

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

    pub(super) fn of(host: &Path) -> Imports {
        let modules: BTreeMap<ModulePath, Module> =
            sources(host).iter().filter_map(|path| module(path, host)).collect();
        let edges = |(at, module): (&ModulePath, &Module)| {
            let passed_on = |found: &Use| found.public && absolute(at, &found.path).starts_with(at);
            let used = module
                .uses
                .iter()
                .filter(|found| !passed_on(found))
                .map(|found| found.path.clone());
            let named = paths(&without_uses(&module.text));
            let files =
                used.chain(named).filter_map(|path| home(&modules, &absolute(at, &path), 0));
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
        let text = code(path);
        let uses = declarations(&text).into_iter().flat_map(|(public, tree)| {
            let mut names = Vec::new();
            written_out(&[], &tree, &mut names);
            names.into_iter().map(move |(path, name)| Use { public, path, name })
        });
        let uses = uses.collect();
        Some((at, Module { file, text, uses }))
    }

    /// The bodies of all `use` declarations.
    fn declarations(text: &str) -> Vec<(bool, String)> {
        let starts = text.match_indices("use ").filter(|&(at, _)| {
            let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
            line.is_empty() || line.starts_with("pub")
        });
        let body = |at: usize| {
            text[at + 4..]
                .split(';')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
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
        let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
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

    /// Paths from `crate`, `super` and `self` in the code.
    fn paths(text: &str) -> Vec<Vec<String>> {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        let words = text.split(|letter| !is_part(letter));
        let begins = |word: &&str| {
            ["crate::", "super::", "self::"].iter().any(|first| word.starts_with(first))
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
    fn home(
        modules: &BTreeMap<ModulePath, Module>,
        path: &[String],
        depth: usize,
    ) -> Option<String> {
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
    pub(super) fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
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
        let (mut reached, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
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
    pub(super) fn describe(circle: &BTreeSet<String>, imports: &Imports) -> String {
        let arrows = circle.iter().flat_map(|from| {
            let inside = imports[from].iter().filter(|to| circle.contains(*to));
            inside.map(move |to| format!("  {from} -> {to}"))
        });
        arrows.collect::<Vec<_>>().join("\n")
    }
}
