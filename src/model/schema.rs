//! JSON schemas of what is written to JSON by hand. All others are derived.

use super::api::FirehoseEvent;
use super::bytes::Blob;
use super::event::{Output, SessionEvent, Stream};
use super::ids::{PodName, SessionId};
use super::time::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A ULID as it stands in JSON: `#[schemars(with = "UlidText")]`.
pub(super) enum UlidText {}

impl JsonSchema for UlidText {
    fn schema_name() -> Cow<'static, str> {
        "Ulid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A ULID: 26 characters of Crockford's base 32.",
            "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
        })
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339. What the daemon says is in UTC, with nanoseconds.",
        })
    }
}

impl JsonSchema for Blob {
    fn schema_name() -> Cow<'static, str> {
        "Blob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes: a string when they are UTF-8, else in base 64 (RFC 4648, padded).",
            "oneOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
                    "required": ["b64"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl JsonSchema for Output {
    fn schema_name() -> Cow<'static, str> {
        "Output".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A line, or a piece of one, without its newline. Concatenating, for one \
                stream and run, the bytes and then a newline unless `continued`, gives exactly what \
                the process wrote (secrets excepted).",
            "properties": {
                "stream": generator.subschema_for::<Stream>(),
                "data": {"type": "string", "description": "The bytes, when they are UTF-8."},
                "data_b64": {
                    "type": "string",
                    "contentEncoding": "base64",
                    "description": "The bytes, when they are not UTF-8.",
                },
                "continued": {
                    "type": "boolean",
                    "default": false,
                    "description": "No newline followed: the line is longer than 64 KiB, was still \
                        open after a second of silence, or never ended.",
                },
            },
            "required": ["stream"],
            "oneOf": [{"required": ["data"]}, {"required": ["data_b64"]}],
        })
    }
}

// Derived it would hold a copy of all kinds of events.
impl JsonSchema for FirehoseEvent {
    fn schema_name() -> Cow<'static, str> {
        "FirehoseEvent".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An event of the firehose.",
            "allOf": [
                {
                    "type": "object",
                    "properties": {"cursor": {
                        "type": "string",
                        "description": "Where it stands in the order over all sessions; opaque.",
                    }},
                    "required": ["cursor"],
                },
                generator.subschema_for::<SessionEvent>(),
            ],
        })
    }
}

impl JsonSchema for PodName {
    fn schema_name() -> Cow<'static, str> {
        "PodName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The name of a pod.",
            "maxLength": super::ids::POD_NAME_MAX,
            "pattern": r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$",
        })
    }
}

impl JsonSchema for SessionId {
    fn schema_name() -> Cow<'static, str> {
        "SessionId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "What people call a session: `<pod>-<8 hex>`.",
            "pattern": "^[a-z0-9._-]+-[0-9a-f]{8}$",
        })
    }
}
