//! Blocks: consecutive events of one session, encoded, compressed, checksummed.
//!
//! They lie in the journal so, and go to clients so (see [`stream`]).
//!
//! Whatever bytes come in, decoding ends with a block or an error: it does not
//! panic, and allocates at most [`RAW_MAX`] bytes beside what the events hold.
//!
//! # Format 1
//!
//! Numbers of fixed size are big-endian. The header has 48 bytes:
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 4 | magic: `cldb` |
//! | 4 | 1 | format: 1 |
//! | 5 | 1 | codec of the payload: 0 as it is, 1 one zstd frame |
//! | 6 | 2 | zero |
//! | 8 | 4 | number of events, 1 to 65,536 |
//! | 12 | 8 | `seq` of the first event; the others follow without a hole |
//! | 20 | 8 | time of the first event, nanoseconds since 1970 (signed) |
//! | 28 | 8 | time of the last event |
//! | 36 | 4 | length of the payload before compression |
//! | 40 | 4 | length of the payload as it is stored |
//! | 44 | 4 | CRC-32C of bytes 0 to 43 and of the stored payload |
//!
//! The payload is the events, one after the other. `varint` is LEB128, seven
//! bits a byte, low ones first:
//!
//! | what | form | note |
//! |---|---|---|
//! | tag | 1 byte | bits 0–1: 0 JSON, 1 output on stdout, 2 output on stderr, 3 never; bit 2: `continued` (outputs only); bit 3: the run is that of the event before; bits 4–7: zero |
//! | run | varint | only when bit 3 is clear; the event before the first counts as run 0 |
//! | time | varint | difference to the event before in nanoseconds, signed by zigzag; to the header's first time for the first event |
//! | length | varint | of the body |
//! | body | bytes | of an output: its bytes, exactly; else: [`EventKind`] as JSON |
//!
//! In the database a block is cut into parts of at most 6 KiB; see `store::parts`.

mod encode;
pub mod stream;
pub(crate) mod varint;

use crate::model::{Event, EventKind, Output, Stream, Timestamp};
use std::cell::RefCell;
use varint::Bytes;

pub(crate) use encode::{Encoded, Encoder, body, event_ref};
pub use stream::{CONTENT_TYPE, Frame, Frames};

/// Largest body of one event, in bytes.
pub const BODY_MAX: usize = 64 * 1024 * 1024;
/// Largest payload before compression: one event of the largest size.
pub const RAW_MAX: usize = BODY_MAX + EVENT_OVERHEAD;
/// A block is full when its payload reaches this. Only a single event may go beyond.
pub(crate) const RAW_FULL: usize = 256 * 1024;
/// A block is full when it has so many events, however small.
const COUNT_FULL: u32 = 4096;
/// No block has more events than this.
const COUNT_MAX: u64 = 65_536;
/// Length of the header.
pub(crate) const HEADER_LEN: usize = 48;

const MAGIC: [u8; 4] = *b"cldb";
const FORMAT: u8 = 1;
const CODEC_NONE: u8 = 0;
const CODEC_ZSTD: u8 = 1;
/// Most that tag, run, time and length of an event take.
const EVENT_OVERHEAD: usize = 1 + 5 + 10 + 10;
/// Least that an event takes.
const EVENT_LEAST: u64 = 3;

const TAG_KIND: u8 = 0b0011;
const TAG_JSON: u8 = 0;
const TAG_STDOUT: u8 = 1;
const TAG_STDERR: u8 = 2;
const TAG_CONTINUED: u8 = 0b0100;
const TAG_SAME_RUN: u8 = 0b1000;

/// Why a block cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It is shorter or longer than it says.
    #[error("the block has another length than it says")]
    Length,
    /// It does not begin as a block does.
    #[error("this is no block")]
    Magic,
    /// It was written by a newer version.
    #[error("the block has format {0}, which this version does not know")]
    Format(u8),
    /// Its checksum is not that of its bytes.
    #[error("the block's checksum is wrong")]
    Checksum,
    /// Its header contradicts itself.
    #[error("the block's header contradicts itself")]
    Header,
    /// It cannot be decompressed.
    #[error("the block cannot be decompressed")]
    Compression,
    /// An event in it is malformed.
    #[error("event {0} in the block is malformed")]
    Event(u64),
    /// One of its parts is missing.
    #[error("part {0} of the block is missing")]
    Part(u16),
}

