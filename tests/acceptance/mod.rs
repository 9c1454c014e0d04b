//! One test for each acceptance statement, named after it, by the statement's
//! section. Where the design settles a name or a code otherwise, the design is
//! what is tested.

mod agents;
mod bounds;
mod clean;
mod cli;
mod containers;
mod environment;
mod events;
mod exec;
mod files;
mod forks;
mod images;
mod journal;
mod leaks;
mod library;
mod limits;
mod lists;
mod logs;
mod pods;
mod pods_made;
mod queue;
mod recovery;
mod registries;
mod resume;
mod retries;
mod search;
mod security;
mod signals;
mod silence;
mod space;
mod steering;
mod stop;
#[cfg(feature = "failpoints")]
mod supervision;
mod timeout;
