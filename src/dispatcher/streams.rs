//! What the front door gives one after the other, from the daemon or from here.

use crate::actors::{Firehose, Follow, Search};
use crate::client::EventStream;
use crate::model::Result;
use crate::model::SessionEvent;
use crate::model::api::{FirehoseEvent, SearchItem};
use futures::StreamExt as _;

/// What a search finds, one after the other.
pub struct Found(pub(super) Finder);

pub(super) enum Finder {
    Daemon(EventStream<SearchItem>),
    Here {
        search: Box<Search>,
        batch: std::vec::IntoIter<SearchItem>,
    },
}

impl Found {
    /// The next item; none at the end.
    ///
    /// # Errors
    /// When the daemon or the journal fails.
    pub async fn next(&mut self) -> Result<Option<SearchItem>> {
        match &mut self.0 {
            Finder::Daemon(stream) => stream.next().await.transpose(),
            Finder::Here { search, batch } => loop {
                if let Some(item) = batch.next() {
                    return Ok(Some(item));
                }
                match search.next().await? {
                    Some(items) => *batch = items.into_iter(),
                    None => return Ok(None),
                }
            },
        }
    }
}

/// A session's events, one after the other.
pub struct Events(pub(super) Feed);

pub(super) enum Feed {
    Daemon(Box<EventStream<SessionEvent>>),
    Here {
        follow: Box<Follow>,
        batch: std::vec::IntoIter<SessionEvent>,
    },
}

impl Events {
    /// The next one; none when there will be no more.
    ///
    /// # Errors
    /// When the daemon or the journal fails.
    pub async fn next(&mut self) -> Result<Option<SessionEvent>> {
        match &mut self.0 {
            Feed::Daemon(stream) => stream.next().await.transpose(),
            Feed::Here { follow, batch } => loop {
                if let Some(event) = batch.next() {
                    return Ok(Some(event));
                }
                match follow.next().await? {
                    Some(events) => *batch = events.into_iter(),
                    None => return Ok(None),
                }
            },
        }
    }
}

/// Events of all sessions, one after the other.
pub struct AllEvents(pub(super) AllFeed);

pub(super) enum AllFeed {
    Daemon(Box<EventStream<FirehoseEvent>>),
    Here {
        firehose: Box<Firehose>,
        batch: std::vec::IntoIter<FirehoseEvent>,
    },
}

impl AllEvents {
    /// The next one; none when there will be no more. Its `cursor` is where a
    /// later [`Dispatcher::events`](super::Dispatcher::events) goes on.
    ///
    /// # Errors
    /// When the daemon or the journal fails.
    pub async fn next(&mut self) -> Result<Option<FirehoseEvent>> {
        match &mut self.0 {
            AllFeed::Daemon(stream) => stream.next().await.transpose(),
            AllFeed::Here { firehose, batch } => loop {
                if let Some(event) = batch.next() {
                    return Ok(Some(event));
                }
                match firehose.next().await? {
                    Some(events) => *batch = events.into_iter(),
                    None => return Ok(None),
                }
            },
        }
    }
}
