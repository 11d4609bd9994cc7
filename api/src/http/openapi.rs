//! The OpenAPI document: written by hand beside this file, because it says what types cannot.

use serde_json::Value;

/// The document, with this build's version.
pub fn document() -> Value {
    let mut document: Value =
        serde_json::from_str(include_str!("openapi.json")).expect("a test parses the document in the source tree");
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document
}

/// The value `$ref` points to, or `value` itself if it is no reference.
pub fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::routes;

    fn references(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("$ref") {
                    found.push(value.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(entries) => entries.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn it_lists_every_route_and_no_other() {
        let document = document();
        let mut listed: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        let mut served: Vec<_> = routes().into_iter().map(|(path, _)| path.to_owned()).collect();
        listed.sort();
        served.sort();
        assert_eq!(listed, served);
    }

    #[test]
    fn every_reference_points_to_something() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            assert_ne!(resolved(&document, &reference), &reference, "{reference}");
        }
    }

    #[test]
    fn every_operation_is_explained_and_every_path_parameter_declared() {
        let document = document();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                for member in ["summary", "description", "operationId"] {
                    assert!(operation[member].is_string(), "{method} {path} lacks {member}");
                }
                assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
                let declared: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
                for segment in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                    let name = segment.trim_end_matches('}');
                    assert!(declared.iter().any(|parameter| resolved(&document, parameter)["name"] == name), "{path}");
                }
            }
        }
    }
}
