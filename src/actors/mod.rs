//! The supervisor, one session actor for each live session, and the journal.
//!
//! ```text
//!  Handle ──▶ Supervisor ──owns──▶ Session(ulid, generation) ──▶ driver task
//!    │             ▲  └ Admission        │        ▲                 │
//!    │             └──── Ended ──────────┘        └──── Record ─────┘
//!    │ reads                             │ Append (answered after the barrier)
//!    ▼                                   ▼
//!  Reader ◀──────── sled ◀──────── Journal (own thread) ──▶ Hub ──▶ followers
//! ```
//!
//! Calls go down and are awaited; notices go up and are not. A driver does
//! everything for a session that takes time, step by step, each step chosen
//! from the record alone ([`RunState::step`](crate::model::RunState::step)); so
//! a daemon that starts again does what one does that never stopped.
//!
//! This is the only place that knows actix: [`Handle`] has plain async methods.

mod admission;
mod bounds;
mod builds;
mod capture;
mod cleanup;
mod conclusion;
mod context;
mod damage;
mod directory;
mod disk;
mod dispatch;
mod doctor;
mod driver;
mod environment;
mod exec;
mod files;
mod follow;
mod gc;
mod giving_up;
mod handle;
mod hub;
mod inquire;
mod journal;
mod launch;
mod measure;
mod messages;
mod order;
mod preflight;
mod proxy;
mod queries;
mod record;
mod resume;
mod retrying;
mod search;
mod session;
mod session_root;
mod space;
mod stats;
mod supervisor;
mod system;
mod tally;
mod tracker;
mod upkeep;
mod view;
mod vital;
mod watch;

pub use admission::Load;
pub use builds::PodBuild;
pub use context::{Settings, Silence};
pub use follow::{Firehose, Follow};
pub use handle::Handle;
pub use measure::Measures;
pub use search::Search;
pub use space::{Retention, offline_stats};
pub use system::System;
pub use tally::{COMMIT_BOUNDS, Counted};
pub use upkeep::{Chunks, Verification};
