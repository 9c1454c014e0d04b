//! A session's events as blocks: what is read faster than anything else.
//!
//! The daemon sends blocks as they lie in its journal. Here they are decoded,
//! on threads beside the one that uses them, and what was not asked for is
//! skipped. They are taken in groups of what has come, of some [`GROUP`] bytes:
//! handing each block over by itself would cost a machine that is busy a wait
//! for each. [`AHEAD`] groups are decoded ahead. Each block is checked whole
//! before anything of it is given out, and none may be missing between two.

use super::connection::{Client, Exchange};
use super::stream::{EventStream, Feed, Parsed, Parser, follow};
use crate::block::{self, Block, BlockError, EventRef, Frame, Frames, Header};
use crate::model::api::EventsQuery;
use crate::model::{Error, ErrorCode, Result, Ulid};
use futures::StreamExt as _;
use hyper::Method;
use hyper::body::Bytes;
use serde::Deserialize;
use std::future::ready;

/// Groups that are decoded while one is used.
const AHEAD: usize = 2;
/// Payloads of so many bytes are decoded together.
const GROUP: usize = 2 << 20;
/// A group of so few is decoded at once: handing it over costs more.
const SMALL: usize = 32 << 10;

/// Events of one session that lie together.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Blocks, each with the number after which its events are new.
    blocks: Vec<(u64, Block)>,
    /// The last event that was asked for.
    last: u64,
    query: EventsQuery,
    /// Why there are no more of them.
    broken: Option<Error>,
}

impl Chunk {
    /// The events that were asked for.
    ///
    /// # Errors
    /// What lies after those that were given cannot be read.
    pub fn events(&self) -> impl Iterator<Item = Result<EventRef<'_>>> {
        let wanted = |after: u64, event: &EventRef<'_>| {
            let query = &self.query;
            let placed = event.seq > after && event.seq <= self.last;
            placed && query.takes(event.run, event.time, event.stream())
        };
        let all = self.blocks.iter().flat_map(move |(after, block)| {
            block.events().filter_map(move |event| match event {
                Ok(event) => wanted(*after, &event).then_some(Ok(event)),
                Err(error) => Some(Err(damaged(block.header().first_seq, &error))),
            })
        });
        all.chain(self.broken.iter().cloned().map(Err))
    }
}

/// A session's events, as far as they fit `query`. When the connection breaks
/// the stream goes on after the last block that came.
pub(super) async fn chunks(
    client: &Client,
    session: &str,
    query: EventsQuery,
) -> Result<EventStream<Chunk>> {
    let feed = BlocksFeed {
        session: session.to_owned(),
        query: query.clone(),
    };
    let decoded = follow(client, feed).await?.map(decode).buffered(AHEAD);
    let place = Place {
        after: query.after.unwrap_or(0),
        last: None,
        query,
    };
    let chunks = decoded.scan((place, false), |(place, over), next| {
        if *over {
            return ready(None);
        }
        let next = next.map(|decoded| place.take(decoded));
        *over = match &next {
            Ok(chunk) => chunk.as_ref().is_some_and(|chunk| chunk.broken.is_some()),
            Err(_) => true,
        };
        ready(Some(next.transpose()))
    });
    Ok(chunks.filter_map(ready).boxed())
}

/// What the daemon sent, decoded.
enum Decoded {
    Begin(Begin),
    /// Blocks, and why there are no more.
    Blocks(Vec<Block>, Option<Error>),
}

async fn decode(item: Result<Item>) -> Result<Decoded> {
    let blocks = match item? {
        Item::Begin(begin) => return Ok(Decoded::Begin(begin)),
        Item::Blocks(blocks) => blocks,
    };
    let raw_len: usize = blocks.iter().map(|(header, _)| header.raw_len()).sum();
    if raw_len < SMALL {
        return Ok(decode_all(&blocks));
    }
    let decoding = tokio::task::spawn_blocking(move || decode_all(&blocks));
    decoding.await.map_err(|_| {
        Error::new(
            ErrorCode::Internal,
            "a thread that decoded blocks broke off",
        )
    })
}

fn decode_all(stored: &[(Header, Vec<u8>)]) -> Decoded {
    let mut blocks = Vec::with_capacity(stored.len());
    for (header, bytes) in stored {
        match Block::decode(bytes) {
            Ok(block) => blocks.push(block),
            Err(error) => {
                return Decoded::Blocks(blocks, Some(damaged(header.first_seq, &error)));
            }
        }
    }
    Decoded::Blocks(blocks, None)
}

/// How far the events came.
struct Place {
    query: EventsQuery,
    /// The last one that came.
    after: u64,
    /// The last one that was asked for, where that is settled.
    last: Option<u64>,
}

