//! The API as its clients see it: over the socket, held against its own description.

mod client;
mod log;
mod metrics;
mod openapi;
