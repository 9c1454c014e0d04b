//! The JSON schema of `pod.json`, for editors: made of the table of keys.
//!
//! It takes everything that the reader takes. The reader is stricter: a schema
//! cannot look for files, or count what an engine would refuse.

use super::keys::{FILE, Form, Key, SCHEMA, Shape};
use serde_json::{Map, Value, json};

/// The schema (JSON Schema, draft 2020-12), as text.
#[must_use]
pub fn schema() -> String {
    let mut schema = object(&FILE);
    schema.extend(map([
        (
            SCHEMA,
            json!("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("title", json!("pod.json of cldpd")),
        (
            "description",
            json!("What a pod of cldpd says beside its Dockerfile. Everything is optional."),
        ),
    ]));
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        let about = "Where the schema of this file is, for editors.";
        let own = json!({ "type": "string", "description": about });
        properties.insert(SCHEMA.to_owned(), own);
    }
    format!("{:#}\n", Value::Object(schema))
}

fn object(shape: &Shape) -> Map<String, Value> {
    let described = |key: &Key| (key.name, Value::Object(described(key)));
    let mut object = map([
        ("type", json!("object")),
        (
            "properties",
            Value::Object(map(shape.keys.iter().map(described))),
        ),
        ("additionalProperties", json!(false)),
    ]);
    if !shape.required.is_empty() {
        object.insert("required".to_owned(), json!(shape.required));
    }
    if let Some(both) = shape.either {
        object.insert("not".to_owned(), json!({ "required": both }));
    }
    object
}

fn described(key: &Key) -> Map<String, Value> {
    let mut schema = form(&key.form);
    schema.insert("description".to_owned(), json!(key.about));
    if let Some(default) = key.default.and_then(parsed) {
        schema.insert("default".to_owned(), default);
    }
    let examples: Vec<Value> = key.examples.iter().copied().filter_map(parsed).collect();
    schema.insert("examples".to_owned(), json!(examples));
    schema
}

fn form(form: &Form) -> Map<String, Value> {
    match form {
        Form::Text => map([("type", json!("string"))]),
        Form::Like(pattern) => map([("type", json!("string")), ("pattern", json!(pattern))]),
        Form::Choice(words) => map([("enum", json!(words))]),
        Form::Flag => map([("type", json!("boolean"))]),
        Form::Whole(least) => map([("type", json!("integer")), ("minimum", json!(least))]),
        Form::Number => map([("type", json!("number")), ("minimum", json!(0))]),
        Form::Any(forms) => {
            let forms: Vec<_> = forms.iter().map(self::form).collect();
            map([("anyOf", json!(forms))])
        }
        Form::List(of) => map([("type", json!("array")), ("items", json!(self::form(of)))]),
        Form::Table(names) => map([
            ("type", json!("object")),
            ("propertyNames", json!({ "pattern": names })),
            ("additionalProperties", json!({ "type": "string" })),
        ]),
        Form::Object(shape) => object(shape),
    }
}

fn map(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Map<String, Value> {
    let owned = |(key, value): (&'static str, Value)| (key.to_owned(), value);
    entries.into_iter().map(owned).collect()
}

/// A text of the table that is JSON; a test sees that all are.
fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}
