//! The licences of all dependencies are ones that `deny.toml` allows, and all come from a registry.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        // As in `deny.toml`: what other systems need is never built.
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    answer["packages"].as_array().expect("packages").clone()
}

/// The quoted texts between `allow = [` and `]`.
fn allowed() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    let text = fs::read_to_string(path).expect("deny.toml");
    let (_, list) = text.split_once("allow = [").expect("a list of licences");
    let (list, _) = list.split_once(']').expect("its end");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// True if some choice that an SPDX expression leaves is made of allowed licences alone. `/` is the
/// old way to write `OR`. Parentheses are taken to bind `AND` around a choice.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ").replace('+', "");
    let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = expression.split(" AND ");
    all.map(|part| part.trim_matches(['(', ')'])).all(|part| {
        part.split(" OR ").any(|licence| allowed.contains(licence.trim_matches(['(', ')', ' '])))
    })
}

#[test]
fn every_licence_is_allowed() {
    let allowed = allowed();
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| {
            !package["license"].as_str().is_some_and(|licence| is_allowed(licence, &allowed))
        })
        .map(|package| {
            format!("{} {}: {}", package["name"], package["version"], package["license"])
        })
        .collect();
    assert!(refused.is_empty(), "not in deny.toml: {refused:#?}");
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let packages = packages();
    let others = packages.iter().filter(|package| {
        let source = &package["source"];
        !source.is_null() && !source.as_str().is_some_and(|from| from.starts_with("registry+"))
    });
    let others: Vec<String> = others.map(|package| package["id"].to_string()).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn an_expression_needs_one_allowed_choice_for_each_part() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for good in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "(MIT OR X) AND ISC"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "", "MITX"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
