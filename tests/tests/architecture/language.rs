//! The language of comments and of the glossary.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::{code, files, root};

/// Words that begin a bare clause: a doc comment opens with a noun phrase or a verb instead.
const CLAUSES: [&str; 16] = [
    "What", "Who", "Whom", "Whose", "Whether", "Those", "So many", "Whoever", "Whatever", "How",
    "Why", "When", "Where", "Which", "If", "That",
];

/// Every line of the Rust and WIT files of the repository that satisfies `is_wrong`, as
/// `file:line: text`.
fn wrong_lines(is_wrong: impl Fn(&str) -> bool) -> String {
    wrong_lines_of(files(&root(), &["rs", "wit"]), is_wrong)
}

fn wrong_lines_of(files: Vec<PathBuf>, is_wrong: impl Fn(&str) -> bool) -> String {
    let root = root();
    let mut wrong = String::new();
    for path in files {
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

/// The formatter leaves the lines of templates as they are.
#[test]
fn the_dashboard_s_lines_fit_into_100_columns() {
    let endings = ["js", "mjs", "css", "html"];
    let mut own = files(&root().join("host/dashboard"), &endings);
    own.retain(|path| !path.components().any(|part| part.as_os_str() == "vendor"));
    own.push(root().join("tests/dashboard/check.mjs"));
    assert!(own.len() > 10, "the files are found");
    let wrong = wrong_lines_of(own, |line| line.chars().count() > 100);
    assert!(wrong.is_empty(), "break these lines:\n{wrong}");
}

/// Returns whether a line of a page or script may be longer: a table, or a line with an address.
fn can_be_long(line: &str) -> bool {
    line.starts_with('|') || line.contains("://")
}

/// The lines of a page but those of blocks that no shell reads: pictures, outputs, documents.
fn broken_by_hand(page: &str) -> String {
    let mut language = None;
    let mut kept = String::new();
    // A heading has one line.
    for line in page.lines().filter(|line| !line.starts_with("##")) {
        match (line.strip_prefix("```"), language) {
            (Some(begins), None) => language = Some(begins),
            (Some(_), Some(_)) => language = None,
            (None, None | Some("sh")) => {
                kept += line;
                kept.push('\n');
            }
            (None, Some(_)) => {}
        }
    }
    kept
}

#[test]
fn pages_and_scripts_fit_into_100_columns() {
    let root = root();
    let mut paths = files(&root, &["md"]);
    paths.retain(|path| {
        !path
            .components()
            .any(|part| ["vendor", "node_modules"].iter().any(|no| part.as_os_str() == *no))
    });
    for script in ["setup", "test", "package", "fleet", "interpreted"] {
        paths.push(root.join("scripts").join(script));
    }
    paths.extend([root.join("Makefile"), root.join(".ci/run"), root.join(".editorconfig")]);
    assert!(paths.len() > 30, "the files are found");
    let mut wrong = String::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("readable");
        let is_page = path.extension().is_some_and(|ending| ending == "md");
        let text = if is_page { broken_by_hand(&text) } else { text };
        let long = text.lines().filter(|line| line.chars().count() > 100 && !can_be_long(line));
        for line in long {
            let _ =
                writeln!(wrong, "{}: {line}", path.strip_prefix(&root).expect("inside").display());
        }
    }
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
