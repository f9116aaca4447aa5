//! Circles of imports between files.

use super::{imports, root};

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports::of(&root().join("host/src"));
    assert!(imports.len() > 100, "the sources are read");
    let circles = imports::circles(&imports);
    let wrong: Vec<_> = circles.iter().map(|circle| imports::describe(circle, &imports)).collect();
    assert!(wrong.is_empty(), "these files import each other in a circle:\n{}", wrong.join("\n"));
}
