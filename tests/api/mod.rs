//! The API as its clients see it: over the socket, held against its own description.

mod client;
mod lines;
mod log;
mod metrics;
mod openapi;
mod streams;
