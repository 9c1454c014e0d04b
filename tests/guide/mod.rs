//! What the guide says is true: its commands run, its files are read, its
//! programs are the examples, its messages are the product's.
//!
//! | block | what becomes of it |
//! |---|---|
//! | `sh` | run, all of a page in one shell, in order; each has to succeed |
//! | `sh engine` | the same, with a pod on the real engine |
//! | `json output`, `text output` | what the block before it printed, by form or by the letter |
//! | `json` in pods.md | a whole `pod.json`, which `pod check` has to like |
//! | `rust` | stands in one of `examples/`, which are run |
//! | `text` that begins with `error:` | a message of `errors.rs`, or one provoked here |

mod block;
mod examples;
mod messages;
mod pages;
