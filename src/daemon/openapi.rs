//! `GET /v1/openapi.json`: the API, described from the table that the router is made of.

use super::endpoint::{Endpoint, Gives, SchemaOf};
use super::respond::status;
use crate::model::api::VERSION_HEADER;
use crate::model::{Error, ErrorCode};
use axum::Json;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const SCHEMAS: &str = "/components/schemas";
const ABOUT: &str = "cldpd dispatches headless coding agents into containers and remembers \
    everything they did. This API is served on the home's Unix socket, `run/cldpd.sock`, which is \
    its owner's alone.\n\n\
    Every answer has the header `cldpd-version`; a request that has it is refused by a daemon of \
    another version. A failed request is answered with an `Error`, whose `code` is one of a closed \
    set and whose `message` is for people. Requests that change something carry a `request` id \
    (a ULID) made by the client: the same id with the same body is answered as before and done once.";
/// Errors that every endpoint may answer with.
const EVERYWHERE: [ErrorCode; 5] = [
    ErrorCode::Usage,
    ErrorCode::VersionMismatch,
    ErrorCode::Stopping,
    ErrorCode::JournalFailed,
    ErrorCode::Internal,
];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/openapi.json", "openapi", serve)
        .says("This document.")
        .gives::<Value>()
}

async fn serve() -> Json<Value> {
    Json(document(&super::routes::table()))
}

/// The document of these endpoints.
pub(super) fn document(table: &[Endpoint]) -> Value {
    let mut schemas = Schemas::new();
    let paths = paths(table, &mut schemas);
    let mut all = schemas.taken.take_definitions(true);
    all.extend(schemas.given.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "cldpd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{
            "url": "http://cldpd",
            "description": "through the Unix socket `$CLDPD_HOME/run/cldpd.sock`; the name of the host does not matter",
        }],
        "paths": paths,
        "components": {
            "headers": {"Version": {
                "description": "The daemon's version.",
                "schema": {"type": "string"},
            }},
            "schemas": all,
        },
    })
}

fn paths(table: &[Endpoint], schemas: &mut Schemas) -> Map<String, Value> {
    let mut paths = Map::new();
    for endpoint in table {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation(endpoint, schemas);
    }
    paths
}

/// Types as they are read, and as they are written: a field with a default may
/// be left out of a request, and is always in an answer.
struct Schemas {
    taken: SchemaGenerator,
    given: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = SCHEMAS.into();
                settings.meta_schema = None;
            })
        };
        Self {
            taken: settings().for_deserialize().into_generator(),
            given: settings().for_serialize().into_generator(),
        }
    }
}

fn operation(endpoint: &Endpoint, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": endpoint.name,
        "summary": endpoint.says,
        "responses": responses(endpoint, schemas),
    });
    let mut parameters: Vec<Value> = path_parameters(endpoint.path).collect();
    if let Some(query) = endpoint.query {
        parameters.extend(query_parameters(query, &schemas.taken));
        // What the parameters refer to has to be there.
        let mut all = query(&mut schemas.taken);
        let name = reference(all.ensure_object());
        schemas.taken.definitions_mut().remove(&name);
    }
    if matches!(endpoint.gives, Gives::Stream(_)) {
        parameters.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The `id` of the last event that was received: the stream goes on after it.",
            "schema": {"type": "string"},
        }));
    }
    if let Gives::Upgrade(protocol) = endpoint.gives {
        parameters.push(json!({
            "name": "Upgrade",
            "in": "header",
            "required": true,
            "description": "The protocol; with `Connection: Upgrade`.",
            "schema": {"const": protocol},
        }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if endpoint.takes_archive {
        operation["requestBody"] = json!({"required": true, "content": archive()});
    }
    if let Some(kind) = endpoint.takes_text {
        let content = json!({kind: {"schema": {"type": "string"}}});
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    if let Some(body) = endpoint.body {
        operation["requestBody"] = json!({
            "required": !endpoint.body_optional,
            "content": {"application/json": {"schema": body(&mut schemas.taken)}},
        });
    }
    operation
}

fn path_parameters(path: &str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|part| {
        let part = part.strip_prefix('{')?;
        part.strip_suffix('}')
    });
    names.map(|name| {
        let says = match name {
            "session" => {
                "A session: its id, its name, its pod (where just one fits), a unique prefix of its id, or its ULID."
            }
            _ => "A pod's name.",
        };
        json!({
            "name": name, "in": "path", "required": true,
            "description": says, "schema": {"type": "string"},
        })
    })
}

/// The fields of a query's type, each a parameter.
fn query_parameters(query: SchemaOf, generator: &SchemaGenerator) -> Vec<Value> {
    let mut generator = generator.clone();
    let mut schema = query(&mut generator);
    let name = reference(schema.ensure_object());
    let definition = generator.definitions().get(&name);
    let properties = definition.and_then(|definition| definition["properties"].as_object());
    let properties = properties.into_iter().flatten();
    properties
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            let says = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("description"));
            json!({
                "name": name, "in": "query", "required": false,
                "description": says, "schema": without_null(schema),
            })
        })
        .collect()
}