/// What a block says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of events.
    pub count: u32,
    /// The first event's number.
    pub first_seq: u64,
    /// The first event's time.
    pub first_time: Timestamp,
    /// The last event's time.
    pub last_time: Timestamp,
    codec: u8,
    raw_len: u32,
    stored_len: u32,
    crc: u32,
}

impl Header {
    /// Reads the header at the beginning of `bytes`.
    ///
    /// # Errors
    /// When there is none, or it contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, BlockError> {
        let mut bytes = Bytes(bytes);
        if bytes.array().ok_or(BlockError::Length)? != MAGIC {
            return Err(BlockError::Magic);
        }
        let format = bytes.byte().ok_or(BlockError::Length)?;
        if format != FORMAT {
            return Err(BlockError::Format(format));
        }
        let (header, zero) = Self::parse_fields(&mut bytes).ok_or(BlockError::Length)?;
        if zero == 0 && header.agrees() {
            Ok(header)
        } else {
            Err(BlockError::Header)
        }
    }

    fn parse_fields(bytes: &mut Bytes<'_>) -> Option<(Self, u16)> {
        let codec = bytes.byte()?;
        let zero = u16::from_be_bytes(bytes.array()?);
        let header = Self {
            codec,
            count: u32::from_be_bytes(bytes.array()?),
            first_seq: u64::from_be_bytes(bytes.array()?),
            first_time: Timestamp(i64::from_be_bytes(bytes.array()?)),
            last_time: Timestamp(i64::from_be_bytes(bytes.array()?)),
            raw_len: u32::from_be_bytes(bytes.array()?),
            stored_len: u32::from_be_bytes(bytes.array()?),
            crc: u32::from_be_bytes(bytes.array()?),
        };
        Some((header, zero))
    }

    /// Whether its fields fit each other. What follows relies on it: no sum
    /// overflows, and no length exceeds [`RAW_MAX`].
    fn agrees(&self) -> bool {
        let count = u64::from(self.count);
        let lengths_fit = match self.codec {
            CODEC_NONE => self.stored_len == self.raw_len,
            CODEC_ZSTD => self.stored_len < self.raw_len,
            _ => false,
        };
        lengths_fit
            && (1..=COUNT_MAX).contains(&count)
            && self.first_seq > 0
            && self.first_seq.checked_add(count).is_some()
            && self.raw_len() <= RAW_MAX
            && count * EVENT_LEAST <= u64::from(self.raw_len)
    }

    /// The last event's number.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.first_seq + (self.count as u64 - 1)
    }

    /// Length of the whole block, header included.
    #[must_use]
    pub const fn size(&self) -> usize {
        HEADER_LEN + self.stored_len as usize
    }

    /// Length of the payload before compression.
    #[must_use]
    pub const fn raw_len(&self) -> usize {
        self.raw_len as usize
    }

    fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = FORMAT;
        out[5] = self.codec;
        out[8..12].copy_from_slice(&self.count.to_be_bytes());
        out[12..20].copy_from_slice(&self.first_seq.to_be_bytes());
        out[20..28].copy_from_slice(&self.first_time.0.to_be_bytes());
        out[28..36].copy_from_slice(&self.last_time.0.to_be_bytes());
        out[36..40].copy_from_slice(&self.raw_len.to_be_bytes());
        out[40..44].copy_from_slice(&self.stored_len.to_be_bytes());
        out[44..48].copy_from_slice(&self.crc.to_be_bytes());
        out
    }
}

/// What an event holds, as it stands in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Output of the agent's process.
    Output {
        /// The stream.
        stream: Stream,
        /// No newline followed.
        continued: bool,
        /// The bytes, exactly.
        data: &'a [u8],
    },
    /// Any other [`EventKind`], as JSON.
    Json(&'a [u8]),
}

/// An event in a block, not yet taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// Its number.
    pub seq: u64,
    /// Its run.
    pub run: u32,
    /// Its time.
    pub time: Timestamp,
    /// The rest.
    pub body: Body<'a>,
}

