//! The shim as a real process.

mod commands;
mod ends;
mod output;
mod support;
