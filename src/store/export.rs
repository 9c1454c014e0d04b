//! Writing sessions down so that another home, or another program, can read them.
//!
//! # Format 1
//!
//! Lines of JSON, in this order:
//!
//! | line | what |
//! |---|---|
//! | `{"cldpd_export":1,"version":…,"home":…,"exported":…}` | the first: the format, who wrote it, of which home, when |
//! | `{"session":…,"home":…}` | a session begins: its ULID, and the home that recorded it |
//! | `{"seq":1,"run":0,"time":…,"kind":…,…}` | its events, as in the API, from the first on without a hole; bytes that are no text are in `data_b64` |
//! | `{"missing":{"from":…,"to":…,"why":…}}` | in place of events that cannot be read; without `to` where nobody knows how many there were |
//! | `{"cursors":[{"run":…,"attempt":…,"stream":…,"position":…,"open":…},…]}` | how many bytes of each stream these events stand for |
//! | `{"end":…,"events":…,"sha256":…}` | the session's ULID again, how many events there were, and the checksum of the session's lines before this one, newlines included |
//! | `{"gone":…}` | instead: the session, by its ULID, was removed while it was written down; what stands here of it does not count |
//! | `{"done":true,"sessions":…,"damaged":…}` | the last: how many sessions there are, and how many of them have something missing |
//!
//! Sessions stand from the oldest to the newest. A line is at most 256 MiB long.

use super::Reader;
use super::error::StoreError;
use super::keys;
use super::rows;
use super::walk::{Look, Piece, is_gone, next_session, step};
use crate::model::api::Exported;
use crate::model::capture::{Cursor, CursorKey};
use crate::model::{Event, HomeId, Timestamp, Ulid};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::ops::ControlFlow;

/// The format that is written, and the newest that is read.
pub(super) const FORMAT: u32 = 1;

/// Takes the lines; breaks when nobody wants more.
pub type Write<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    pub(super) cldpd_export: u32,
    /// Who wrote it.
    pub version: String,
    /// Of which home.
    pub home: HomeId,
    /// When.
    pub exported: Timestamp,
}

/// A session begins.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) session: Ulid,
    pub(super) home: HomeId,
}

/// Events that cannot be read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Missing {
    pub(super) missing: Hole,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hole {
    pub(super) from: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<u64>,
    pub(super) why: String,
}

/// A session's cursors.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cursors {
    pub(super) cursors: Vec<CursorLine>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CursorLine {
    #[serde(flatten)]
    pub(super) key: CursorKey,
    #[serde(flatten)]
    pub(super) cursor: Cursor,
}

/// A session ends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) end: Ulid,
    pub(super) events: u64,
    pub(super) sha256: String,
}

/// A session was removed meanwhile.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Gone {
    pub(super) gone: Ulid,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) done: bool,
    #[serde(flatten)]
    pub(super) exported: Exported,
}

impl Reader {
    /// Writes sessions down: those in `of`, or all.
    ///
    /// # Errors
    /// When the journal cannot be read at all; what is damaged is told in the lines.
    pub fn export(
        &self,
        head: &Head,
        of: Option<&[Ulid]>,
        write: &mut Write<'_>,
    ) -> Result<Exported, StoreError> {
        export(self, head, of, write)
    }
}

impl Head {
    /// The head of what is written now.
    #[must_use]
    pub fn new(home: HomeId, exported: Timestamp) -> Self {
        Self {
            cldpd_export: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            home,
            exported,
        }
    }
}

/// Writes down the sessions that `look` shows.
pub(super) fn export(
    look: &impl Look,
    head: &Head,
    of: Option<&[Ulid]>,
    write: &mut Write<'_>,
) -> Result<Exported, StoreError> {
    let mut out = Out {
        write,
        line: Vec::new(),
        sum: Sha256::new(),
        stopped: false,
    };
    let mut exported = Exported::default();
    out.json(head);
    let mut after = None;
    while !out.stopped
        && let Some(session) = look.look(|sight, _| next_session(sight, after))?
    {
        after = Some(session);
        let wanted = of.is_none_or(|of| of.contains(&session));
        if wanted && let Some(whole) = one(look, head, session, &mut out)? {
            exported.sessions += 1;
            exported.damaged += u64::from(!whole.is_whole);
        }
    }
    out.json(&Done {
        done: true,
        exported,
    });
    Ok(exported)
}

