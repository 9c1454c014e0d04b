//! The API as its clients see it: over the socket, held against its own description.

mod blocks;
mod client;
mod lines;
mod log;
mod metrics;
mod openapi;
mod streams;
