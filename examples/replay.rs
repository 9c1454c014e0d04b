//! Replays a session from the journal: no engine and no container is needed.
//!
//! `cargo run --example replay -- SESSION`

use cldpd::model::api::EventsQuery;
use cldpd::{Dispatcher, EventKind};

#[tokio::main]
async fn main() -> cldpd::Result<()> {
    let home = std::env::var("CLDPD_HOME").unwrap_or_else(|_| "./cldpd-home".to_owned());
    let target = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "myrepo".to_owned());
    let dispatcher = Dispatcher::open(home).await?;
    let session = dispatcher.session(&target).await?;
    let mut events = session.events_of(EventsQuery::default()).await?;
    while let Some(event) = events.next().await? {
        let event = event.event;
        match event.kind {
            EventKind::Output(output) => {
                println!(
                    "{}  {}",
                    output.stream,
                    String::from_utf8_lossy(&output.data)
                );
            }
            EventKind::RunEnded { outcome, .. } => println!("run {} ended: {outcome}", event.run),
            kind => println!("-- {}", kind.name()),
        }
    }
    dispatcher.close().await;
    Ok(())
}
