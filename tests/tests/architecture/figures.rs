//! Counts of what makes code hard to read. `cargo test --workspace --test architecture figures --
//! --nocapture` prints them.

use std::fs;
use std::path::Path;

use super::{imports, root, sources};

/// Most lines of a function that is read at a glance.
const FUNCTION_LINES: usize = 40;

/// Counts over the Rust files of the repository.
#[derive(Debug, Default)]
struct Figures {
    files: usize,
    lines: usize,
    longest: (usize, String),
    over_100_columns: usize,
    packed_lets: usize,
    functions: usize,
    long_functions: Vec<String>,
}

impl Figures {
    fn add(&mut self, place: &str, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        self.files += 1;
        self.lines += lines.len();
        if lines.len() > self.longest.0 {
            self.longest = (lines.len(), place.to_owned());
        }
        self.over_100_columns += lines.iter().filter(|line| line.chars().count() > 100).count();
        self.packed_lets += lines.iter().filter(|line| is_packed(line)).count();
        for (number, length) in functions(&lines) {
            self.functions += 1;
            if length > FUNCTION_LINES {
                self.long_functions.push(format!("{place}:{number} ({length} lines)"));
            }
        }
    }
}

/// Returns whether the line gives several names at once to unrelated values.
fn is_packed(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("let (") && line.contains(") = (") && line.ends_with(");")
}

/// Line and length of every function of formatted code that has a body.
fn functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
        let rest = &lines[number..];
        let has_body = rest.iter().find(|line| line.ends_with(['{', '}', ';']));
        if !has_body.is_some_and(|line| line.ends_with('{')) {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        if let Some(length) = rest.iter().position(|line| **line == end) {
            found.push((number + 1, length + 1));
        }
    }
    found
}

/// Returns whether a function begins on the line.
fn is_function(line: &str) -> bool {
    let mut words = line.trim_start().split(' ').skip_while(|word| {
        word.starts_with("pub") || ["const", "async", "unsafe", "in"].contains(word)
    });
    words.next() == Some("fn")
}

fn figures(folders: &[&str]) -> Figures {
    let root = root();
    let mut figures = Figures::default();
    for path in folders.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = fs::read_to_string(&path).expect("readable");
        let place = path.strip_prefix(&root).expect("inside").display().to_string();
        figures.add(&place, &text);
    }
    figures
}

/// Arrows of imports that lie in a circle of files.
fn circles(host: &Path) -> usize {
    imports::circles(&imports::of(host)).len()
}

#[test]
fn figures_do_not_grow() {
    let program = figures(&["host", "guest-tracker"]);
    let tests = figures(&["tests"]);
    for (name, figures) in [("program", &program), ("tests", &tests)] {
        println!("{name}:");
        println!("  {:>6} files, {} lines", figures.files, figures.lines);
        println!("  {:>6} lines in the longest file, {}", figures.longest.0, figures.longest.1);
        println!("  {:>6} lines over 100 columns", figures.over_100_columns);
        println!("  {:>6} lets with tuples on both sides", figures.packed_lets);
        println!(
            "  {:>6} of {} functions over {FUNCTION_LINES} lines:\n    {}",
            figures.long_functions.len(),
            figures.functions,
            figures.long_functions.join("\n    ")
        );
    }
    let circles = circles(&root().join("host/src"));
    println!("circles of files: {circles}");
    assert!(program.files > 300 && program.functions > 2_000, "the sources are read");
    // Bounds are today's counts. They are lowered, never raised.
    assert_eq!(circles, 0, "no files import each other in a circle");
    assert!(program.longest.0 <= 1_108, "{:?}", program.longest);
    assert!(tests.longest.0 <= 1_519, "{:?}", tests.longest);
    for (figures, long_functions, wide_lines) in [(&program, 84, 92), (&tests, 87, 15)] {
        assert_eq!(figures.packed_lets, 0, "give each name a line of its own");
        assert!(figures.long_functions.len() <= long_functions, "{:?}", figures.long_functions);
        assert!(figures.over_100_columns <= wide_lines, "{}", figures.over_100_columns);
    }
}
