//! The rules of the program's structure and documentation, read off its own source text.

mod bounds;
mod circles;
mod errors;
mod figures;
mod imports;
mod language;
mod layers;
mod licences;

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
        let path = entry.path();
        let name = entry.file_name();
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

/// The code of a file: comments, and items that only tests have, left out.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let lines = without_tests(&text);
    lines
        .into_iter()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The lines of a formatted text without the items that `#[cfg(test)]` is on. Such an item ends on
/// its first line, or with the first line that is as far to the left again.
fn without_tests(text: &str) -> Vec<&str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        let mut item = lines.by_ref().skip_while(|line| line.trim_start().starts_with(['#', '/']));
        let first = item.next().unwrap_or_default();
        if !first.ends_with([';', '}', ',']) {
            item.find(|next| !next.is_empty() && indent(next) <= indent(line) && ends(next));
        }
    }
    kept
}

fn ends(line: &str) -> bool {
    line.trim_start().starts_with('}') || line.ends_with(';')
}

#[test]
fn code_goes_on_behind_an_item_of_tests() {
    let text = "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\n#[path]\npub(crate) fn f(\n    x: u8,\n) \
        {\n    {\n    }\n}\nc\nmod inner {\n    #[cfg(test)]\n    mod tests {\n        d\n    }\n    e\n}";
    assert_eq!(without_tests(text), ["a", "b", "c", "mod inner {", "    e", "}"]);
}