/// A query has no null: what is not said is left out.
fn without_null(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        if fields.get("default") == Some(&Value::Null) {
            fields.remove("default");
        }
        if let Some(Value::Array(kinds)) = fields.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [only] = &kinds[..] {
                let only = only.clone();
                fields.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
            choices.retain(|choice| choice["type"] != "null");
            if let [only] = &choices[..] {
                return only.clone();
            }
        }
    }
    schema
}

/// The name that `{"$ref": "#/components/schemas/Name"}` refers to.
fn reference(schema: &Map<String, Value>) -> String {
    let target = schema.get("$ref").and_then(Value::as_str);
    let name = target.and_then(|target| target.rsplit('/').next());
    name.unwrap_or_default().to_owned()
}

fn responses(endpoint: &Endpoint, schemas: &mut Schemas) -> Value {
    let content = match endpoint.gives {
        Gives::Archive => archive(),
        Gives::Bytes(kind) => json!({kind: {"schema": {"type": "string", "format": "binary"}}}),
        Gives::Json(schema) => json!({"application/json": {"schema": schema(&mut schemas.given)}}),
        Gives::Text(kind) => json!({kind: {"schema": {"type": "string"}}}),
        Gives::Stream(schema) => {
            let line = json!({"anyOf": [
                schema(&mut schemas.given),
                {
                    "type": "object",
                    "description": "The last line of a stream that came to its proper end; as a \
                        server-sent event it is called `end`.",
                    "properties": {"end": {"const": true}},
                    "required": ["end"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "description": "The last line of a stream that failed; as a server-sent event \
                        it is called `error`.",
                    "properties": {"error": schemas.given.subschema_for::<Error>()},
                    "required": ["error"],
                    "additionalProperties": false,
                },
            ]});
            json!({
                "application/x-ndjson": {"schema": line},
                "text/event-stream": {"schema": line},
            })
        }
        Gives::Upgrade(_) => json!({}),
    };
    let (status_of, says) = match endpoint.gives {
        Gives::Json(_) | Gives::Text(_) | Gives::Bytes(_) => ("200", "Done."),
        Gives::Archive => (
            "200",
            "A tar archive, as it is read; one that breaks off without its end has failed, and the \
             daemon's log says why.",
        ),
        Gives::Stream(_) => (
            "200",
            "One JSON document a line, or with `Accept: text/event-stream` one server-sent event \
             each, whose `id` is where the stream goes on; the schema is a line's.",
        ),
        Gives::Upgrade(_) => (
            "101",
            "The connection speaks the protocol asked for from now on.",
        ),
    };
    let mut responses = Map::new();
    responses.insert(
        status_of.to_owned(),
        json!({"description": says, "headers": version(), "content": content}),
    );
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in endpoint.fails.iter().chain(&EVERYWHERE) {
        let codes = by_status.entry(status(*code).as_u16()).or_default();
        codes.push(format!("`{code}`"));
    }
    let error = schemas.given.subschema_for::<Error>();
    for (status, codes) in by_status {
        let failed = json!({
            "description": codes.join(", "),
            "headers": version(),
            "content": {"application/json": {"schema": error}},
        });
        responses.insert(status.to_string(), failed);
    }
    responses.into()
}

fn archive() -> Value {
    json!({"application/x-tar": {}})
}

fn version() -> Value {
    json!({VERSION_HEADER: {"$ref": "#/components/headers/Version"}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::path::Path;

    /// Writes `docs/openapi.json` when this is set.
    const WRITE: &str = "CLDPD_WRITE_OPENAPI";

    fn text() -> String {
        let document = document(&super::super::routes::table());
        format!("{document:#}\n")
    }

    #[test]
    fn the_document_that_is_checked_in_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, text()).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            checked_in == text(),
            "docs/openapi.json is not what the routes say: run this test with {WRITE}=1"
        );
    }

    #[test]
    fn every_endpoint_is_described_once() {
        let table = super::super::routes::table();
        let mut seen = HashSet::new();
        let mut names = HashSet::new();
        for endpoint in &table {
            assert!(
                seen.insert((endpoint.method, endpoint.path)),
                "{} {} twice",
                endpoint.method,
                endpoint.path
            );
            assert!(names.insert(endpoint.name), "{} twice", endpoint.name);
            assert!(
                endpoint.says.ends_with('.'),
                "{} says nothing",
                endpoint.name
            );
        }
        let document = document(&table);
        let paths = document["paths"].as_object().unwrap();
        let described = paths
            .values()
            .map(|path| path.as_object().unwrap().len())
            .sum::<usize>();
        assert_eq!(described, table.len());
    }

    #[test]
    fn what_is_referred_to_is_there_and_means_one_thing() {
        let table = super::super::routes::table();
        let mut schemas = Schemas::new();
        let _ = paths(&table, &mut schemas);
        for (name, schema) in schemas.taken.definitions() {
            let given = schemas.given.definitions().get(name);
            assert!(
                given.is_none_or(|given| given == schema),
                "{name} is read in another form than it is written"
            );
        }
        let document = document(&table);
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} is nowhere");
        }
    }
}
