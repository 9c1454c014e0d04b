//! Streams of events: one JSON value a line.
//!
//! A stream's proper end is the line `{"end":true}`; a body that ends without
//! it was broken off. `{"error":{…}}` is an error inside the stream. A stream
//! that follows asks again, from after the last event it gave, until the
//! proper end.

use super::connection::{Client, Exchange};
use super::lines::{LINE_MAX, LineDecoder, TooLong};
use crate::model::api::{
    EventsQuery, FirehoseEvent, FirehoseQuery, PodBuildEvent, PodBuildRequest, SearchItem,
    SearchQuery,
};
use crate::model::{Error, ErrorCode, Result, SessionEvent, Timestamp};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::time::Instant;

/// Events as they come. After an error nothing more comes.
pub type EventStream<T> = BoxStream<'static, Result<T>>;

/// Breaks without an event between them, after which a stream is given up.
const BREAKS_MAX: u32 = 5;
/// The pause after the first of them; doubled with each.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 50 });
/// A connection that lasted as long as this was a good one.
const GOOD: Duration = Duration::from_secs(2);

/// Where a stream comes from, and where it stands.
pub(super) trait Feed: Send + 'static {
    /// What makes of a body's bytes what it gives.
    type Parser: Parser;

    /// The request for what has not been given.
    fn request(&self) -> Result<Exchange>;

    /// Takes note of an event that is being given.
    fn advance(&mut self, event: &ItemOf<Self>);

    /// Takes note that the connection broke.
    fn broke(&mut self) {}
}

/// What a feed gives.
pub(super) type ItemOf<F> = <<F as Feed>::Parser as Parser>::Item;

/// Takes a body apart, however its bytes come.
pub(super) trait Parser: Default + Send + 'static {
    /// What stands in it.
    type Item: Send + 'static;

    /// Takes further bytes. What was in those before must have been taken out.
    fn push(&mut self, bytes: Bytes);

    /// What comes next.
    fn next(&mut self) -> Parsed<Self::Item>;
}

/// What comes next in a body.
pub(super) enum Parsed<T> {
    /// This.
    Item(T),
    /// Bytes are missing to tell.
    More,
    /// The proper end.
    End,
    /// The body says so, or cannot be understood.
    Failed(Error),
}

/// A session's events.
pub(super) struct SessionFeed {
    session: String,
    query: EventsQuery,
}

impl SessionFeed {
    pub(super) fn new(session: &str, query: EventsQuery) -> Self {
        Self {
            session: session.to_owned(),
            query,
        }
    }
}

impl Feed for SessionFeed {
    type Parser = JsonLines<SessionEvent>;

    fn request(&self) -> Result<Exchange> {
        Exchange::new(Method::GET, &["sessions", &self.session, "events"])
            .streamed()
            .query(&self.query)
    }

    fn advance(&mut self, event: &SessionEvent) {
        if self.query.after.is_none() {
            // What names this session now may name several later.
            self.session = event.ulid.to_string();
        }
        self.query.after = Some(event.event.seq);
        (self.query.tail, self.query.last) = (None, None);
    }
}

/// All sessions' events.
pub(super) struct Firehose {
    query: FirehoseQuery,
    /// When it was asked for: where "from now on" is, should the connection
    /// break before the first event.
    asked: Timestamp,
}

impl Firehose {
    pub(super) fn new(query: FirehoseQuery) -> Self {
        Self {
            query,
            asked: Timestamp::now(),
        }
    }
}

impl Feed for Firehose {
    type Parser = JsonLines<FirehoseEvent>;

    fn request(&self) -> Result<Exchange> {
        Exchange::new(Method::GET, &["events"])
            .streamed()
            .query(&self.query)
    }

    fn advance(&mut self, event: &FirehoseEvent) {
        self.query.from = Some(event.cursor.clone());
        self.query.since = None;
        if let Some(limit) = &mut self.query.limit {
            *limit = limit.saturating_sub(1);
        }
    }

