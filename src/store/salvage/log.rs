//! The log of sled 0.34, as it lies in the file `db`: read without sled, which
//! cannot open a database without writing to it, and cuts off what follows damage.
//!
//! The file is a row of segments of 512 KiB. A segment begins with a header of
//! 20 bytes: CRC-32 (inverted) of the rest, its place in the log (`lsn`), the
//! place up to which the log was stable; both exclusive-or 2^63 - 1. Messages
//! follow: CRC-32 (inverted, of the payload and then the header's rest), kind,
//! and as sled's varints the payload's length, the segment's number and the
//! page; then the payload. All numbers are little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Length of a segment.
pub(super) const SEGMENT: u64 = 512 * 1024;
const SEGMENT_HEADER: usize = 20;
/// No message begins so near to a segment's end.
const HEADER_MAX: usize = 32;

/// A segment that has a whole header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Its place in the log.
    pub(super) lsn: u64,
    /// Its place in the file.
    pub(super) offset: u64,
    /// Up to where the log was stable when it was begun.
    pub(super) stable: u64,
}

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing; its payload is padding.
    Cap,
    /// Nothing that matters here.
    Other,
    /// The page is no more.
    Free,
    /// The page is this from here on.
    Node,
    /// The page is changed by this.
    Link,
}

/// A whole message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) page: u64,
    pub(super) lsn: u64,
    /// Its payload, and where that is in the file.
    pub(super) payload: &'a [u8],
    pub(super) offset: u64,
}

/// Bytes of a segment that are no message, though messages follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) lsn: u64,
    /// Where it is in the file.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The segments of a log in its order, from the one that has `from_lsn` on.
pub(super) fn segments(file: &File, from_lsn: u64) -> io::Result<Vec<Segment>> {
    let len = file.metadata()?.len();
    let mut found = Vec::new();
    let mut offset = 0;
    while offset + SEGMENT_HEADER as u64 <= len {
        let mut header = [0; SEGMENT_HEADER];
        file.read_exact_at(&mut header, offset)?;
        if let Some((lsn, stable)) = segment_header(&header)
            && lsn + SEGMENT > from_lsn
        {
            found.push(Segment {
                lsn,
                offset,
                stable,
            });
        }
        offset += SEGMENT;
    }
    found.sort_by_key(|segment| segment.lsn);
    Ok(found)
}

/// A segment's place in the log, and up to where that was stable.
fn segment_header(header: &[u8; SEGMENT_HEADER]) -> Option<(u64, u64)> {
    let (crc, rest) = header.split_first_chunk::<4>()?;
    let (lsn, stable) = rest.split_first_chunk::<8>()?;
    let whole = crc32fast::hash(rest) == !u32::from_le_bytes(*crc);
    let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes) ^ (u64::MAX >> 1);
    let (lsn, stable) = (number(lsn), number(stable.first_chunk()?));
    // Before anything is stable the number is -1.
    let stable = i64::try_from(stable).map_or(0, i64::unsigned_abs);
    (whole && lsn.is_multiple_of(SEGMENT)).then_some((lsn, stable))
}

/// Reads a segment's messages, also behind what is damaged. Returns where they
/// end, if that is before the segment's end and nothing says so: it is the log's
/// last, or its end is damaged.
pub(super) fn read(
    file: &File,
    segment: Segment,
    message: &mut dyn FnMut(Message<'_>),
    hole: &mut dyn FnMut(Hole),
) -> io::Result<Option<u64>> {
    let mut bytes = vec![0; SEGMENT as usize];
    let len = fill(file, &mut bytes, segment.offset)?;
    bytes.truncate(len);
    let number = segment.lsn / SEGMENT;
    let mut at = SEGMENT_HEADER;
    let mut torn: Option<usize> = None;
    while at + HEADER_MAX <= SEGMENT as usize && at < bytes.len() {
        let Some((found, end)) = parse(&bytes, at, number) else {
            torn.get_or_insert(at);
            at += 1;
            continue;
        };
        if let Some(from) = torn.take() {
            hole(Hole {
                lsn: segment.lsn + from as u64,
                from: segment.offset + from as u64,
                to: segment.offset + at as u64,
            });
        }
        if found.kind == Kind::Cap {
            return Ok(None);
        }
        message(Message {
            lsn: segment.lsn + at as u64,
            offset: segment.offset + found.offset,
            ..found
        });
        at = end;
    }
    let torn = torn.or((at + HEADER_MAX <= SEGMENT as usize).then_some(at));
    Ok(torn.map(|at| segment.lsn + at as u64))
}

fn fill(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64)? {
            0 => break,
            more => done += more,
        }
    }
    Ok(done)
}

/// The message at `at` of a segment, and where it ends.
fn parse(segment: &[u8], at: usize, number: u64) -> Option<(Message<'_>, usize)> {
    let mut rest = Payload(segment.get(at + 4..)?);
    let kind = match rest.byte()? {
        2 => Kind::Cap,
        4 => Kind::Free,
        8 => Kind::Node,
        10 => Kind::Link,
        1 | 3 | 5 | 6 | 7 | 9 | 11 => Kind::Other,
        _ => return None,
    };
    let len = usize::try_from(rest.varint()?).ok()?;
    if rest.varint()? != number {
        return None;
    }
    let page = rest.varint()?;
    let payload = rest.0.get(..len)?;
    let start = segment.len() - rest.0.len();
    let crc = u32::from_le_bytes(*segment[at..].first_chunk()?);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(payload);
    hasher.update(&segment[at + 4..start]);
    if hasher.finalize() != !crc {
        return None;
    }
    let message = Message {
        kind,
        page,
        lsn: 0,
        payload,
        offset: start as u64,
    };
    Some((message, start + len))
}

/// Takes a payload apart.
pub(super) struct Payload<'a>(pub(super) &'a [u8]);

impl<'a> Payload<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// sled's own: up to 240 as it is; then with 1, 2 or up to 8 further bytes.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let first = u64::from(self.byte()?);
        Some(match first {
            0..=240 => first,
            241..=248 => 240 + 256 * (first - 241) + u64::from(self.byte()?),
            249 => 2288 + 256 * u64::from(self.byte()?) + u64::from(self.byte()?),
            _ => {
                let mut bytes = [0; 8];
                let len = usize::try_from(first - 247).ok()?;
                let (head, rest) = self.0.split_at_checked(len)?;
                bytes[..len].copy_from_slice(head);
                self.0 = rest;
                u64::from_le_bytes(bytes)
            }
        })
    }

    /// Bytes with their length before them.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
}
