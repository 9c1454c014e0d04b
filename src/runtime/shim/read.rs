//! Reading the spool: whole frames with a right checksum, in order, or a typed error.

use super::files;
use super::spool::{self, FRAME_HEADER, HEADER, Kind, PAYLOAD_MAX, Parsed, SegmentHeader};
use crate::model::{Stream, Timestamp, Ulid};
use crate::runtime::session_dir::RunDir;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Bytes read from a segment at once; holds any frame whole.
const WINDOW: usize = FRAME_HEADER + PAYLOAD_MAX + 64 * 1024;

/// No spool gets so long. Positions come from a container: what is counted on
/// from them must not overflow.
const POSITION_MAX: u64 = 1 << 62;

/// Why a spool cannot be read (on).
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There is none: the shim never got so far, or it was removed.
    #[error("there is no spool in {dir}")]
    Missing {
        /// The attempt's directory.
        dir: String,
    },
    /// It is not what the shim wrote.
    #[error("the spool is damaged at byte {at}: {why}")]
    Damaged {
        /// Where; everything before it was given out.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// It could not be read.
    #[error("cannot read the spool in {dir}: {source}")]
    Io {
        /// The attempt's directory.
        dir: String,
        /// The system's word.
        source: io::Error,
    },
}

/// A frame of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub start: u64,
    /// Where it ends, and the next one begins.
    pub end: u64,
    /// When the shim got it.
    pub time: Timestamp,
    /// What it is.
    pub body: RecordBody,
}

/// What a frame of the spool holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// What a process wrote.
    Output {
        /// The shim's run.
        run: u32,
        /// The stream; a terminal's output is standard output.
        stream: Stream,
        /// Position of the first byte in its stream, secrets replaced.
        position: u64,
        /// A secret's value was replaced in it.
        redacted: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// What the shim says.
    Control {
        /// Counts all control records of this shim, from 0.
        ordinal: u64,
        /// What.
        control: Control,
    },
}

