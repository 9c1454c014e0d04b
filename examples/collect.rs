//! Dispatches one session for each line of a list, and collects how they ended.
//!
//! `cargo run --example collect -- POD < tasks.txt`

use cldpd::{Dispatch, Dispatcher, Outcome};
use std::io::BufRead as _;

#[tokio::main]
async fn main() -> cldpd::Result<()> {
    let home = std::env::var("CLDPD_HOME").unwrap_or_else(|_| "./cldpd-home".to_owned());
    let pod = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "myrepo".to_owned());
    let dispatcher = Dispatcher::open(home).await?;

    // All of them are durable before the first has begun: the queue sees to it
    // that no more run at once than may.
    let mut sessions = Vec::new();
    for (number, task) in std::io::stdin()
        .lock()
        .lines()
        .map_while(Result::ok)
        .enumerate()
    {
        let dispatch = Dispatch::prompt(&pod, task).label("line", &(number + 1).to_string());
        sessions.extend(dispatcher.start(dispatch).await?);
    }

    let mut failed = 0;
    for session in &sessions {
        let end = session.wait().await?;
        failed += usize::from(end.outcome != Outcome::Success);
        match end.error {
            Some(error) => println!("{}  {}: {error}", session.id(), end.outcome),
            None => println!("{}  {}", session.id(), end.outcome),
        }
    }
    println!(
        "{} of {} succeeded",
        sessions.len() - failed,
        sessions.len()
    );
    dispatcher.close().await;
    Ok(())
}