impl EventRef<'_> {
    /// The stream that it is output of; none for other kinds of event.
    #[must_use]
    pub const fn stream(&self) -> Option<Stream> {
        match self.body {
            Body::Output { stream, .. } => Some(stream),
            Body::Json(_) => None,
        }
    }

    /// Length of its body, in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        match self.body {
            Body::Output { data, .. } | Body::Json(data) => data.len(),
        }
    }

    /// The event.
    ///
    /// # Errors
    /// When its JSON is no event of this version's.
    pub fn to_event(self) -> Result<Event, BlockError> {
        let kind = match self.body {
            Body::Output {
                stream,
                continued,
                data,
            } => EventKind::Output(Output {
                stream,
                data: data.to_vec(),
                continued,
            }),
            Body::Json(json) => {
                serde_json::from_slice(json).map_err(|_| BlockError::Event(self.seq))?
            }
        };
        Ok(Event {
            seq: self.seq,
            run: self.run,
            time: self.time,
            kind,
        })
    }
}

/// A block that was read and found whole.
#[derive(Clone, Debug)]
pub struct Block {
    header: Header,
    raw: Vec<u8>,
}

thread_local! {
    /// Making a decompressor costs more than decompressing a small block.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

impl Block {
    /// Reads a block: header and payload, nothing before or after.
    ///
    /// # Errors
    /// When `bytes` is not exactly what was written.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        Self::decode_into(bytes, Vec::new())
    }

    /// The same, into memory that is used again.
    ///
    /// # Errors
    /// As [`Block::decode`].
    pub fn decode_into(bytes: &[u8], mut raw: Vec<u8>) -> Result<Self, BlockError> {
        let header = Header::parse(bytes)?;
        if bytes.len() != header.size() {
            return Err(BlockError::Length);
        }
        let (head, payload) = bytes.split_at(HEADER_LEN);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..HEADER_LEN - 4]), payload);
        if crc != header.crc {
            return Err(BlockError::Checksum);
        }
        raw.clear();
        if header.codec == CODEC_NONE {
            raw.extend_from_slice(payload);
        } else {
            decompress(payload, header.raw_len(), &mut raw).ok_or(BlockError::Compression)?;
        }
        if raw.len() != header.raw_len() {
            return Err(BlockError::Length);
        }
        Ok(Self { header, raw })
    }

    /// What it says about itself.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Its payload, decompressed: what the events' bodies are pieces of.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.raw
    }

    /// The memory that it took, to be used again.
    #[must_use]
    pub fn into_payload(self) -> Vec<u8> {
        self.raw
    }

    /// The events in it, in order. Ends after the first malformed one.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events {
            rest: Bytes(&self.raw),
            left: self.header.count,
            seq: self.header.first_seq,
            run: 0,
            time: self.header.first_time.0,
        }
    }
}

fn decompress(payload: &[u8], len: usize, raw: &mut Vec<u8>) -> Option<()> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Decompressor::new().ok();
        }
        raw.reserve_exact(len);
        slot.as_mut()?.decompress_to_buffer(payload, raw).ok()?;
        Some(())
    })
}

/// The events of a block.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    rest: Bytes<'a>,
    left: u32,
    seq: u64,
    run: u32,
    time: i64,
}

impl<'a> Events<'a> {
    fn parse(&mut self) -> Option<EventRef<'a>> {
        let tag = self.rest.byte()?;
        if tag & !(TAG_KIND | TAG_CONTINUED | TAG_SAME_RUN) != 0 {
            return None;
        }
        if tag & TAG_SAME_RUN == 0 {
            self.run = u32::try_from(self.rest.varint()?).ok()?;
        }
        let passed = varint::unzigzag(self.rest.varint()?);
        self.time = self.time.wrapping_add(passed);
        let len = usize::try_from(self.rest.varint()?).ok()?;
        let data = self.rest.take(len)?;
        let continued = tag & TAG_CONTINUED != 0;
        let output = |stream| Body::Output {
            stream,
            continued,
            data,
        };
        let body = match tag & TAG_KIND {
            TAG_JSON if !continued => Body::Json(data),
            TAG_STDOUT => output(Stream::Stdout),
            TAG_STDERR => output(Stream::Stderr),
            _ => return None,
        };
        Some(EventRef {
            seq: self.seq,
            run: self.run,
            time: Timestamp(self.time),
            body,
        })
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<EventRef<'a>, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let event = self.parse();
        // Bytes after the last event would be lost when blocks are merged.
        let surplus = self.left == 0 && !self.rest.0.is_empty();
        let Some(event) = event.filter(|_| !surplus) else {
            self.left = 0;
            return Some(Err(BlockError::Event(self.seq)));
        };
        self.seq += 1;
        Some(Ok(event))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}

#[cfg(test)]
mod tests;
