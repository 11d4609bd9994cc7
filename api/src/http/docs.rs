//! The OpenAPI document as a page to read: HTML and CSS in one response, nothing loaded, no script.

use std::fmt::Write;

use serde_json::Value;

use super::openapi::resolved;

/// Renders `document`.
pub fn page(document: &Value) -> String {
    let info = &document["info"];
    let mut nav = String::new();
    let mut main = String::new();
    for tag in list(&document["tags"]) {
        let name = text(&tag["name"]);
        let _ = write!(nav, "<h2>{}</h2><ul>", escaped(name));
        let _ = write!(main, "<h2>{}</h2><p class=\"soft\">{}</p>", escaped(name), prose(text(&tag["description"])));
        for (path, method, operation) in operations(document).filter(|(_, _, operation)| operation["tags"][0] == name) {
            let anchor = text(&operation["operationId"]);
            let path = escaped(path);
            let _ = write!(nav, "<li><a href=\"#{anchor}\">{}<span>{path}</span></a></li>", badge(method));
            main += &article(document, anchor, &path, method, operation);
        }
        nav += "</ul>";
    }
    let schemas = document["components"]["schemas"].as_object();
    nav += "<h2>Shapes</h2><ul>";
    main += "<h2>Shapes</h2><p class=\"soft\">The members of the JSON above.</p>";
    for (name, schema) in schemas.into_iter().flatten() {
        let _ = write!(nav, "<li><a href=\"#shape-{name}\">{name}</a></li>");
        let _ = write!(main, "<article id=\"shape-{name}\"><h3>{name}</h3>{}</article>", members(schema));
    }
    nav += "</ul>";
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}: HTTP interface</title><style>{css}</style></head><body><div class=\"frame\">\
         <nav><strong>{title}</strong>{nav}</nav><main>\
         <h1>{title} <span class=\"version\">{version}</span></h1><p class=\"soft\">{summary}</p><p>{description}</p>\
         <p>The same for machines: <a href=\"openapi.json\">openapi.json</a></p>{main}</main></div></body></html>\n",
        title = escaped(text(&info["title"])),
        version = escaped(text(&info["version"])),
        summary = escaped(text(&info["summary"])),
        description = prose(text(&info["description"])),
        css = include_str!("docs.css"),
    )
}

/// Every operation: path, method, itself.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().into_iter().flatten().flat_map(|(path, methods)| {
        methods
            .as_object()
            .into_iter()
            .flatten()
            .map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn article(document: &Value, anchor: &str, path: &str, method: &str, operation: &Value) -> String {
    let mut out = format!(
        "<article id=\"{anchor}\"><h3>{}<code>{path}</code></h3><p><strong>{}</strong></p><p>{}</p>",
        badge(method),
        escaped(text(&operation["summary"])),
        prose(text(&operation["description"])),
    );
    let parameters = list(&operation["parameters"]);
    if !parameters.is_empty() {
        out += "<h4>Parameters</h4><table><tr><th>name</th><th>in</th><th>meaning</th></tr>";
        for parameter in parameters.iter().map(|parameter| resolved(document, parameter)) {
            let _ = write!(
                out,
                "<tr><td><code>{}</code>{}</td><td>{}</td><td>{}{}</td></tr>",
                escaped(text(&parameter["name"])),
                required(parameter["required"] == true),
                escaped(text(&parameter["in"])),
                prose(text(&parameter["description"])),
                bounds(&parameter["schema"]),
            );
        }
        out += "</table>";
    }
    for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let _ =
            write!(out, "<h4>Body</h4><p><code>{}</code>, a {}</p>", escaped(media_type), shapes(&content["schema"]));
        out += &example(&content["example"]);
    }
    out += "<h4>Answers</h4><table class=\"answers\">";
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let response = resolved(document, response);
        let class = status.get(..1).unwrap_or_default();
        let _ = write!(
            out,
            "<tr><td><span class=\"status s{class}\">{}</span></td><td>{}",
            escaped(status),
            prose(text(&response["description"])),
        );
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let _ =
                write!(out, "<p>Header <code>{}</code>: {}</p>", escaped(name), prose(text(&header["description"])));
        }
        for (media_type, content) in response["content"].as_object().into_iter().flatten() {
            let shape = shapes(&content["schema"]);
            let shape = if shape.is_empty() { shape } else { format!(", {shape}") };
            let _ = write!(out, "<p class=\"soft\">{}{shape}</p>", escaped(media_type));
            out += &example(&content["example"]);
        }
        out += "</td></tr>";
    }
    out + "</table></article>"
}

