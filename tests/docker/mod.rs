//! The Docker runtime against the real engine.
//!
//! Every test has a home of its own, and removes all that carries its label.

mod being_made;
mod builders;
mod building;
mod containers;
mod engines;
mod podman;
pub mod support;
mod tls_door;
mod unavailable;
