//! One endpoint of the API: the route and its description are one thing, so
//! that neither is there without the other.

use super::server::Context;
use crate::model::ErrorCode;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Makes a type's schema, or a reference to it.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What an endpoint answers with when all is well.
#[derive(Clone, Copy)]
pub(super) enum Gives {
    /// One JSON document.
    Json(SchemaOf),
    /// Lines of JSON, or server-sent events by `Accept`; the type is a line's.
    Stream(SchemaOf),
    /// Text of this type.
    Text(&'static str),
    /// The connection, for this protocol.
    Upgrade(&'static str),
    /// A tar archive.
    Archive,
    /// Bytes of this type.
    Bytes(&'static str),
}

/// A method and a path, what is to be known of them, and who serves them.
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// The operation's id; the client's method has the same name.
    pub(super) name: &'static str,
    /// What it does, in a sentence.
    pub(super) says: &'static str,
    pub(super) query: Option<SchemaOf>,
    pub(super) body: Option<SchemaOf>,
    /// Its body is a tar archive.
    pub(super) takes_archive: bool,
    /// Its body is text of this type.
    pub(super) takes_text: Option<&'static str>,
    /// A request without a body means the type's default.
    pub(super) body_optional: bool,
    pub(super) gives: Gives,
    /// Codes of errors, besides those that every endpoint may answer with.
    pub(super) fails: &'static [ErrorCode],
    handler: MethodRouter<Context>,
}

impl Endpoint {
    /// `GET path`.
    pub(super) fn get<H, T>(path: &'static str, name: &'static str, handler: H) -> Self
    where
        H: Handler<T, Context>,
        T: 'static,
    {
        Self::new("get", path, name, routing::get(handler))
    }

    /// `POST path`.
    pub(super) fn post<H, T>(path: &'static str, name: &'static str, handler: H) -> Self
    where
        H: Handler<T, Context>,
        T: 'static,
    {
        Self::new("post", path, name, routing::post(handler))
    }

    /// `PUT path`.
    pub(super) fn put<H, T>(path: &'static str, name: &'static str, handler: H) -> Self
    where
        H: Handler<T, Context>,
        T: 'static,
    {
        Self::new("put", path, name, routing::put(handler))
    }

    /// `DELETE path`.
    pub(super) fn delete<H, T>(path: &'static str, name: &'static str, handler: H) -> Self
    where
        H: Handler<T, Context>,
        T: 'static,
    {
        Self::new("delete", path, name, routing::delete(handler))
    }

    fn new(
        method: &'static str,
        path: &'static str,
        name: &'static str,
        handler: MethodRouter<Context>,
    ) -> Self {
        Self {
            method,
            path,
            name,
            says: "",
            query: None,
            body: None,
            takes_archive: false,
            takes_text: None,
            body_optional: false,
            gives: Gives::Json(SchemaGenerator::subschema_for::<serde_json::Value>),
            fails: &[],
            handler,
        }
    }

    /// What it does, in a sentence.
    pub(super) const fn says(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }

    /// The type of its query.
    pub(super) fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// The type of its body.
    pub(super) fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// Its body is a tar archive.
    pub(super) const fn takes_archive(mut self) -> Self {
        self.takes_archive = true;
        self
    }

    /// Its body is text of this type.
    pub(super) const fn takes_text(mut self, kind: &'static str) -> Self {
        self.takes_text = Some(kind);
        self
    }

    /// Its answer is a tar archive.
    pub(super) fn gives_archive(mut self) -> Self {
        self.gives = Gives::Archive;
        self
    }

    /// The type of its body, which may be left out.
    pub(super) fn may_take<T: JsonSchema>(mut self) -> Self {
        self.body_optional = true;
        self.takes::<T>()
    }

    /// The type of its answer.
    pub(super) fn gives<T: JsonSchema>(mut self) -> Self {
        self.gives = Gives::Json(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// The type of its answer's lines or server-sent events.
    pub(super) fn streams<T: JsonSchema>(mut self) -> Self {
        self.gives = Gives::Stream(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// Its answer is text of this type.
    pub(super) const fn text(mut self, kind: &'static str) -> Self {
        self.gives = Gives::Text(kind);
        self
    }

    /// Its answer is bytes of this type.
    pub(super) const fn gives_bytes(mut self, kind: &'static str) -> Self {
        self.gives = Gives::Bytes(kind);
        self
    }

    /// It answers with the connection, for `protocol`.
    pub(super) const fn upgrades(mut self, protocol: &'static str) -> Self {
        self.gives = Gives::Upgrade(protocol);
        self
    }

    /// Codes of errors, besides those that every endpoint may answer with.
    pub(super) const fn fails(mut self, codes: &'static [ErrorCode]) -> Self {
        self.fails = codes;
        self
    }

    /// Adds it to `router`.
    pub(super) fn route(self, router: Router<Context>) -> Router<Context> {
        router.route(self.path, self.handler)
    }
}