/// A schema's members as a table.
fn members(schema: &Value) -> String {
    let mut out = "<table><tr><th>member</th><th>type</th><th>meaning</th></tr>".to_owned();
    let is_required = |name: &str| list(&schema["required"]).iter().any(|required| required == name);
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let _ = write!(
            out,
            "<tr><td><code>{}</code>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            required(is_required(name)),
            escaped(&type_name(member)),
            prose(text(&member["description"])),
        );
    }
    out + "</table>"
}

/// Links to the shapes a schema refers to.
fn shapes(schema: &Value) -> String {
    let alternatives = list(&schema["oneOf"]);
    let one = std::slice::from_ref(schema);
    let links: Vec<_> = if alternatives.is_empty() { one } else { alternatives }
        .iter()
        .filter_map(|schema| text(&schema["$ref"]).rsplit('/').next().filter(|name| !name.is_empty()))
        .map(|name| format!("<a href=\"#shape-{name}\">{name}</a>"))
        .collect();
    links.join(" or ")
}

fn type_name(schema: &Value) -> String {
    match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => "any".to_owned(),
    }
}

/// What a parameter's schema allows, as words.
fn bounds(schema: &Value) -> String {
    let mut words = Vec::new();
    let allowed: Vec<_> = list(&schema["enum"]).iter().map(text).collect();
    if !allowed.is_empty() {
        words.push(format!("one of {}", allowed.join(", ")));
    }
    for (name, word) in [("maximum", "at most"), ("maxLength", "at most"), ("default", "default")] {
        if let Some(bound) = schema.get(name) {
            let unit = if name == "maxLength" { " characters" } else { "" };
            words.push(format!("{word} {}{unit}", bound.as_str().map_or_else(|| bound.to_string(), str::to_owned)));
        }
    }
    if words.is_empty() {
        String::new()
    } else {
        format!(" <span class=\"soft\">({})</span>", escaped(&words.join("; ")))
    }
}

fn example(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => format!("<pre>{}</pre>", escaped(text)),
        value => format!("<pre>{}</pre>", escaped(&value.to_string())),
    }
}

fn badge(method: &str) -> String {
    format!("<span class=\"method {method}\">{}</span>", method.to_uppercase())
}

fn required(is: bool) -> &'static str {
    if is { "<span class=\"required\">required</span>" } else { "" }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Escaped text in which `` `words` `` are code.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        let _ = if index % 2 == 1 {
            write!(out, "<code>{}</code>", escaped(part))
        } else {
            write!(out, "{}", escaped(part))
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{openapi, routes};

    #[test]
    fn the_page_shows_every_route_parameter_status_and_shape() {
        let document = openapi::document();
        let page = page(&document);
        for (path, _) in routes() {
            assert!(page.contains(&format!("<code>{}</code></h3>", escaped(path))), "{path}");
        }
        for (path, _, operation) in operations(&document) {
            for parameter in list(&operation["parameters"]) {
                let name = text(&resolved(&document, parameter)["name"]);
                assert!(page.contains(&format!("<code>{name}</code>")), "{path} {name}");
            }
            for status in operation["responses"].as_object().unwrap().keys() {
                assert!(page.contains(&format!(">{status}</span>")), "{path} {status}");
            }
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("id=\"shape-{name}\"")), "{name}");
        }
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let page = page(&openapi::document());
        for forbidden in ["<script", "<link", "<img", "@import", "url(", "http://", "https://", "onclick"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn text_is_escaped_and_backquotes_are_code() {
        assert_eq!(prose("a <b> `c & d` e"), "a &lt;b&gt; <code>c &amp; d</code> e");
    }
}
