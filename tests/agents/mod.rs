//! The real agents, through the real command, on a real engine, without network:
//! `make test-agents` runs this and nothing else does.
//!
//! `scripts/agents.sh` makes an image of each, in the versions that `pins` names.
//! Their APIs are played on the container's own loopback by `mock/`, which obeys
//! the prompt and keeps a ledger of what it dispensed. What cldpd shows is held
//! against that ledger, to the token.
//!
//! What they write is checked in as well (`tests/fixtures/agents`), for the tests
//! of the parsers. `CLDPD_AGENTS=record make test-agents` writes it anew.

#[path = "../support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the other test binary uses the rest"
)]
mod support;

mod agent;
mod cases;
mod claude;
mod codex;
mod gemini;
mod ledger;
mod opencode;
mod recording;
mod world;
