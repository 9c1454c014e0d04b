//! The shim as a real process.

mod beside;
mod commands;
mod ends;
mod files;
mod local;
mod output;
mod support;
