//! Checks of the OpenAPI document against the program.

use serde_json::Value;

use super::access::DECISIONS;
use super::{OPEN_PATHS, openapi_text};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi/tallyman-0.1.0.json");

fn document() -> Value {
    serde_json::from_str(openapi_text()).expect("JSON")
}

/// Every operation: path, method and description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("methods").clone();
        methods
            .into_iter()
            .map(|(method, operation)| (path.clone(), method, operation))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == openapi_text(),
        "the committed document is not what the program serves; \
         `tallyman openapi > openapi/tallyman-0.1.0.json` writes it anew"
    );
}

#[test]
fn the_document_is_openapi_3_1() {
    assert!(document()["openapi"].as_str().expect("a version").starts_with("3.1"));
}

#[test]
fn every_operation_needs_the_token_except_the_listed_ones() {
    let document = document();
    let open: Vec<_> = operations(&document)
        .into_iter()
        .filter(|(_, _, operation)| operation["security"] != serde_json::json!([{ "bearer": [] }]))
        .map(|(path, _, _)| path)
        .collect();
    let mut listed = OPEN_PATHS.map(str::to_owned).to_vec();
    listed.sort();
    let mut found = open;
    found.sort();
    assert_eq!(found, listed);
}

#[test]
fn every_guarded_route_has_one_decision_and_every_decision_has_a_route() {
    let document = document();
    let guarded = operations(&document)
        .into_iter()
        .filter(|(path, _, _)| !OPEN_PATHS.contains(&path.as_str()));
    let mut routes: Vec<_> =
        guarded.map(|(path, method, _)| (method.to_uppercase(), path)).collect();
    let mut decided: Vec<_> =
        DECISIONS.iter().map(|(method, path, _)| (method.to_string(), path.to_string())).collect();
    routes.sort();
    decided.sort();
    assert_eq!(decided, routes);
}

#[test]
fn every_operation_has_an_id_of_its_own_a_summary_and_described_parameters() {
    let document = document();
    let mut ids = Vec::new();
    for (path, method, operation) in operations(&document) {
        let place = format!("{method} {path}");
        ids.push(operation["operationId"].as_str().expect(&place).to_owned());
        assert!(
            operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()),
            "{place}"
        );
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let shared = parameter["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
            let parameter = shared.map_or(parameter, |place| document.pointer(place).expect(place));
            assert!(
                parameter["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{place}: {parameter}"
            );
        }
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{}", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}
