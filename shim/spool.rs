//! The format of the spool: segments of frames, each frame with a checksum.
//!
//! A segment is a header of [`HEADER`] bytes and then frames. Positions are
//! counted in bytes of frames over all segments, without the headers; a
//! segment's header says where its first frame stands. Numbers are
//! little-endian.
//!
//! ```text
//! header  magic 8, version 2, zero 2, number 4, session 16, run 4, attempt 4,
//!         boot id 16, base 8, first ordinal 8, zero 20, CRC of all before it 4
//! frame   payload length 4, CRC of the rest 4, kind 1, stream 1, flags 1, zero 1,
//!         run 4, position 8 (in its stream; of a control record its ordinal),
//!         nanoseconds since 1970 8, payload
//! ```
//!
//! The checksum also covers the length. Decoding never panics, whatever the bytes.

use super::bytes::{Bad, Put, Take};
use super::crc::crc32c;

/// What a segment begins with.
pub const MAGIC: [u8; 8] = *b"cldpdspl";
/// The format's version.
pub const VERSION: u16 = 1;
/// Length of a segment's header.
pub const HEADER: usize = 96;
/// Length of a frame's header.
pub const FRAME_HEADER: usize = 32;
/// Longest payload of a frame.
pub const PAYLOAD_MAX: usize = 256 * 1024;
/// Longest text in a control record; longer ones are cut.
pub const TEXT_MAX: usize = 4 * 1024;

/// So much of a disk of `all` bytes output leaves free: its reader needs room there, too,
/// or a disk that spools filled would stay full.
#[must_use]
pub const fn left_free(all: u64) -> u64 {
    let most = 32 * 1024 * 1024;
    if all / 4 < most { all / 4 } else { most }
}

/// The first bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number, as in its file's name.
    pub number: u32,
    /// The session.
    pub session: u128,
    /// The session's run.
    pub run: u32,
    /// The attempt at it.
    pub attempt: u32,
    /// The machine's boot, by its kernel's word.
    pub boot: [u8; 16],
    /// Where the first frame stands.
    pub base: u64,
    /// The ordinal of the first control record that comes.
    pub ordinal: u64,
}

impl SegmentHeader {
    /// As it is written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put_u32(self.number);
        out.put_u128(self.session);
        out.put_u32(self.run);
        out.put_u32(self.attempt);
        out.extend_from_slice(&self.boot);
        out.put_u64(self.base);
        out.put_u64(self.ordinal);
        out.resize(HEADER - 4, 0);
        let crc = crc32c(&out);
        out.put_u32(crc);
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none, of another version, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Bad("the header is too short"))?;
        let (body, crc) = header.split_at(HEADER - 4);
        let mut take = Take::new(body);
        if take.array::<8>()? != MAGIC {
            return Err(Bad("this is no spool"));
        }
        if take.u16()? != VERSION {
            return Err(Bad("the spool is of another version"));
        }
        if Take::new(crc).u32()? != crc32c(body) {
            return Err(Bad("the header's checksum is wrong"));
        }
        take.u16()?;
        Ok(Self {
            number: take.u32()?,
            session: take.u128()?,
            run: take.u32()?,
            attempt: take.u32()?,
            boot: take.array()?,
            base: take.u64()?,
            ordinal: take.u64()?,
        })
    }
}

/// The name of a segment's file.
#[must_use]
pub fn segment_name(number: u32) -> String {
    format!("spool.{number:04}")
}

/// The number in the name of a segment's file.
#[must_use]
pub fn segment_number(name: &str) -> Option<u32> {
    let number: u32 = name.strip_prefix("spool.")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// What kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a process wrote.
    Output {
        /// Standard error, else standard output or a terminal's.
        stderr: bool,
        /// A secret's value was replaced in it.
        redacted: bool,
    },
    /// What the shim has to say.
    Control,
}

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// What kind.
    pub kind: Kind,
    /// The shim's run; 0 of a control record.
    pub run: u32,
    /// The first byte's position in its stream; of a control record its ordinal.
    pub position: u64,
    /// Nanoseconds since 1970.
    pub time: i64,
}

/// Fills in the header of `frame`: [`FRAME_HEADER`] bytes of room, then the payload.
///
/// # Panics
/// Never: a frame that is shorter than its header is left alone.
pub fn seal(frame: &mut [u8], head: &FrameHead) {
    let length = frame.len().saturating_sub(FRAME_HEADER);
    let Some(room) = frame.first_chunk_mut::<FRAME_HEADER>() else {
        return;
    };
    let (kind, stream, flags) = match head.kind {
        Kind::Output { stderr, redacted } => (1, if stderr { 2 } else { 1 }, u8::from(redacted)),
        Kind::Control => (2, 0, 0),
    };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    room[8..12].copy_from_slice(&[kind, stream, flags, 0]);
    room[12..16].copy_from_slice(&head.run.to_le_bytes());
    room[16..24].copy_from_slice(&head.position.to_le_bytes());
    room[24..32].copy_from_slice(&head.time.to_le_bytes());
    room[0..4].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c(&frame[8..]) ^ length.rotate_left(16);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// What stands at the front of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A frame, and how long it is with its header.
    Frame(FrameHead, &'a [u8], usize),
    /// The beginning of a frame of this length (if it is one), its header included.
    Incomplete(usize),
    /// No frame.
    Bad(&'static str),
}

/// Reads the frame at the front of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(head) = bytes.first_chunk::<FRAME_HEADER>() else {
        return Parsed::Incomplete(FRAME_HEADER);
    };
    let mut take = Take::new(head);
    match parse_head(&mut take) {
        Err(Bad(why)) => Parsed::Bad(why),
        Ok((length, crc, frame_head)) => {
            let whole = FRAME_HEADER + length as usize;
            let Some(frame) = bytes.get(..whole) else {
                return Parsed::Incomplete(whole);
            };
            if crc32c(&frame[8..]) ^ length.rotate_left(16) != crc {
                return Parsed::Bad("a frame's checksum is wrong");
            }
            match frame_head {
                Ok(head) => Parsed::Frame(head, &frame[FRAME_HEADER..], whole),
                Err(Bad(why)) => Parsed::Bad(why),
            }
        }
    }
}