/// What the shim says about what it did and what happened.
///
/// Of a run come, in this order: `Started` (or `NotRun`, and nothing more), its
/// output, `Eof` for each stream, `Exited`. `Exited` is always the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A command is accepted, and will be acted on; never again for this id.
    Accepted {
        /// The command.
        id: Ulid,
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
        /// The stream.
        stream: Stream,
    },
    /// A command was carried out, or could not be.
    Done {
        /// The command.
        id: Ulid,
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

/// Reads a spool from its first remaining segment on. Every call blocks on the disk.
#[derive(Debug)]
pub struct Spool {
    place: String,
    directory: OwnedFd,
    expect: (Ulid, u32, u32),
    segment: File,
    header: SegmentHeader,
    /// Where in the segment's file the window begins.
    offset: u64,
    window: Vec<u8>,
    /// How much of the window is read already.
    used: usize,
    /// Where the next frame begins, over all segments.
    position: u64,
    /// The ordinal that the next control record has to have.
    ordinal: u64,
    damaged: Option<(u64, String)>,
}

/// What is at the front of what is not read yet.
enum Next {
    Record(Record),
    /// The segment's file ends here.
    End,
    /// The segment's file ends within a frame.
    Torn,
    Bad(String),
}

impl Spool {
    /// Opens the spool of session, run and attempt `expect`.
    ///
    /// # Errors
    /// When there is none, it is another's, or it cannot be read.
    pub fn open(dir: &RunDir, expect: (Ulid, u32, u32)) -> Result<Self, SpoolError> {
        let place = dir.path().display().to_string();
        let broken = |source| SpoolError::Io {
            dir: place.clone(),
            source,
        };
        let missing = || SpoolError::Missing { dir: place.clone() };
        let directory = match files::directory(&dir.path()) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(broken(error)),
        };
        let number = first_segment(&directory)
            .map_err(broken)?
            .ok_or_else(missing)?;
        let damaged = |why: String| SpoolError::Damaged { at: 0, why };
        let segment = match files::regular(&directory, &spool::segment_name(number)) {
            Ok(segment) => segment,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) if is_ours(&error) => return Err(broken(error)),
            Err(error) => return Err(damaged(error.to_string())),
        };
        let header = read_header(&segment, number, expect).map_err(damaged)?;
        Ok(Self {
            place,
            directory,
            expect,
            segment,
            offset: HEADER as u64,
            window: Vec::new(),
            used: 0,
            position: header.base,
            ordinal: header.ordinal,
            header,
            damaged: None,
        })
    }

    /// Where the next record begins.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The machine's boot in which it was written, as its kernel calls it.
    #[must_use]
    pub const fn boot(&self) -> [u8; 16] {
        self.header.boot
    }

    /// The next records, up to the length `upto` that the shim told, or, of a
    /// dead shim, to the first bad checksum or the end. At least one if there is
    /// one, else not more than `max_bytes` of output. Empty at the end.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`], for good, after the good records were given out.
    pub fn read(&mut self, upto: Option<u64>, max_bytes: usize) -> Result<Vec<Record>, SpoolError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while self.damaged.is_none() && upto.is_none_or(|upto| self.position < upto) {
            let next = match self.next(upto) {
                Ok(next) => next,
                // What was read is given out; the rest can be tried again.
                Err(_) if !records.is_empty() => break,
                Err(source) => return Err(self.broken(source)),
            };
            match next {
                Next::Record(record) => {
                    self.position = record.end;
                    if let RecordBody::Output { bytes: output, .. } = &record.body {
                        bytes += output.len();
                    } else {
                        self.ordinal += 1;
                    }
                    records.push(record);
                    if bytes >= max_bytes {
                        break;
                    }
                }
                Next::End => match self.next_segment() {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) if upto.is_none() => break,
                    Ok(Ok(false)) => self.damage("it ends before what the shim has written"),
                    Ok(Err(why)) => self.damage(&why),
                    // What was read is given out; the rest can be tried again.
                    Err(_) if !records.is_empty() => break,
                    Err(source) => return Err(self.broken(source)),
                },
                Next::Torn if upto.is_none() && !self.has_further() => break,
                Next::Torn => self.damage("it ends within a frame"),
                Next::Bad(_) if upto.is_none() && !self.has_further() => break,
                Next::Bad(why) => self.damage(&why),
            }
        }
        match &self.damaged {
            Some((at, why)) if records.is_empty() => Err(SpoolError::Damaged {
                at: *at,
                why: why.clone(),
            }),
            _ => Ok(records),
        }
    }

    fn broken(&self, source: io::Error) -> SpoolError {
        SpoolError::Io {
            dir: self.place.clone(),
            source,
        }
    }

    fn damage(&mut self, why: &str) {
        self.damaged = Some((self.position, why.to_owned()));
    }

    fn next(&mut self, upto: Option<u64>) -> io::Result<Next> {
        loop {
            let wanted = match spool::parse(&self.window[self.used..]) {
                Parsed::Frame(head, payload, length) => {
                    let next = self.record(head, payload, length);
                    self.used += length;
                    return Ok(next);
                }
                Parsed::Bad(why) => return Ok(Next::Bad(why.to_owned())),
                Parsed::Incomplete(wanted) => wanted,
            };
            self.offset += self.used as u64;
            self.window.drain(..self.used);
            self.used = 0;
            self.fill(upto)?;
            if self.window.is_empty() {
                return Ok(Next::End);
            }
            if self.window.len() < wanted {
                return Ok(Next::Torn);
            }
        }
    }

    /// Reads on until the window is full or the file ends, and never beyond
    /// `upto`: what lies there is not written yet, and may be written over.
    fn fill(&mut self, upto: Option<u64>) -> io::Result<()> {
        let mut have = self.window.len();
        let written = upto.map_or(u64::MAX, |upto| upto.saturating_sub(self.position));
        let full = usize::try_from(written).unwrap_or(WINDOW).min(WINDOW);
        if have >= full {
            return Ok(());
        }
        self.window.resize(full, 0);
        while have < full {
            let at = self.offset + have as u64;
            match self.segment.read_at(&mut self.window[have..], at) {
                Ok(0) => break,
                Ok(read) => have += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.window.truncate(have);
                    return Err(error);
                }
            }
        }
        self.window.truncate(have);
        Ok(())
    }

    fn record(&self, head: spool::FrameHead, payload: &[u8], length: usize) -> Next {
        let body = match head.kind {
            Kind::Output { stderr, redacted } => RecordBody::Output {
                run: head.run,
                stream: stream(stderr),
                position: head.position,
                redacted,
                bytes: payload.to_vec(),
            },
            Kind::Control => {
                if head.position != self.ordinal {
                    return Next::Bad(format!(
                        "control record {} stands where {} belongs",
                        head.position, self.ordinal
                    ));
                }
                match spool::Control::decode(payload) {
                    Ok(control) => RecordBody::Control {
                        ordinal: head.position,
                        control: control.into(),
                    },
                    Err(bad) => return Next::Bad(bad.to_string()),
                }
            }
        };
        Next::Record(Record {
            start: self.position,
            end: self.position + length as u64,
            time: Timestamp(head.time),
            body,
        })
    }

    /// Goes over to the next segment; false when there is none. An error of
    /// ours, such as too many open files, says nothing of what is there.
    fn next_segment(&mut self) -> io::Result<Result<bool, String>> {
        let number = self.header.number.wrapping_add(1);
        let segment = match files::regular(&self.directory, &spool::segment_name(number)) {
            Ok(segment) => segment,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(false)),
            Err(error) if is_ours(&error) => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let header = match read_header(&segment, number, self.expect) {
            Ok(header) => header,
            Err(why) => return Ok(Err(why)),
        };
        if header.base != self.position || header.ordinal != self.ordinal {
            return Ok(Err(format!(
                "segment {number} does not go on where {} ends",
                self.header.number
            )));
        }
        self.segment = segment;
        self.header = header;
        self.offset = HEADER as u64;
        self.window.clear();
        self.used = 0;
        Ok(Ok(true))
    }

    fn has_further(&self) -> bool {
        let number = self.header.number.wrapping_add(1);
        files::handle(&self.directory, &spool::segment_name(number)).is_ok()
    }
}