impl Place {
    /// Sees that nothing is missing before a block, and that there is something new in it.
    fn take(&mut self, decoded: Decoded) -> Option<Chunk> {
        let (blocks, mut broken) = match decoded {
            Decoded::Begin(begin) => {
                self.after = begin.after.max(self.after);
                // What was the end when it was asked first stays the end.
                self.last = self.last.or(begin.last);
                return None;
            }
            Decoded::Blocks(blocks, broken) => (blocks, broken),
        };
        let mut placed = Vec::with_capacity(blocks.len());
        for block in blocks {
            let (first, last) = (block.header().first_seq, block.header().last_seq());
            let after = self.after;
            // A block that was merged meanwhile may begin with what came before.
            if first > after + 1 || last <= after {
                broken = Some(Error::new(
                    ErrorCode::Internal,
                    format!("the daemon sent events {first} to {last} after event {after}"),
                ));
                break;
            }
            placed.push((after, block));
            self.after = last;
        }
        Some(Chunk {
            blocks: placed,
            last: self.last.unwrap_or(u64::MAX),
            query: self.query.clone(),
            broken,
        })
    }
}

fn damaged(seq: u64, cause: &BlockError) -> Error {
    Error::new(
        ErrorCode::JournalFailed,
        format!("the session's events from {seq} on cannot be read: {cause}"),
    )
    .hint("`cldpd journal verify` says what is damaged")
}

struct BlocksFeed {
    session: String,
    query: EventsQuery,
}

/// What was asked for, in numbers.
#[derive(Clone, Copy)]
struct Begin {
    session: Ulid,
    /// Events after this one.
    after: u64,
    /// And none after this one.
    last: Option<u64>,
}

enum Item {
    Begin(Begin),
    Blocks(Vec<(Header, Vec<u8>)>),
}

impl Feed for BlocksFeed {
    type Parser = BlockParser;

    fn request(&self) -> Result<Exchange> {
        Exchange::new(Method::GET, &["sessions", &self.session, "blocks"])
            .accepting(block::CONTENT_TYPE)
            .query(&self.query)
    }

    fn advance(&mut self, item: &Item) {
        // What the last lines are is settled once.
        (self.query.tail, self.query.last) = (None, None);
        let after = match item {
            Item::Begin(begin) => {
                // What names this session now may name another one later.
                self.session = begin.session.to_string();
                begin.after
            }
            Item::Blocks(blocks) => blocks.last().map_or(0, |(header, _)| header.last_seq()),
        };
        self.query.after = Some(after.max(self.query.after.unwrap_or(0)));
    }
}

/// Makes groups of a body's blocks.
#[derive(Default)]
struct BlockParser {
    frames: Frames,
    /// A control that came behind blocks which are given out first.
    control: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct Control {
    session: Option<Ulid>,
    after: Option<u64>,
    last: Option<u64>,
    #[serde(default)]
    end: bool,
    error: Option<Error>,
}

impl Parser for BlockParser {
    type Item = Item;

    fn push(&mut self, bytes: Bytes) {
        self.frames.push(&bytes);
    }

    fn next(&mut self) -> Parsed<Item> {
        let mut blocks = Vec::new();
        let mut raw_len = 0;
        while self.control.is_none() && raw_len < GROUP {
            match self.frames.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Control(json))) => self.control = Some(json),
                Ok(Some(Frame::Block(header, bytes))) => {
                    raw_len += header.raw_len();
                    blocks.push((header, bytes));
                }
                // What came before it is given out; it will be found again.
                Err(_) if !blocks.is_empty() => break,
                Err(error) => return Parsed::Failed(not_understood(&error)),
            }
        }
        if !blocks.is_empty() {
            return Parsed::Item(Item::Blocks(blocks));
        }
        match self.control.take() {
            Some(json) => read_control(&json),
            None => Parsed::More,
        }
    }
}

fn read_control(json: &[u8]) -> Parsed<Item> {
    match serde_json::from_slice(json) {
        Ok(Control {
            error: Some(error), ..
        }) => Parsed::Failed(error),
        Ok(Control { end: true, .. }) => Parsed::End,
        Ok(Control {
            session: Some(session),
            after: Some(after),
            last,
            ..
        }) => Parsed::Item(Item::Begin(Begin {
            session,
            after,
            last,
        })),
        Ok(Control { .. }) => Parsed::Failed(not_understood(&"a control that says nothing")),
        Err(error) => Parsed::Failed(not_understood(&error)),
    }
}

