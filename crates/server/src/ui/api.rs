//! The page about our own API, made of its document.

#[cfg(test)]
mod tests;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value};

use super::frame::{Frame, Refusal, page};
use super::visitor::Visitor;
use crate::http::openapi;
use crate::ops::Ops;

const HERE: &str = "/api";
/// How deep the members of a body are shown.
const DEPTH_MAX: usize = 4;

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/api", get(show))
}

#[derive(Template)]
#[template(path = "pages/api.html")]
struct ApiPage {
    frame: Frame,
    base: String,
    tags: Vec<Tag>,
}

struct Tag {
    name: String,
    about: Prose,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    about: Prose,
    fields: Vec<Field>,
    answers: Vec<Answer>,
    curl: String,
}

/// A parameter, or a member of the body.
struct Field {
    name: String,
    place: &'static str,
    kind: String,
    required: bool,
    about: Prose,
}

struct Answer {
    status: String,
    about: Prose,
    members: String,
}

/// Text in which every other piece is code.
type Prose = Vec<(bool, String)>;

/// Whoever is signed in sees it in their frame, everybody else without.
async fn show(State(ops): State<Ops>, visitor: Result<Visitor, Refusal>) -> Response {
    let frame = match &visitor {
        Ok(visitor) => Frame::new(&ops, visitor, HERE),
        Err(_) => Frame::bare(&ops),
    };
    let document = Document(openapi(&ops));
    page(&ApiPage { frame, base: ops.public_url().to_owned(), tags: document.tags(ops.public_url()) })
}

struct Document(Value);

impl Document {
    fn tags(&self, base: &str) -> Vec<Tag> {
        let tags = self.0.get("tags").and_then(Value::as_array).into_iter().flatten();
        tags.map(|tag| {
            let name = text(tag, "name");
            let of_tag =
                |operation: &Value| operation.pointer("/tags/0").and_then(Value::as_str).is_some_and(|tag| tag == name);
            let paths = members(&self.0, "paths");
            let all = paths.flat_map(|(path, methods)| {
                methods.as_object().into_iter().flatten().map(move |(method, operation)| (path, method, operation))
            });
            let of_this = all.filter(|(_, _, operation)| of_tag(operation));
            let operations = of_this.map(|(path, method, one)| self.operation(base, path, method, one)).collect();
            Tag { about: prose(&text(tag, "description")), operations, name }
        })
        .collect()
    }

    fn operation(&self, base: &str, path: &str, method: &str, operation: &Value) -> Operation {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        let mut fields: Vec<Field> = parameters.into_iter().flatten().map(|one| self.parameter(one)).collect();
        let body = operation.pointer("/requestBody/content/application~1json/schema").map(|schema| self.at(schema));
        if let Some(body) = body {
            let required = |name: &str| {
                body.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == name))
            };
            fields.extend(members(body, "properties").map(|(name, schema)| Field {
                name: name.clone(),
                place: "body",
                kind: self.kind(schema),
                required: required(name),
                about: prose(&text(schema, "description")),
            }));
        }
        let answers = members(operation, "responses").map(|(status, answer)| {
            let answer = self.at(answer);
            let schema = answer.pointer("/content/application~1json/schema");
            let members = schema.map(|schema| pretty(&self.sample(schema, false, DEPTH_MAX))).unwrap_or_default();
            Answer { status: status.clone(), about: prose(&text(answer, "description")), members }
        });
        let method = method.to_uppercase();
        Operation {
            id: text(operation, "operationId"),
            path: path.to_owned(),
            summary: text(operation, "summary"),
            about: prose(&text(operation, "description")),
            fields,
            answers: answers.collect(),
            curl: curl(base, &method, path, operation, body.map(|body| self.sample(body, true, DEPTH_MAX))),
            method,
        }
    }

    fn parameter(&self, parameter: &Value) -> Field {
        Field {
            name: text(parameter, "name"),
            place: if parameter.get("in").is_some_and(|place| place == "path") { "path" } else { "query" },
            kind: parameter.get("schema").map(|schema| self.kind(schema)).unwrap_or_default(),
            required: parameter.get("required").is_some_and(|required| required == true),
            about: prose(&text(parameter, "description")),
        }
    }

    /// What a reference means.
    fn at<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        pointer.and_then(|pointer| self.0.pointer(pointer)).unwrap_or(schema)
    }

    fn kind(&self, schema: &Value) -> String {
        let schema = self.at(schema);
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | ");
        }
        match schema.get("type") {
            Some(Value::String(kind)) if kind == "array" => {
                schema.get("items").map(|items| format!("list of {}", self.kind(items))).unwrap_or_default()
            }
            Some(Value::String(kind)) => kind.clone(),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            _ => String::new(),
        }
    }

    /// A value of this form; of a body only what it must have.
    fn sample(&self, schema: &Value, only_required: bool, depth: usize) -> Value {
        let schema = self.at(schema);
        if let Some(word) = schema.pointer("/enum/0") {
            return word.clone();
        }
        if let Some(first) = schema.pointer("/anyOf/0") {
            return self.sample(first, only_required, depth);
        }
        let kind = schema.get("type").and_then(|kind| kind.as_str().or_else(|| kind.pointer("/0")?.as_str()));
        match kind {
            Some("object") if depth > 0 => {
                let required = schema.get("required").and_then(Value::as_array);
                let wanted =
                    |name: &str| !only_required || required.is_some_and(|all| all.iter().any(|one| one == name));
                let wanted = members(schema, "properties").filter(|(name, _)| wanted(name));
                let sampled =
                    wanted.map(|(name, schema)| (name.clone(), self.sample(schema, only_required, depth - 1)));
                Value::Object(sampled.collect::<Map<_, _>>())
            }
            Some("array") if depth > 0 => {
                let item = schema.get("items").map(|items| self.sample(items, only_required, depth - 1));
                Value::Array(item.into_iter().collect())
            }
            Some("integer") => Value::from(0),
            Some("boolean") => Value::from(false),
            _ if schema.get("format").is_some() => Value::from("2026-11-22T17:00:00.123Z"),
            _ => Value::from("…"),
        }
    }
}

fn curl(base: &str, method: &str, path: &str, operation: &Value, body: Option<Value>) -> String {
    let path = path.replace(['{', '}'], "").replace("name", "NAME");
    let public = operation.get("security").is_some();
    let auth = if public { "" } else { " --header \"Authorization: Bearer $TOKEN\"" };
    let request = if method == "GET" { String::new() } else { format!(" --request {method}") };
    let body = body.map(|body| format!(" \\\n  --json '{body}'")).unwrap_or_default();
    format!("curl{request}{auth}{body} \\\n  '{base}{path}'")
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn members<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn prose(text: &str) -> Prose {
    let pieces = text.split('`').enumerate().filter(|(_, piece)| !piece.is_empty());
    pieces.map(|(at, piece)| (at % 2 == 1, piece.to_owned())).collect()
}