    fn broke(&mut self) {
        if self.query.follow && self.query.from.is_none() && self.query.since.is_none() {
            self.query.since = Some(self.asked);
        }
    }
}

/// What a build of a pod's image says.
pub(super) struct BuildFeed {
    pod: String,
    request: PodBuildRequest,
}

impl BuildFeed {
    pub(super) fn new(pod: &str, request: &PodBuildRequest) -> Self {
        Self {
            pod: pod.to_owned(),
            request: request.clone(),
        }
    }
}

impl Feed for BuildFeed {
    type Parser = JsonLines<PodBuildEvent>;

    fn request(&self) -> Result<Exchange> {
        Exchange::new(Method::POST, &["pods", &self.pod, "build"])
            .streamed()
            .json(&self.request)
    }

    fn advance(&mut self, _: &PodBuildEvent) {}
}

/// What a search finds.
pub(super) struct SearchFeed {
    query: SearchQuery,
}

impl SearchFeed {
    pub(super) fn new(query: &SearchQuery) -> Self {
        Self {
            query: query.clone(),
        }
    }
}

impl Feed for SearchFeed {
    type Parser = JsonLines<SearchItem>;

    fn request(&self) -> Result<Exchange> {
        Exchange::new(Method::GET, &["search"])
            .streamed()
            .query(&self.query)
    }

    fn advance(&mut self, _: &SearchItem) {}
}

/// What bears breaks of the connection, up to a bound.
#[derive(Debug, Default)]
pub(super) struct Patience {
    breaks: u32,
    since: Option<Instant>,
}

