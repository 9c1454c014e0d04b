//! The integration tests: the real binary, from outside, in homes of their own.
//!
//! `acceptance/` has one test for each acceptance statement, named after it;
//! `errors.rs` provokes every error that a user can meet; `house_rules.rs`
//! keeps the rules of the source; `guide/` runs the guide; `api/` holds the API against its description; `cli/` has what was found by hand. None sleeps, polls, or is ignored.

mod acceptance;
mod api;
mod cli;
#[cfg(feature = "failpoints")]
mod clock;
mod crash;
mod docker;
mod engine_faults;
mod errors;
#[cfg(feature = "failpoints")]
mod forgery;
mod guide;
mod harm;
mod house_rules;
#[cfg(feature = "failpoints")]
mod moments;
mod read_only;
mod readme;
mod service;
mod shim;
#[cfg(feature = "failpoints")]
mod shim_deaths;
mod support;
mod torture;
mod upgrade;