/// What a session came to.
pub(super) struct Written {
    is_whole: bool,
    /// As in its last line.
    pub(super) sha256: String,
}

/// The checksum that a session's export would end with; none where it is not there.
pub(super) fn checksum(
    look: &impl Look,
    home: HomeId,
    session: Ulid,
) -> Result<Option<String>, StoreError> {
    let mut nowhere = |_: &[u8]| ControlFlow::Continue(());
    let mut out = Out {
        write: &mut nowhere,
        line: Vec::new(),
        sum: Sha256::new(),
        stopped: false,
    };
    let head = Head::new(home, Timestamp(0));
    let written = one(look, &head, session, &mut out)?;
    Ok(written.map(|written| written.sha256))
}

fn one(
    look: &impl Look,
    head: &Head,
    session: Ulid,
    out: &mut Out<'_, '_>,
) -> Result<Option<Written>, StoreError> {
    let (there, last, home, cursors) = look.look(|sight, _| {
        let deleting = sight.get(&keys::deleting(session))?.is_some();
        let last = sight.last_seq(session).unwrap_or(u64::MAX);
        let home = rows::origin(sight, session).unwrap_or(None);
        let cursors = sight.rows(&keys::cursors(session))?;
        Ok((!deleting && last > 0, last, home, cursors))
    })?;
    if !there {
        return Ok(None);
    }
    out.sum = Sha256::new();
    out.json(&Begin {
        session,
        home: home.unwrap_or(head.home),
    });
    let (mut events, mut is_whole, mut next) = (0, true, 1);
    while !out.stopped {
        let step = look.look(|sight, _| step(sight, session, next, last))?;
        match step.piece {
            Piece::Block(block) => {
                let mut due = next.max(block.header().first_seq);
                for event in block.events() {
                    let event = event.and_then(|event| event.to_event());
                    match event {
                        Ok(event) if event.seq < next || event.seq > last => {}
                        Ok(event) => {
                            due = event.seq + 1;
                            events += 1;
                            out.json(&event);
                        }
                        Err(why) => {
                            is_whole = false;
                            let to = Some(block.header().last_seq());
                            out.missing(due, to, why.to_string());
                            break;
                        }
                    }
                }
            }
            Piece::Missing { .. } if is_gone(look, session)? => {
                out.json(&Gone { gone: session });
                return Ok(None);
            }
            Piece::Missing { from, to, why } => {
                is_whole = false;
                out.missing(from, (to < u64::MAX).then_some(to), why.to_string());
            }
            Piece::End => break,
        }
        next = step.next;
    }
    let mut lines = Vec::new();
    for (key, value) in cursors {
        match rows::cursors(vec![(key, value)]) {
            Ok(read) => lines.extend(
                read.into_iter()
                    .map(|(key, cursor)| CursorLine { key, cursor }),
            ),
            Err(_) => is_whole = false,
        }
    }
    out.json(&Cursors { cursors: lines });
    let sha256 = hex(&std::mem::take(&mut out.sum).finalize());
    out.json(&End {
        end: session,
        events,
        sha256: sha256.clone(),
    });
    Ok(Some(Written { is_whole, sha256 }))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Out<'a, 'b> {
    write: &'a mut Write<'b>,
    line: Vec<u8>,
    sum: Sha256,
    stopped: bool,
}

impl Out<'_, '_> {
    fn json(&mut self, line: &impl Serialize) {
        self.line.clear();
        // Nothing that is recorded fails to serialise.
        let _ = serde_json::to_writer(&mut self.line, line);
        self.line.push(b'\n');
        self.sum.update(&self.line);
        self.stopped |= (self.write)(&self.line).is_break();
        // One huge event must not hold its memory to the end.
        self.line.shrink_to(1 << 20);
    }

    fn missing(&mut self, from: u64, to: Option<u64>, why: String) {
        self.json(&Missing {
            missing: Hole { from, to, why },
        });
    }
}

/// A line within a session.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and almost all are events"
)]
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Event(Event),
    Begin(Begin),
    Cursors(Cursors),
    End(End),
    Gone(Gone),
    Missing(Missing),
    Done(Done),
}
