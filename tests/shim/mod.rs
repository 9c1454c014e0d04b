//! The shim as a real process.

mod commands;
mod ends;
mod local;
mod output;
mod support;
