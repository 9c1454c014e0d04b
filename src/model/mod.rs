//! What cldpd knows, as plain data: identifiers, events, the state machine of a
//! run, errors and the wire types of the API.
//!
//! Everything here is pure: no I/O, no clock, no async. Times come in as
//! [`Timestamp`]s from whoever read the clock. Everybody imports this module;
//! it imports nobody.

pub mod agent_event;
pub mod api;
pub mod bounds;
pub mod bytes;
pub mod capture;
pub mod error;
pub mod event;
pub mod exec;
pub mod exit;
pub mod ids;
pub mod message;
pub mod outcome;
pub mod pattern;
pub mod retry;
pub mod run;
mod schema;
pub mod session;
pub mod signal;
pub mod spec;
pub mod time;
pub mod units;
pub mod usage;
pub mod waiting;

pub use agent_event::AgentEvent;
pub use bounds::{Bounds, Dollars};
pub use bytes::Blob;
pub use error::{Error, ErrorCode, Result};
pub use event::{Branch, Event, EventKind, Fresh, How, Output, SessionEvent, Stream};
pub use ids::{HomeId, PodName, SessionId, Ulid};
pub use message::Message;
pub use outcome::Outcome;
pub use pattern::Pattern;
pub use run::{IllegalTransition, RunState};
pub use session::{RunRecord, SessionRecord};
pub use spec::{AgentKind, RuntimeName, Spec};
pub use time::Timestamp;
pub use usage::{Account, Usage};
pub use waiting::WaitsFor;
