//! Writing the spool.
//!
//! Invariants: what was said to be written is whole and in order; control
//! records find room even when output does not. Room of [`RESERVE`] bytes
//! behind the end is always held on the disk, and only control records and
//! the rests of ended runs may use it.

use crate::spool::{
    Control, FRAME_HEADER, FrameHead, HEADER, Kind, SegmentHeader, left_free, seal, segment_name,
};
use crate::sys;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Room that is held for control records.
const RESERVE: u64 = 256 * 1024;
/// The part of it that only the records of ends may use, not new commands.
const LAST_RESERVE: u64 = 64 * 1024;
/// Room is asked for in such steps.
const STEP: u64 = 512 * 1024;
/// Largest segment; smaller for a small bound.
const SEGMENT_MAX: u64 = 8 * 1024 * 1024;
/// Smallest.
const SEGMENT_MIN: u64 = 64 * 1024;

/// There is no room now; the same may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How room is held behind the end.
enum Hold {
    /// The file system reserves it, up to this length of the file.
    Allocated(u64),
    /// It cannot; a file of that size is given up instead when it is needed.
    Ballast(Option<PathBuf>),
}

/// The spool of this shim.
pub struct Writer {
    dir: PathBuf,
    file: File,
    header: SegmentHeader,
    /// Bytes of frames in the open segment.
    length: u64,
    hold: Hold,
    /// Earlier segments that are still there: number, and where they end.
    earlier: VecDeque<(u32, u64)>,
    /// Where the first segment that is still there begins.
    base: u64,
    ordinal: u64,
    bound: u64,
    segment_max: u64,
}

impl Writer {
    /// Begins the spool in `dir`. `bound` is how much of it may be there at once.
    pub fn create(dir: &Path, header: SegmentHeader, bound: u64) -> io::Result<Self> {
        let file = new_segment(dir, &header)?;
        let hold = match sys::reserve(&file, 0, HEADER as u64 + RESERVE) {
            Ok(()) => Hold::Allocated(HEADER as u64 + RESERVE),
            Err(error) if is_full(&error) => return Err(error),
            Err(_) => Hold::Ballast(Some(make_ballast(dir)?)),
        };
        Ok(Self {
            dir: dir.to_owned(),
            file,
            header,
            length: 0,
            hold,
            earlier: VecDeque::new(),
            base: 0,
            ordinal: 0,
            bound,
            segment_max: (bound / 8).clamp(SEGMENT_MIN, SEGMENT_MAX),
        })
    }

    /// The spool's length, trimmed parts included.
    pub fn written(&self) -> u64 {
        self.header.base + self.length
    }

    /// The first position that is still there.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Whether output may come: the bound leaves room for a frame.
    pub fn within_bound(&self) -> bool {
        self.written() - self.base < self.bound
    }

    /// Whether a further command may be accepted, with all the records it may bring.
    pub fn has_room_for_commands(&mut self) -> bool {
        self.hold_room(RESERVE).is_ok() || self.hold_room(LAST_RESERVE).is_ok()
    }

    /// Makes what was given up for control records again, if that can be.
    pub fn renew_ballast(&mut self) {
        if let Hold::Ballast(ballast @ None) = &mut self.hold {
            *ballast = make_ballast(&self.dir).ok();
        }
    }

    /// Writes a frame of output: [`FRAME_HEADER`] bytes of room, then the payload.
    /// A `rest` comes from a run that has ended and may use the reserve.
    pub fn output(&mut self, frame: &mut [u8], head: &FrameHead, rest: bool) -> Result<(), Full> {
        self.roll_if_due(frame.len());
        let room = frame.len() as u64 + RESERVE;
        let held = match rest || self.leaves_room(room) {
            true => self.hold_room(room),
            false => Err(Full),
        };
        if held.is_err() && !(rest && self.hold_room(frame.len() as u64 + LAST_RESERVE).is_ok()) {
            return Err(Full);
        }
        seal(frame, head);
        self.append(frame)
    }

    /// Writes a control record.
    pub fn control(&mut self, control: &Control) -> Result<(), Full> {
        let mut frame = vec![0; FRAME_HEADER];
        frame.extend_from_slice(&control.encode());
        self.roll_if_due(frame.len());
        // Refills the reserve if it can; the record may use it if not.
        let _ = self.hold_room(frame.len() as u64 + RESERVE);
        let head = FrameHead {
            kind: Kind::Control,
            run: 0,
            position: self.ordinal,
            time: now(),
        };
        seal(&mut frame, &head);
        let mut result = self.append(&frame);
        if result.is_err()
            && let Hold::Ballast(ballast) = &mut self.hold
            && let Some(path) = ballast.take()
        {
            let _ = fs::remove_file(path);
            result = self.append(&frame);
        }
        result?;
        self.ordinal += 1;
        Ok(())
    }

