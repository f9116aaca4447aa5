//! The page of all bounds is made from `limits.rs`, and names tests that exist.

use std::fmt::Write as _;
use std::fs;

use super::{files, root};

/// The mark in the page after which everything is made from the source.
const MARK: &str = "<!-- From here on made from host/src/limits.rs -->\n";

/// A module of bounds, or one bound.
struct Item {
    /// Modules from the outermost on; with the constant's name at the end.
    path: Vec<String>,
    /// Text of the doc comment, on one line.
    doc: String,
    /// Source of the value; none for a module.
    value: Option<String>,
}

fn items(source: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut modules: Vec<String> = Vec::new();
    let mut doc = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("/// ") {
            doc.push(text);
        } else if let Some(rest) = line.strip_prefix("pub mod ") {
            modules.push(rest.trim_end_matches(" {").to_owned());
            items.push(Item { path: modules.clone(), doc: doc.join(" "), value: None });
            doc.clear();
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, _) = rest.split_once(':').expect("a type");
            let mut whole = rest.to_owned();
            while !whole.ends_with(';') {
                whole += lines.next().expect("an end").trim();
            }
            let (_, value) = whole.split_once(" = ").expect("a value");
            let path = modules.iter().cloned().chain([name.to_owned()]).collect();
            let value = Some(value.trim_end_matches(';').to_owned());
            items.push(Item { path, doc: doc.join(" "), value });
            doc.clear();
        } else if line == "}" {
            modules.pop();
        }
    }
    items
}

/// The value of a product or a shift of whole numbers; none for another expression.
fn number(expression: &str) -> Option<u128> {
    if let Some((left, right)) = expression.split_once(" << ") {
        return number(left)?.checked_shl(u32::try_from(number(right)?).ok()?);
    }
    let factor = |text: &str| text.trim().replace('_', "").parse::<u128>().ok();
    expression.split(" * ").map(factor).product()
}

/// A number with the largest unit of those that divides it.
fn in_units(number: u128, units: &[(&str, u128)]) -> String {
    let unit = units.iter().find(|(_, size)| number >= *size && number.is_multiple_of(*size));
    let (name, size) = unit.copied().unwrap_or(("", 1));
    let digits = (number / size).to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped}{}{name}", if name.is_empty() { "" } else { " " })
}

fn value(name: &str, expression: &str) -> String {
    let Some(number) = number(expression) else { return format!("`{expression}`") };
    let is = |unit: &str| name.split('_').any(|word| word == unit);
    const SECOND: u128 = 1_000_000_000;
    let times = [("days", 86_400 * SECOND), ("h", 3_600 * SECOND), ("min", 60 * SECOND)];
    let small = [("s", SECOND), ("ms", 1_000_000), ("ns", 1)];
    let times = [&times[..], &small[..]].concat();
    let bytes = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let is_time = !name.contains("_PER_");
    match () {
        () if is("NS") && is_time => in_units(number, &times),
        () if is("MS") && is_time => in_units(number * 1_000_000, &times),
        () if is("S") && is_time => in_units(number * SECOND, &times),
        () if is("KIB") => in_units(number << 10, &bytes),
        () if is("BYTES") => in_units(number, &[&bytes[..], &[("bytes", 1)]].concat()),
        () => in_units(number, &[]),
    }
}

/// Words in lines of at most 100 columns, each with an end.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 100 {
            lines += &line;
            lines.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &line + "\n"
}

/// The part of the page that is made.
fn made(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items {
        // A reference to another item says nothing outside of the source.
        let doc = item.doc.replace(['[', ']'], "");
        match &item.value {
            None => {
                let doc = wrapped(&doc);
                let _ = write!(text, "\n## `{}`\n\n{doc}\n", item.path.join("::"));
                text += "| bound | value | meaning |\n|---|---|---|\n";
            }
            Some(expression) => {
                let name = item.path.last().expect("a name");
                let value = value(name, expression);
                let _ = writeln!(text, "| `{name}` | {value} | {doc} |");
            }
        }
    }
    text
}

#[test]
fn the_page_of_bounds_has_every_bound_with_its_value() {
    let source = fs::read_to_string(root().join("host/src/limits.rs")).expect("the bounds");
    let items = items(&source);
    assert!(items.len() > 200, "the bounds are read");
    let undocumented: Vec<_> = items.iter().filter(|item| item.doc.is_empty()).collect();
    assert!(undocumented.is_empty(), "{:?}", undocumented[0].path);
    let page = fs::read_to_string(root().join("docs/bounds.md")).unwrap_or_default();
    let (told, there) = page.split_once(MARK).unwrap_or((&page, ""));
    let made = made(&items);
    if there != made {
        let right = root().join("target/bounds.md");
        fs::write(right, format!("{told}{MARK}{made}")).expect("written");
        panic!("docs/bounds.md is not what limits.rs says: cp target/bounds.md docs/bounds.md");
    }
}

/// Pages with a table whose last column names tests, and the number of rows that each has at least.
const TRIED: [(&str, usize); 3] =
    [("docs/bounds.md", 8), ("docs/lifecycle.md", 12), ("ARCHITECTURE.md", 12)];

#[test]
fn pages_name_tests_that_exist() {
    let mut sources = String::new();
    for path in files(&root(), &["rs"]) {
        sources += &fs::read_to_string(path).expect("readable");
    }
    for (page, least) in TRIED {
        let text = fs::read_to_string(root().join(page)).expect("the page");
        let told = text.split("<!-- From here on made").next().expect("a beginning");
        let rows = told.lines().filter(|line| line.starts_with("| "));
        let cells = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
        let tests: Vec<_> = cells.filter(|cell| cell.starts_with('`')).collect();
        assert!(tests.len() > least, "{page}: {} rows", tests.len());
        for test in tests {
            let test = test.trim_matches('`');
            assert!(sources.contains(&format!("fn {test}(")), "{page}: no test is named {test}");
        }
    }
}

#[test]
fn values_have_units_that_people_read() {
    let rows = [
        ("KEPT_BYTES_MAX", "4 << 30", "4 GiB"),
        ("WORD_BYTES_MAX", "128", "128 bytes"),
        ("CACHE_KIB", "2_048", "2 MiB"),
        ("DRAIN_MS", "5_000", "5 s"),
        ("GOODBYE_MS_MAX", "250", "250 ms"),
        ("LIFETIME_S_MAX", "366 * 86_400", "366 days"),
        ("GRACE_NS", "60_000_000_000", "1 min"),
        ("FUEL_PER_MINUTE_MAX", "6_000_000_000", "6,000,000,000"),
        ("REQUESTS_PER_S_MAX", "100", "100"),
        ("X_MAX", "OTHER / 2", "`OTHER / 2`"),
    ];
    for (name, expression, expected) in rows {
        assert_eq!(value(name, expression), expected, "{name}");
    }
}
