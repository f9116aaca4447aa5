//! The page of errors has each code that the API answers, with its status and when to ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use super::{code, root, sources};

/// A code and its status.
type Answer = (String, u16);

/// The texts of the column `again`: `no`, or the time after which a request may be repeated.
type Again = BTreeSet<String>;

/// Functions of `api/error.rs` that make an answer of a code, each with its status, and with the
/// time to wait where it sets one.
const MAKERS: [(&str, u16, Option<&str>); 5] = [
    ("::conflict", 409, None),
    ("::not_found", 404, None),
    ("::away", 503, Some("60")),
    (" refused", 400, None),
    (" too_fast", 429, Some("error.retry_after_s")),
];

const STATUSES: [(&str, u16); 19] = [
    ("BAD_REQUEST", 400),
    ("UNAUTHORIZED", 401),
    ("FORBIDDEN", 403),
    ("NOT_FOUND", 404),
    ("METHOD_NOT_ALLOWED", 405),
    ("REQUEST_TIMEOUT", 408),
    ("CONFLICT", 409),
    ("PAYLOAD_TOO_LARGE", 413),
    ("UNSUPPORTED_MEDIA_TYPE", 415),
    ("UNPROCESSABLE_ENTITY", 422),
    ("UPGRADE_REQUIRED", 426),
    ("TOO_MANY_REQUESTS", 429),
    ("INTERNAL_SERVER_ERROR", 500),
    ("NOT_IMPLEMENTED", 501),
    ("BAD_GATEWAY", 502),
    ("SERVICE_UNAVAILABLE", 503),
    ("GATEWAY_TIMEOUT", 504),
    ("INSUFFICIENT_STORAGE", 507),
    ("GONE", 410),
];

/// The length of a parenthesised text, which begins with `(`; parentheses in strings don't count.
fn parenthesised(text: &str) -> usize {
    let mut depth = 0;
    let mut is_string = false;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '"' => is_string = !is_string,
            '(' if !is_string => depth += 1,
            ')' if !is_string && depth == 1 => return at + 1,
            ')' if !is_string => depth -= 1,
            _ => {}
        }
    }
    panic!("not closed: {}", &text[..text.len().min(80)]);
}

/// The argument of `.retry_after(...)` among the methods that are called on a value; `after` is the
/// text behind it.
fn waits(mut after: &str) -> Option<&str> {
    while let Some(method) = after.trim_start().strip_prefix('.') {
        let (name, _) = method.split_once('(')?;
        let arguments = &method[name.len()..];
        let end = parenthesised(arguments);
        if name == "retry_after" {
            return Some(&arguments[1..end - 1]);
        }
        after = &arguments[end..];
    }
    None
}

/// The text of the column `again`.
fn again(seconds: Option<&str>) -> String {
    let Some(seconds) = seconds else { return "no".into() };
    match seconds.parse::<u32>() {
        Ok(seconds) => format!("after {seconds} s"),
        Err(_) => "after `Retry-After`".into(),
    }
}

/// A literal at the beginning of a text; none if it begins with something else.
fn literal(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split_once('"').map(|(literal, _)| literal)
}

fn add(answers: &mut BTreeMap<Answer, Again>, code: &str, status: u16, wait: Option<&str>) {
    answers.entry((code.to_owned(), status)).or_default().insert(again(wait));
}

/// Adds the answers that are made in a source text, and returns the number of those whose code is a
/// variable.
fn read(text: &str, answers: &mut BTreeMap<Answer, Again>) -> usize {
    let mut variables = 0;
    for (at, _) in text.match_indices("::new(") {
        let call = &text[at + "::new".len()..];
        let Some(rest) = call[1..].trim_start().strip_prefix("StatusCode::") else { continue };
        let (name, rest) = rest.split_once(',').expect("a code");
        let status = STATUSES.iter().find(|(known, _)| *known == name);
        let (_, status) = status.unwrap_or_else(|| panic!("the status {name} is not in the list"));
        let Some(code) = literal(rest) else {
            variables += 1;
            continue;
        };
        add(answers, code, *status, waits(&call[parenthesised(call)..]));
    }
    for (maker, status, wait) in MAKERS {
        for (at, _) in text.match_indices(&format!("{maker}(")) {
            let call = &text[at + maker.len()..];
            let Some(code) = literal(&call[1..]) else { continue };
            let wait = wait.or_else(|| waits(&call[parenthesised(call)..]));
            add(answers, code, status, wait);
        }
    }
    variables
}

/// The rows of the page: code, status and the column `again`.
fn page() -> BTreeMap<Answer, String> {
    let page = fs::read_to_string(root().join("docs/http-errors.md")).unwrap_or_default();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let row = |row: &str| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(cells[3].len() > 10, "what to do: {row}");
        let status = cells[1].parse().expect("a status");
        ((cells[0].trim_matches('`').to_owned(), status), cells[2].to_owned())
    };
    rows.map(row).collect()
}

#[test]
fn the_page_of_errors_has_each_code_with_its_status_and_when_to_ask_again() {
    let mut answers = BTreeMap::new();
    let files = sources(&root().join("host/src/api"));
    let variables: usize = files.iter().map(|path| read(&code(path), &mut answers)).sum();
    assert_eq!(variables, MAKERS.len(), "a code that is a variable belongs to a maker");
    assert!(answers.len() > 100, "the codes are found: {}", answers.len());
    let there = page();
    let mut wrong = String::new();
    for ((code, status), again) in &answers {
        let again = Vec::from_iter(again.iter().map(String::as_str)).join(" or ");
        if there.get(&(code.clone(), *status)) != Some(&again) {
            let _ = writeln!(wrong, "the code has:  | `{code}` | {status} | {again} |");
        }
    }
    for ((code, status), again) in there.iter().filter(|(row, _)| !answers.contains_key(row)) {
        let _ = writeln!(wrong, "the code has no `{code}` | {status} | {again}");
    }
    assert!(wrong.is_empty(), "docs/http-errors.md is not what host/src/api does:\n{wrong}");
}

#[test]
fn a_code_is_read_with_its_status_and_its_wait() {
    let text = r#"
        Self::new(StatusCode::BAD_GATEWAY, "away (1)", f(")")).hint(g()).retry_after(5);
        ApiError::conflict("two", message)
            .hint("x");
        refused("three")
        Self::new(StatusCode::CONFLICT, code, message)
    "#;
    let mut answers = BTreeMap::new();
    assert_eq!(read(text, &mut answers), 1);
    let found: Vec<_> = answers.into_iter().collect();
    let one = |code: &str, status, again: &str| {
        ((code.to_owned(), status), BTreeSet::from([again.to_owned()]))
    };
    let expected =
        [one("away (1)", 502, "after 5 s"), one("three", 400, "no"), one("two", 409, "no")];
    assert_eq!(found, expected);
}
