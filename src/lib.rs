//! cldpd dispatches headless coding agents into containers, many at once, and
//! remembers everything they did.

#![deny(missing_docs)]

pub mod actors;
pub mod agent;
pub mod client;
pub mod daemon;
mod dispatcher;
pub mod model;
pub mod pod;
pub mod runtime;
pub mod store;