impl Patience {
    /// An attempt begins.
    pub(super) fn begin(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Something came: the breaks before it are forgotten.
    fn good(&mut self) {
        self.breaks = 0;
    }

    /// The connection broke: pauses, and sees that a daemon is there.
    pub(super) async fn broke(&mut self, client: &Client, error: Error) -> Result<()> {
        if self.since.take().is_some_and(|at| at.elapsed() >= GOOD) {
            self.breaks = 0;
        }
        self.breaks += 1;
        if self.breaks > BREAKS_MAX {
            return Err(error);
        }
        tracing::debug!("{error}; asking again");
        // Nothing tells when a daemon comes that somebody else starts.
        tokio::time::sleep(PAUSE * (1 << (self.breaks - 1))).await;
        client.revive().await
    }

    /// The daemon refused: only one that is going away is asked again.
    pub(super) async fn refused(&mut self, client: &Client, error: Error) -> Result<()> {
        match error.code {
            ErrorCode::Stopping => self.broke(client, error).await,
            _ => Err(error),
        }
    }
}

/// The stream of one request.
pub(super) async fn once<F: Feed>(client: &Client, feed: F) -> Result<EventStream<ItemOf<F>>> {
    let exchange = feed.request()?;
    let body = client.open_stream(&exchange).await?;
    let events = Events::<F::Parser>::new(body);
    let state = Some((client.clone(), exchange, events));
    Ok(stream::unfold(state, |state| async move {
        let (client, exchange, mut events) = state?;
        match events.next().await {
            Ok(Some(event)) => Some((Ok(event), Some((client, exchange, events)))),
            Ok(None) => None,
            Err(Break::Connection(cause)) => Some((Err(client.broke(&exchange, &cause)), None)),
            Err(Break::Error(error)) => Some((Err(error), None)),
        }
    })
    .boxed())
}

/// The stream of as many requests as it takes.
pub(super) async fn follow<F: Feed>(client: &Client, feed: F) -> Result<EventStream<ItemOf<F>>> {
    let mut follower = Follower {
        client: client.clone(),
        feed,
        patience: Patience::default(),
        events: None,
    };
    // A session that is not there is said at once, not in the stream.
    follower.open().await?;
    Ok(stream::unfold(Some(follower), |state| async move {
        let mut follower = state?;
        match follower.next().await {
            Ok(Some(event)) => Some((Ok(event), Some(follower))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

struct Follower<F: Feed> {
    client: Client,
    feed: F,
    patience: Patience,
    events: Option<Events<F::Parser>>,
}

impl<F: Feed> Follower<F> {
    async fn open(&mut self) -> Result<()> {
        let exchange = self.feed.request()?;
        self.patience.begin();
        let body = self.client.open_stream(&exchange).await?;
        self.events = Some(Events::new(body));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<ItemOf<F>>> {
        loop {
            let Some(events) = &mut self.events else {
                match self.open().await {
                    Ok(()) => continue,
                    Err(error) if error.code == ErrorCode::DaemonUnavailable => {
                        self.patience.broke(&self.client, error).await?;
                    }
                    Err(error) => self.patience.refused(&self.client, error).await?,
                }
                continue;
            };
            match events.next().await {
                Ok(Some(event)) => {
                    self.patience.good();
                    self.feed.advance(&event);
                    return Ok(Some(event));
                }
                Ok(None) => return Ok(None),
                Err(Break::Connection(cause)) => {
                    self.events = None;
                    self.feed.broke();
                    let error = self.client.broke(&self.feed.request()?, &cause);
                    self.patience.broke(&self.client, error).await?;
                }
                Err(Break::Error(error)) => {
                    self.events = None;
                    self.feed.broke();
                    self.patience.refused(&self.client, error).await?;
                }
            }
        }
    }
}

/// Why a stream came to no proper end.
#[derive(Debug)]
enum Break {
    /// The connection broke.
    Connection(String),
    /// The stream said so, or cannot be understood.
    Error(Error),
}

/// The events of one body.
struct Events<P> {
    body: Incoming,
    parser: P,
}

impl<P: Parser> Events<P> {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            parser: P::default(),
        }
    }

    /// The next event; none at the proper end.
    async fn next(&mut self) -> Result<Option<P::Item>, Break> {
        loop {
            match self.parser.next() {
                Parsed::Item(item) => return Ok(Some(item)),
                Parsed::End => return Ok(None),
                Parsed::Failed(error) => return Err(Break::Error(error)),
                Parsed::More => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Break> {
        match self.body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.parser.push(data);
                }
                Ok(())
            }
            Some(Err(e)) => Err(Break::Connection(e.to_string())),
            None => Err(Break::Connection("it ended too early".to_owned())),
        }
    }
}

/// One JSON document a line.
pub(super) struct JsonLines<T> {
    lines: LineDecoder,
    event: PhantomData<fn() -> T>,
}

impl<T> Default for JsonLines<T> {
    fn default() -> Self {
        Self {
            lines: LineDecoder::new(LINE_MAX),
            event: PhantomData,
        }
    }
}

/// A line that is no event.
#[derive(Deserialize)]
struct Control {
    #[serde(default)]
    end: bool,
    #[serde(default)]
    error: Option<Error>,
}

impl<T: DeserializeOwned + Send + 'static> Parser for JsonLines<T> {
    type Item = T;

    fn push(&mut self, bytes: Bytes) {
        self.lines.push(bytes);
    }

    fn next(&mut self) -> Parsed<T> {
        loop {
            match self.lines.next_line() {
                // A blank line keeps a connection alive and says nothing.
                Ok(Some(line)) if line.is_empty() => {}
                Ok(Some(line)) => return read_line(&line),
                Ok(None) => return Parsed::More,
                Err(TooLong) => {
                    return Parsed::Failed(Error::new(
                        ErrorCode::Internal,
                        format!("the daemon sent an event of more than {LINE_MAX} bytes"),
                    ));
                }
            }
        }
    }
}

fn read_line<T: DeserializeOwned>(line: &[u8]) -> Parsed<T> {
    // Nearly every line is an event, so that is tried first.
    let not_event = match serde_json::from_slice(line) {
        Ok(event) => return Parsed::Item(event),
        Err(e) => e,
    };
    match serde_json::from_slice(line) {
        Ok(Control {
            error: Some(error), ..
        }) => Parsed::Failed(error),
        Ok(Control { end: true, .. }) => Parsed::End,
        Ok(Control { .. }) | Err(_) => Parsed::Failed(Error::new(
            ErrorCode::Internal,
            format!("the daemon sent an event that is not understood: {not_event}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Answer, Server, event};
    use futures::TryStreamExt as _;

    const END: &str = "{\"end\":true}\n";

    async fn seqs(stream: EventStream<SessionEvent>) -> Result<Vec<u64>> {
        stream.map_ok(|event| event.event.seq).try_collect().await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_broken_stream_goes_on_after_what_it_gave() -> Result<()> {
        let server = Server::start([
            Answer::stream(&[&event(1), &event(2), &event(3)[..9]]),
            Answer::Break,
            Answer::Break,
            Answer::stream(&["\n", &event(3), END]),
        ])?;
        let query = EventsQuery {
            tail: Some(9),
            follow: true,
            ..EventsQuery::default()
        };
        let stream = server.client().events_following("mypod", query).await?;
        assert_eq!(seqs(stream).await?, [1, 2, 3]);
        let requests = server.requests();
        assert_eq!(
            requests.first().map(String::as_str),
            Some("GET /v1/sessions/mypod/events?follow=true&tail=9")
        );
        // From then on the very session is asked, not what names it.
        assert_eq!(
            requests.last().map(String::as_str),
            Some("GET /v1/sessions/00000000000000000000000001/events?after=2&follow=true")
        );
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stream_that_does_not_follow_tells_its_break() -> Result<()> {
        let server = Server::start([Answer::stream(&[&event(1)])])?;
        let mut stream = server
            .client()
            .events("mypod", EventsQuery::default())
            .await?;
        assert_eq!(stream.try_next().await?.map(|e| e.event.seq), Some(1));
        let error = stream.try_next().await.err();
        assert_eq!(error.map(|e| e.code), Some(ErrorCode::DaemonUnavailable));
        assert_eq!(stream.try_next().await?, None);
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_error_in_a_stream_ends_it() -> Result<()> {
        let told = Error::new(ErrorCode::JournalFailed, "the journal cannot be read");
        let line = format!("{}\n", serde_json::json!({ "error": told }));
        let server = Server::start([Answer::stream(&[&event(1), &line])])?;
        let stream = server
            .client()
            .events_following("mypod", EventsQuery::default())
            .await?;
        assert_eq!(seqs(stream).await, Err(told));
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stream_that_always_breaks_is_given_up() -> Result<()> {
        let server = Server::start(std::iter::repeat_n(Answer::stream(&[]), 20))?;
        let stream = server
            .client()
            .events_following("mypod", EventsQuery::default())
            .await?;
        let error = seqs(stream).await.err();
        assert_eq!(error.map(|e| e.code), Some(ErrorCode::DaemonUnavailable));
        assert_eq!(server.requests().len(), 6);
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_firehose_goes_on_from_its_cursor() -> Result<()> {
        let first = event(1).replacen('{', "{\"cursor\":\"c1\",", 1);
        let server = Server::start([
            Answer::stream(&[]),
            Answer::stream(&[&first]),
            Answer::stream(&[END]),
        ])?;
        let query = FirehoseQuery {
            follow: true,
            ..FirehoseQuery::default()
        };
        let stream = server.client().firehose(query).await?;
        let events: Vec<FirehoseEvent> = stream.try_collect().await?;
        assert_eq!(events.len(), 1);
        let requests = server.requests();
        assert_eq!(requests[0], "GET /v1/events?follow=true");
        assert!(requests[1].starts_with("GET /v1/events?follow=true&since=2"));
        assert_eq!(requests[2], "GET /v1/events?follow=true&from=c1");
        Ok(())
    }
}
