//! Follows all sessions of a home, and gives each that fails a second chance.
//!
//! `cargo run --example react -- PROMPT`

use cldpd::model::api::FirehoseQuery;
use cldpd::{Dispatch, Dispatcher, EventKind, Outcome};
use std::collections::HashSet;

#[tokio::main]
async fn main() -> cldpd::Result<()> {
    let home = std::env::var("CLDPD_HOME").unwrap_or_else(|_| "./cldpd-home".to_owned());
    let prompt = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "fix the build".to_owned());
    let dispatcher = Dispatcher::open(home).await?;

    // Before anything is dispatched, so that nothing is missed.
    let mut events = dispatcher
        .events(FirehoseQuery {
            follow: true,
            ..FirehoseQuery::default()
        })
        .await?;
    let started = dispatcher
        .start(Dispatch::prompt("myrepo", prompt).count(2))
        .await?;
    let mut open: HashSet<_> = started.iter().map(|session| session.ulid()).collect();

    while !open.is_empty() {
        let Some(next) = events.next().await? else {
            break;
        };
        let event = next.event;
        let EventKind::RunEnded { outcome, .. } = event.event.kind else {
            continue;
        };
        println!("{} run {}: {outcome}", event.session, event.event.run);
        if outcome == Outcome::Failed && event.event.run == 0 {
            let session = dispatcher.session(event.session.as_str()).await?;
            session
                .resume("It failed. Read the last error and try again.")
                .await?;
        } else {
            open.remove(&event.ulid);
        }
    }
    dispatcher.close().await;
    Ok(())
}