/// Whether this machine is short of something, whatever lies there.
fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::INTR)
    )
}

fn first_segment(directory: &OwnedFd) -> io::Result<Option<u32>> {
    let mut first: Option<u32> = None;
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(spool::segment_number);
        first = match (first, number) {
            (Some(first), Some(number)) => Some(first.min(number)),
            (first, number) => first.or(number),
        };
    }
    Ok(first)
}

fn read_header(
    segment: &File,
    number: u32,
    expect: (Ulid, u32, u32),
) -> Result<SegmentHeader, String> {
    let mut bytes = [0; HEADER];
    segment
        .read_exact_at(&mut bytes, 0)
        .map_err(|e| format!("the header of segment {number}: {e}"))?;
    let header = SegmentHeader::decode(&bytes).map_err(|bad| bad.to_string())?;
    if header.base > POSITION_MAX || header.ordinal > POSITION_MAX {
        return Err(format!("segment {number} begins where none can"));
    }
    let (session, run, attempt) = expect;
    let whose = (Ulid(header.session), header.run, header.attempt);
    if whose != (session, run, attempt) || header.number != number {
        return Err(format!("segment {number} is not of this attempt"));
    }
    Ok(header)
}

fn stream(stderr: bool) -> Stream {
    if stderr {
        Stream::Stderr
    } else {
        Stream::Stdout
    }
}

impl From<spool::Control> for Control {
    fn from(control: spool::Control) -> Self {
        match control {
            spool::Control::Accepted { id } => Self::Accepted { id: Ulid(id) },
            spool::Control::Started { run, pid } => Self::Started { run, pid },
            spool::Control::NotRun { run, code, message } => Self::NotRun { run, code, message },
            spool::Control::Exited { run, code, signal } => Self::Exited { run, code, signal },
            spool::Control::Eof { run, stderr } => Self::Eof {
                run,
                stream: stream(stderr),
            },
            spool::Control::Done { id, ok, message } => Self::Done {
                id: Ulid(id),
                ok,
                message,
            },
            spool::Control::Note { code, message } => Self::Note { code, message },
            spool::Control::Finished => Self::Finished,
        }
    }
}
