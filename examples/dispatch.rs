//! The README's snippet: two sessions of a pod, and what they say.

use cldpd::{Dispatch, Dispatcher, EventKind};

#[tokio::main]
async fn main() -> cldpd::Result<()> {
    let home = std::env::var("CLDPD_HOME").unwrap_or_else(|_| "./cldpd-home".to_owned());
    let dispatcher = Dispatcher::open(home).await?;
    for session in dispatcher
        .start(Dispatch::prompt("myrepo", "fix the flaky test").count(2))
        .await?
    {
        let mut events = session.events().await?;
        while let Some(event) = events.next().await? {
            if let EventKind::Output(output) = event.event.kind {
                println!(
                    "{}: {}",
                    session.id(),
                    String::from_utf8_lossy(&output.data)
                );
            }
        }
        println!("{} ended: {}", session.id(), session.wait().await?.outcome);
    }
    dispatcher.close().await;
    Ok(())
}