    /// Removes the segments that end before `upto`, which is safe elsewhere.
    pub fn trim(&mut self, upto: u64) {
        while let Some((number, end)) = self.earlier.front().copied() {
            if end > upto {
                break;
            }
            // What cannot be removed is no longer counted: whoever commands us
            // has the directory itself in hand.
            let _ = fs::remove_file(self.dir.join(segment_name(number)));
            self.base = end;
            self.earlier.pop_front();
            fail_point!("spool.trimmed");
        }
    }

    /// Gives back the room that is held, at the end.
    pub fn finish(&mut self) {
        let _ = self.file.set_len(HEADER as u64 + self.length);
        if let Hold::Ballast(Some(path)) = &self.hold {
            let _ = fs::remove_file(path);
        }
    }

    /// Whether what others need is left on the disk if `room` bytes behind the end are ours.
    fn leaves_room(&self, room: u64) -> bool {
        if let Hold::Allocated(allocated) = self.hold
            && allocated >= HEADER as u64 + self.length + room
        {
            return true;
        }
        // Where nobody knows, writing will tell.
        let (free, all) = sys::room(&self.file).unwrap_or((u64::MAX, 0));
        free >= left_free(all)
    }

    /// Makes sure that `room` bytes behind the end are ours.
    fn hold_room(&mut self, room: u64) -> Result<(), Full> {
        let end = HEADER as u64 + self.length;
        let Hold::Allocated(allocated) = &mut self.hold else {
            return Ok(());
        };
        let wanted = end + room;
        if *allocated >= wanted {
            return Ok(());
        }
        for upto in [wanted + STEP, wanted] {
            if sys::reserve(&self.file, end, upto - end).is_ok() {
                *allocated = upto;
                return Ok(());
            }
        }
        Err(Full)
    }

    fn append(&mut self, frame: &[u8]) -> Result<(), Full> {
        // A part that was written of a frame that failed is written over.
        let at = HEADER as u64 + self.length;
        fail_point!("spool.half", || drop(
            self.file.write_all_at(&frame[..frame.len() / 2], at)
        ));
        self.file.write_all_at(frame, at).map_err(|_| Full)?;
        self.length += frame.len() as u64;
        fail_point!("spool.written");
        Ok(())
    }

    /// Goes over to a new segment when this one is full. Without room for that
    /// the old one grows on: its size is no promise.
    fn roll_if_due(&mut self, next: usize) {
        if self.length == 0 || self.length + next as u64 <= self.segment_max {
            return;
        }
        let header = SegmentHeader {
            number: self.header.number + 1,
            base: self.written(),
            ordinal: self.ordinal,
            ..self.header.clone()
        };
        let Ok(file) = new_segment(&self.dir, &header) else {
            return;
        };
        if let Hold::Allocated(allocated) = &mut self.hold {
            if sys::reserve(&file, 0, HEADER as u64 + RESERVE).is_err() {
                let _ = fs::remove_file(self.dir.join(segment_name(header.number)));
                return;
            }
            *allocated = HEADER as u64 + RESERVE;
        }
        fail_point!("spool.segment");
        let _ = self.file.set_len(HEADER as u64 + self.length);
        self.earlier.push_back((self.header.number, header.base));
        self.file = file;
        self.header = header;
        self.length = 0;
    }
}

/// Makes a segment that was not there. What somebody put in its place is removed.
fn new_segment(dir: &Path, header: &SegmentHeader) -> io::Result<File> {
    let path = dir.join(segment_name(header.number));
    let make = || OpenOptions::new().write(true).create_new(true).open(&path);
    let file = match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&path)?;
            make()?
        }
        result => result?,
    };
    if let Err(error) = file.write_all_at(&header.encode(), 0) {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

fn make_ballast(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join("reserve");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)?;
    // Not zeros, which some file systems do not store.
    file.write_all(&vec![0xa5; usize::try_from(RESERVE).unwrap_or(0)])?;
    Ok(path)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    });
    #[cfg(failpoints)]
    let now = now.saturating_add(crate::failpoint::clock());
    now
}
