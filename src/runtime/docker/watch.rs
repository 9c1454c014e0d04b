//! What an engine says of our containers while they run.

use super::engine::Engine;
use super::labels;
use crate::model::{HomeId, Timestamp};
use crate::runtime::{Happening, Happenings, Incident};
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures::StreamExt as _;
use std::sync::Arc;

/// What happens to containers of `home` from `since` on. The engine repeats
/// what it remembers (some hundred events, until it is restarted).
pub(super) fn watch(engine: Arc<Engine>, home: HomeId, since: Timestamp) -> Happenings {
    let mut filters = labels::filter(labels::HOME, &home.to_string());
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    filters.insert("event".to_owned(), vec!["oom".to_owned()]);
    let (seconds, nanos) = (since.0 / 1_000_000_000, since.0 % 1_000_000_000);
    let options = EventsOptionsBuilder::new()
        .since(&format!("{seconds}.{nanos:09}"))
        .filters(&filters)
        .build();
    let events = engine.client.events(Some(options));
    events
        .filter_map(move |event| {
            let happening = match event {
                Ok(event) => read(event, home).map(Ok),
                Err(error) => Some(Err(engine.failure(&error).of_container("of this home"))),
            };
            futures::future::ready(happening)
        })
        .boxed()
}

/// An event of ours.
fn read(event: EventMessage, home: HomeId) -> Option<Happening> {
    let attributes = event.actor?.attributes?;
    let owner = labels::owner(&attributes, attributes.get("name")?)?;
    Some(Happening {
        at: Timestamp(event.time_nano?),
        what: Incident::OutOfMemory,
        owner: Some(owner).filter(|owner| owner.home == home)?,
    })
}
