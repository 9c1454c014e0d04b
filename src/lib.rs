//! cldpd dispatches headless coding agents into containers, many at once, and
//! remembers everything they did.
//!
//! [`Dispatcher`] is the way in: it starts [`Session`]s and finds them again,
//! in this process or through the home's daemon. A session's [`Events`] are
//! complete, in order, and the same whenever they are read.
//!
//! # Map of the code
//!
//! | module | what lives there |
//! |---|---|
//! | [`model`] | ids, events, the state machine of a run, errors, wire types; pure |
//! | [`archive`] | tar archives: made, carried, and taken apart without trusting them |
//! | [`pod`] | pods: discovery, `pod.json`, templates |
//! | [`agent`] | agents: their command lines and what their output means |
//! | [`runtime`] | places where a shim can be put, and the client of the shim |
//! | [`block`] | blocks of events: their bytes, written and read |
//! | [`store`] | the journal, on sled |
//! | [`actors`] | supervisor, sessions, journal, admission |
//! | [`daemon`] | the API over a Unix socket |
//! | [`client`] | the typed client of that API |
//! | [`cli`] | the command `cldpd` |

#![deny(missing_docs)]

#[macro_use]
mod failpoint;

pub mod actors;
pub mod agent;
pub mod archive;
pub mod block;
pub mod cli;
pub mod client;
pub mod daemon;
mod dispatcher;
pub mod model;
pub mod pod;
pub mod runtime;
pub mod store;

pub use dispatcher::{AllEvents, Dispatch, Dispatcher, Events, Found, Resume, Session};
pub use model::{Error, ErrorCode, EventKind, Outcome, Result, SessionEvent};
pub use pod::Pod;
pub use runtime::Runtime;