fn not_understood(cause: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!("the daemon sent blocks that are not understood: {cause}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::stream::control;
    use crate::client::testing::{Answer, Server, block};
    use futures::TryStreamExt as _;
    use proptest::prelude::*;
    use serde_json::json;

    fn begin(after: u64) -> Vec<u8> {
        control(&json!({ "session": Ulid(7), "after": after }))
    }

    fn end() -> Vec<u8> {
        control(&json!({ "end": true }))
    }

    /// What comes of a body, up to its end or an error.
    async fn seqs(server: &Server, query: EventsQuery) -> (Vec<u64>, Option<Error>) {
        let mut stream = chunks(&server.client(), "S", query).await.unwrap();
        let mut found = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(chunk)) => {
                    for event in chunk.events() {
                        match event {
                            Ok(event) => found.push(event.seq),
                            Err(error) => return (found, Some(error)),
                        }
                    }
                }
                Ok(None) => return (found, None),
                Err(error) => {
                    // After an error nothing more comes.
                    assert!(matches!(stream.try_next().await, Ok(None)));
                    return (found, Some(error));
                }
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_broken_stream_goes_on_after_the_last_whole_block() {
        let half = block(6..=9);
        let server = Server::start([
            Answer::bytes(&[&begin(2), &block(1..=4), &block(5..=5), &half[..60]]),
            Answer::Break,
            // Meanwhile blocks were merged.
            Answer::bytes(&[&begin(5), &block(1..=8)]),
            Answer::bytes(&[&begin(8), &block(9..=9), &end()]),
        ])
        .unwrap();
        let query = EventsQuery {
            tail: Some(9),
            follow: true,
            ..EventsQuery::default()
        };
        assert_eq!(seqs(&server, query).await, ((3..=9).collect(), None));
        let requests = server.requests();
        assert_eq!(requests[0], "GET /v1/sessions/S/blocks?follow=true&tail=9");
        // From then on the very session is asked, not what names it.
        let asked = |target: &str| format!("GET /v1/sessions/{}/blocks?{target}", Ulid(7));
        assert_eq!(requests[1], asked("after=5&follow=true"));
        assert_eq!(requests[3], asked("after=8&follow=true"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_came_before_is_not_given_again_when_blocks_are_merged() {
        let body = [begin(1), block(1..=3), block(1..=8), block(4..=9), end()].concat();
        let server = Server::start([Answer::bytes(&[&body])]).unwrap();
        let found = seqs(&server, EventsQuery::default()).await;
        assert_eq!(found, ((2..=9).collect(), None));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_came_after_the_end_that_was_asked_for_is_left_out() {
        let begin = |after: u64, last: u64| {
            control(&json!({ "session": Ulid(7), "after": after, "last": last }))
        };
        let server = Server::start([
            Answer::bytes(&[&begin(0, 6), &block(1..=4)]),
            Answer::bytes(&[&begin(4, 9), &block(4..=9), &end()]),
        ])
        .unwrap();
        let found = seqs(&server, EventsQuery::default()).await;
        assert_eq!(found, ((1..=6).collect(), None));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stream_that_cannot_be_true_is_an_error() {
        let end = end();
        let mut flipped = block(1..=3);
        *flipped.last_mut().unwrap() ^= 1;
        let mut huge = block(1..=200);
        huge[36..40].copy_from_slice(&u32::MAX.to_be_bytes());
        let bodies: [(&[&[u8]], &str); 8] = [
            (&[b"<html>"], "is no block"),
            (&[&begin(0), &block(2..=3), &end], "after event 0"),
            (
                &[&begin(0), &block(1..=3), &block(5..=6), &end],
                "after event 3",
            ),
            (
                &[&begin(0), &block(1..=3), &block(1..=3), &end],
                "after event 3",
            ),
            (&[&begin(0), &flipped, &end], "checksum"),
            (&[&begin(0), &huge], "contradicts"),
            (&[&begin(0), &control(&json!({}))], "says nothing"),
            (&[&begin(0), b"cldc\xff\xff\xff\xff"], "another length"),
        ];
        for (parts, cause) in bodies {
            let server = Server::start([Answer::bytes(parts)]).unwrap();
            let (_, error) = seqs(&server, EventsQuery::default()).await;
            let error = error.expect(cause);
            assert!(error.message.contains(cause), "{cause}: {error:?}");
            assert_eq!(server.requests().len(), 1, "{cause}: asked again");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_error_of_the_daemons_ends_it() {
        let told = Error::new(ErrorCode::Gone, "it was removed");
        let last = control(&json!({ "error": told }));
        let answer = Answer::bytes(&[&begin(0), &block(1..=2), &last]);
        let server = Server::start([answer]).unwrap();
        let found = seqs(&server, EventsQuery::default()).await;
        assert_eq!(found, (vec![1, 2], Some(told)));
    }

    proptest! {
        #[test]
        fn bytes_that_are_changed_give_the_same_events_or_an_error(
            at in any::<proptest::sample::Index>(),
            flip in 1u8..,
        ) {
            let mut bytes = [begin(0), block(1..=40), block(41..=90), end()].concat();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (found, error) = runtime.block_on(async {
                let answers = std::iter::repeat_n(Answer::bytes(&[&bytes]), 9);
                let server = Server::start(answers).unwrap();
                seqs(&server, EventsQuery::default()).await
            });
            // Where it begins and ends is said without a checksum.
            let whole = found.iter().copied().eq(found.first().copied().unwrap_or(1)..91);
            prop_assert!(whole || error.is_some(), "{:?}", found);
        }
    }
}