type Head = (u32, u32, Result<FrameHead, Bad>);

fn parse_head(take: &mut Take<'_>) -> Result<Head, Bad> {
    let length = take.u32()?;
    if length as usize > PAYLOAD_MAX {
        return Err(Bad("a frame is longer than frames can be"));
    }
    let crc = take.u32()?;
    let [kind, stream, flags, _] = take.array::<4>()?;
    let run = take.u32()?;
    let position = take.u64()?;
    let time = i64::from_le_bytes(take.array()?);
    let kind = match (kind, stream, flags) {
        (1, 1 | 2, 0 | 1) => Ok(Kind::Output {
            stderr: stream == 2,
            redacted: flags == 1,
        }),
        (2, 0, 0) => Ok(Kind::Control),
        _ => Err(Bad("a frame is of no known kind")),
    };
    let head = kind.map(|kind| FrameHead {
        kind,
        run,
        position,
        time,
    });
    Ok((length, crc, head))
}

/// What the shim has to say about what it did and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A command is accepted, and will be acted on; never again for this id.
    Accepted {
        /// The command.
        id: u128,
    },
    /// A run's program was executed.
    Started {
        /// The run.
        run: u32,
        /// Its process, as the shim sees it.
        pid: u32,
    },
    /// A run's program could not be executed.
    NotRun {
        /// The run.
        run: u32,
        /// 127 when it was not found, else 126.
        code: u8,
        /// Why.
        message: String,
    },
    /// A run is over; nothing more comes of it.
    Exited {
        /// The run.
        run: u32,
        /// The exit code, 128 + n for signal n.
        code: u8,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// A stream of a run is at its end.
    Eof {
        /// The run.
        run: u32,
        /// Standard error, else standard output.
        stderr: bool,
    },
    /// A command was carried out, or could not be.
    Done {
        /// The command.
        id: u128,
        /// Whether it was.
        ok: bool,
        /// What there is to say about it.
        message: String,
    },
    /// What must be known about the record itself.
    Note {
        /// In short.
        code: String,
        /// In words.
        message: String,
    },
    /// The last record: the shim ends.
    Finished,
}

impl Control {
    /// As it is written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        match self {
            Self::Accepted { id } => {
                out.put_u8(1);
                out.put_u128(*id);
            }
            Self::Started { run, pid } => {
                out.put_u8(2);
                out.put_u32(*run);
                out.put_u32(*pid);
            }
            Self::NotRun { run, code, message } => {
                out.put_u8(3);
                out.put_u32(*run);
                out.put_u8(*code);
                out.put_bytes(cut(message));
            }
            Self::Exited { run, code, signal } => {
                out.put_u8(4);
                out.put_u32(*run);
                out.put_u8(*code);
                out.extend_from_slice(&signal.unwrap_or(0).to_le_bytes());
            }
            Self::Eof { run, stderr } => {
                out.put_u8(5);
                out.put_u32(*run);
                out.put_u8(u8::from(*stderr));
            }
            Self::Done { id, ok, message } => {
                out.put_u8(6);
                out.put_u128(*id);
                out.put_u8(u8::from(*ok));
                out.put_bytes(cut(message));
            }
            Self::Note { code, message } => {
                out.put_u8(7);
                out.put_bytes(cut(code));
                out.put_bytes(cut(message));
            }
            Self::Finished => out.put_u8(8),
        }
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let mut take = Take::new(bytes);
        let control = match take.u8()? {
            1 => Self::Accepted { id: take.u128()? },
            2 => Self::Started {
                run: take.u32()?,
                pid: take.u32()?,
            },
            3 => Self::NotRun {
                run: take.u32()?,
                code: take.u8()?,
                message: take.text()?,
            },
            4 => Self::Exited {
                run: take.u32()?,
                code: take.u8()?,
                signal: Some(take.i32()?).filter(|n| *n != 0),
            },
            5 => Self::Eof {
                run: take.u32()?,
                stderr: take.bool()?,
            },
            6 => Self::Done {
                id: take.u128()?,
                ok: take.bool()?,
                message: take.text()?,
            },
            7 => Self::Note {
                code: take.text()?,
                message: take.text()?,
            },
            8 => Self::Finished,
            _ => return Err(Bad("a control record is of no known kind")),
        };
        take.end()?;
        Ok(control)
    }
}

/// The text's bytes, at most [`TEXT_MAX`] of them, never half a character.
fn cut(text: &str) -> &[u8] {
    let end = (0..=TEXT_MAX.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    &text.as_bytes()[..end]
}
