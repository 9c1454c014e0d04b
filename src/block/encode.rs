//! Writing blocks.

use super::varint;
use super::{
    Body, CODEC_NONE, CODEC_ZSTD, COUNT_FULL, EVENT_OVERHEAD, EventRef, HEADER_LEN, Header,
    RAW_FULL, TAG_CONTINUED, TAG_JSON, TAG_SAME_RUN, TAG_STDERR, TAG_STDOUT,
};
use crate::model::{Event, EventKind, Stream, Timestamp};
use std::fmt;

/// Below this, compression does not pay.
const COMPRESS_FROM: usize = 96;
/// zstd's level for what is written while somebody waits.
const LEVEL: i32 = 1;
/// zstd's level for blocks that nobody waits for. They are read as fast.
const COMPACTED_LEVEL: i32 = 9;
/// zstd's level for blocks that are merged.
const SEALED_LEVEL: i32 = 3;

/// The body of an event that is not an output.
///
/// # Errors
/// When it cannot be written as JSON.
pub(crate) fn body(kind: &EventKind) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(kind)
}

/// An encoded block.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// What it says about itself.
    pub(crate) header: Header,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
}

/// Puts consecutive events of one session into as few blocks as they need.
pub(crate) struct Encoder {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    raw: Vec<u8>,
    count: u32,
    first_seq: u64,
    first_time: i64,
    run: u32,
    time: i64,
    done: Vec<Encoded>,
}

impl Encoder {
    /// An encoder; it is used again and again.
    pub(crate) fn new() -> Self {
        Self::with_level(LEVEL)
    }

    /// An encoder of blocks that are not written again soon.
    pub(crate) fn sealing() -> Self {
        Self::with_level(SEALED_LEVEL)
    }

    /// An encoder of blocks that are written once and for all.
    pub(crate) fn compacting() -> Self {
        Self::with_level(COMPACTED_LEVEL)
    }

    fn with_level(level: i32) -> Self {
        Self {
            compressor: zstd::bulk::Compressor::new(level).ok(),
            raw: Vec::new(),
            count: 0,
            first_seq: 0,
            first_time: 0,
            run: 0,
            time: 0,
            done: Vec::new(),
        }
    }

    /// Adds an event: the next one, with a body of at most [`BODY_MAX`] bytes.
    pub(crate) fn push(&mut self, event: EventRef<'_>) {
        let (tag, data) = match event.body {
            Body::Json(json) => (TAG_JSON, json),
            Body::Output {
                stream,
                continued,
                data,
            } => {
                let tag = match stream {
                    Stream::Stdout => TAG_STDOUT,
                    Stream::Stderr => TAG_STDERR,
                };
                (if continued { tag | TAG_CONTINUED } else { tag }, data)
            }
        };
        let full = self.raw.len() + data.len() + EVENT_OVERHEAD > RAW_FULL;
        if self.count > 0 && (full || self.count == COUNT_FULL) {
            self.cut();
        }
        if self.count == 0 {
            self.first_seq = event.seq;
            self.first_time = event.time.0;
            self.time = event.time.0;
            self.run = 0;
        }
        debug_assert_eq!(event.seq, self.first_seq + u64::from(self.count));
        self.count += 1;
        if event.run == self.run {
            self.raw.push(tag | TAG_SAME_RUN);
        } else {
            self.raw.push(tag);
            varint::put(&mut self.raw, u64::from(event.run));
            self.run = event.run;
        }
        let passed = event.time.0.wrapping_sub(self.time);
        varint::put(&mut self.raw, varint::zigzag(passed));
        self.time = event.time.0;
        varint::put(&mut self.raw, data.len() as u64);
        self.raw.extend_from_slice(data);
    }

    /// How many blocks are full.
    pub(crate) fn done(&self) -> usize {
        self.done.len()
    }

    /// The blocks that are full; what was added last may wait for more.
    pub(crate) fn take(&mut self) -> Vec<Encoded> {
        std::mem::take(&mut self.done)
    }

    /// The blocks of everything added since the last call.
    pub(crate) fn finish(&mut self) -> Vec<Encoded> {
        if self.count > 0 {
            self.cut();
        }
        std::mem::take(&mut self.done)
    }

    fn cut(&mut self) {
        let compressed = self.compressed();
        let (codec, payload) = match &compressed {
            Some(smaller) => (CODEC_ZSTD, smaller),
            None => (CODEC_NONE, &self.raw),
        };
        let mut header = Header {
            codec,
            count: self.count,
            first_seq: self.first_seq,
            first_time: Timestamp(self.first_time),
            last_time: Timestamp(self.time),
            raw_len: self.raw.len() as u32,
            stored_len: payload.len() as u32,
            crc: 0,
        };
        let crc = crc32c::crc32c(&header.to_bytes()[..HEADER_LEN - 4]);
        header.crc = crc32c::crc32c_append(crc, payload);
        let mut bytes = Vec::with_capacity(header.size());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(payload);
        self.done.push(Encoded { header, bytes });
        self.raw.clear();
        // One huge event must not hold its memory for the rest of the life.
        self.raw.shrink_to(2 * RAW_FULL);
        self.count = 0;
    }

    fn compressed(&mut self) -> Option<Vec<u8>> {
        if self.raw.len() < COMPRESS_FROM {
            return None;
        }
        let smaller = self.compressor.as_mut()?.compress(&self.raw).ok()?;
        (smaller.len() < self.raw.len()).then_some(smaller)
    }
}

/// The event as a block holds it; `json` is made by [`body`] and is not looked
/// at for an output.
pub(crate) fn event_ref<'a>(event: &'a Event, json: &'a [u8]) -> EventRef<'a> {
    let body = match &event.kind {
        EventKind::Output(output) => Body::Output {
            stream: output.stream,
            continued: output.continued,
            data: &output.data,
        },
        _ => Body::Json(json),
    };
    EventRef {
        seq: event.seq,
        run: event.run,
        time: event.time,
        body,
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
