//! Looking through everything: is each thing what was written, and do all of
//! them agree?
//!
//! Memory is bounded by one block, and some 40 bytes for each session that
//! there ever was. Nothing is changed.

use super::copy::GivenUp;
use super::error::StoreError;
use super::fold::Fold;
use super::group;
use super::keys;
use super::reader::Reader;
use super::rows::{self, CommitRow};
use super::walk::{Look, Piece, is_gone, next_session, step};
use crate::model::api::{Finding, Verified, VerifyEvent};
use crate::model::{Event, EventKind, SessionRecord, Stream, Timestamp, Ulid};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Told what is found; breaks when nobody wants to know more.
pub type Tell<'a> = dyn FnMut(VerifyEvent) -> ControlFlow<()> + 'a;

/// Notes with these codes say that bytes of a stream are not in the journal.
const HOLES: [&str; 2] = ["gap", "spool_damaged"];

impl Reader {
    /// Looks through the whole journal, while work goes on, and tells what is
    /// wrong, until `given_up` says that nobody wants to know any more.
    ///
    /// # Errors
    /// When the journal cannot be read at all; damage is told, and is no error.
    pub fn verify(
        &self,
        given_up: &dyn Fn() -> bool,
        tell: &mut Tell<'_>,
    ) -> Result<(), StoreError> {
        verify(self, given_up, tell)
    }
}

/// Looks through everything that `look` shows.
pub(super) fn verify(
    look: &impl Look,
    given_up: GivenUp<'_>,
    tell: &mut Tell<'_>,
) -> Result<(), StoreError> {
    let mut check = Check {
        look,
        given_up,
        tell,
        counts: Verified::default(),
        ends: BTreeMap::new(),
        stopped: false,
    };
    check.sessions()?;
    check.commits()?;
    check.requests()?;
    check.strangers()?;
    if !check.is_over() {
        let counts = check.counts;
        let _ = (check.tell)(VerifyEvent::Verified(counts));
    }
    Ok(())
}

struct Check<'a, 'b, L> {
    look: &'a L,
    given_up: GivenUp<'a>,
    tell: &'a mut Tell<'b>,
    counts: Verified,
    /// Each session's last event, as it was seen.
    ends: BTreeMap<Ulid, u64>,
    stopped: bool,
}

/// What is found in a session's events besides the events.
struct Session {
    ulid: Ulid,
    time: Timestamp,
    /// Bytes of each run's streams, as the outputs have them.
    outputs: BTreeMap<(u32, u8), u64>,
    /// Runs that lost bytes, and say so.
    holes: Vec<u32>,
    /// Events are missing.
    torn: bool,
}

impl<L: Look> Check<'_, '_, L> {
    fn say(&mut self, session: Option<Ulid>, seq: Option<u64>, what: impl Into<String>) {
        // What was not looked at to its end seems torn.
        if self.stopped {
            return;
        }
        self.counts.damage += 1;
        let what = what.into();
        let finding = Finding { session, seq, what };
        self.stopped |= (self.tell)(VerifyEvent::Damage(finding)).is_break();
    }

    fn note(&mut self, session: Option<Ulid>, what: impl Into<String>) {
        let what = what.into();
        let seq = None;
        let finding = Finding { session, seq, what };
        self.stopped |= (self.tell)(VerifyEvent::Note(finding)).is_break();
    }

    /// Whether nobody wants to know more.
    fn is_over(&mut self) -> bool {
        self.stopped = self.stopped || (self.given_up)();
        self.stopped
    }

    fn sessions(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        while !self.is_over()
            && let Some(session) = self.look.look(|sight, _| next_session(sight, after))?
        {
            after = Some(session);
            self.session(session)?;
        }
        Ok(())
    }

    fn session(&mut self, session: Ulid) -> Result<(), StoreError> {
        // Projection and last event in one look: they are of the same commit.
        let (deleting, row, last, origin) = self.look.look(|sight, _| {
            let deleting = sight.get(&keys::deleting(session))?.is_some();
            Ok((
                deleting,
                sight.value(&keys::session(session)),
                sight.last_seq(session),
                rows::origin(sight, session),
            ))
        })?;
        if deleting {
            let note = "its removal, or its import, is not finished; the next start of the daemon removes what is left";
            self.note(Some(session), note);
            return Ok(());
        }
        self.counts.sessions += 1;
        let row = match row {
            Ok(None) if matches!(last, Ok(0)) => {
                // Not on disk yet, or gone by now: only its cursors may be left.
                return self.left_over(session);
            }
            Ok(row) => row.map(|sealed| rows::record(session, &sealed)).transpose(),
            Err(error) => Err(error),
        };
        let fold = match origin {
            Ok(origin) => Fold::new(session, origin),
            Err(error) => {
                self.say(Some(session), None, error.to_string());
                Fold::new(session, None)
            }
        };
        let walked = self.events(session, fold, last.unwrap_or(u64::MAX))?;
        let Some((found, fold, end)) = walked else {
            return Ok(());
        };
        if !found.torn {
            self.ends.insert(session, end);
        }
        self.projection(session, row, fold, found.torn);
        self.cursors(&found)
    }

    /// Reads all events up to `last`: later ones, which a merge may have put into
    /// the same block, are not what the projection was looked at with. Nothing
    /// when the session went meanwhile.
    fn events(
        &mut self,
        ulid: Ulid,
        mut fold: Fold,
        last: u64,
    ) -> Result<Option<(Session, Fold, u64)>, StoreError> {
        let mut session = Session {
            ulid,
            time: Timestamp(i64::MIN),
            outputs: BTreeMap::new(),
            holes: Vec::new(),
            torn: false,
        };
        let mut next = 1;
        while !self.is_over() {
            let step = self.look.look(|sight, _| step(sight, ulid, next, last))?;
            match &step.piece {
                Piece::Block(block) => {
                    self.counts.blocks += 1;
                    self.counts.stored_bytes += block.header().size() as u64;
                    self.counts.raw_bytes += block.header().raw_len() as u64;
                    for event in block.events() {
                        let event = event.and_then(|event| event.to_event());
                        match event {
                            Ok(event) if event.seq < next || event.seq > last => {}
                            Ok(event) => {
                                self.counts.events += 1;
                                fold.take(&event);
                                self.event(&mut session, &event);
                            }
                            Err(why) => {
                                self.say(Some(ulid), Some(next), why.to_string());
                                session.torn = true;
                                fold.miss(next);
                            }
                        }
                    }
                }
                Piece::Missing { from, to, why } => {
                    if is_gone(self.look, ulid)? {
                        return Ok(None);
                    }
                    let what = format!("{} cannot be read: {why}", events_named(*from, *to));
                    self.say(Some(ulid), Some(*from), what);
                    session.torn = true;
                    fold.miss(*from);
                }
                Piece::End => break,
            }
            if let Some(stray) = step.stray {
                self.say(Some(ulid), Some(next), stray);
            }
            next = step.next;
        }
        Ok(Some((session, fold, last.min(next - 1))))
    }

    fn event(&mut self, session: &mut Session, event: &Event) {
        if event.time < session.time {
            let what = format!("event {} is earlier than the one before it", event.seq);
            self.say(Some(session.ulid), Some(event.seq), what);
        }
        session.time = session.time.max(event.time);
        match &event.kind {
            EventKind::Output(output) => {
                let stream = match output.stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                let bytes = session.outputs.entry((event.run, stream)).or_default();
                *bytes += output.data.len() as u64 + u64::from(!output.continued);
            }
            EventKind::Note { code, .. } if HOLES.contains(&code.as_str()) => {
                session.holes.push(event.run);
            }
            _ => {}
        }
    }

    fn projection(
        &mut self,
        session: Ulid,
        row: Result<Option<SessionRecord>, StoreError>,
        fold: Fold,
        torn: bool,
    ) {
        let row = match row {
            Ok(Some(row)) => Some(row),
            Ok(None) => {
                self.say(Some(session), None, "it has no projection");
                None
            }
            Err(error) => {
                self.say(Some(session), None, format!("its projection: {error}"));
                None
            }
        };
        match (fold.finish(), row) {
            (Ok(folded), Some(row)) if !folded.is_told_by(&row) => {
                let what = "its projection is not what its events say";
                self.say(Some(session), None, what);
            }
            (Ok(_), _) => {}
            // Told already: events are missing.
            (Err(_), _) if torn => {}
            (Err((seq, why)), _) => {
                let what = format!("event {seq} does not follow from those before it: {why}");
                self.say(Some(session), Some(seq), what);
            }
        }
    }

    fn cursors(&mut self, session: &Session) -> Result<(), StoreError> {
        let ulid = session.ulid;
        let cursors = self
            .look
            .look(|sight, _| sight.rows(&keys::cursors(ulid)))?;
        let mut positions: BTreeMap<(u32, u8), u64> = BTreeMap::new();
        for (key, value) in cursors {
            let read = rows::cursors(vec![(key, value)]);
            match read {
                Err(error) => self.say(Some(ulid), None, error.to_string()),
                Ok(read) => {
                    self.counts.cursors += read.len() as u64;
                    for (key, cursor) in read {
                        let position = positions.entry((key.run, key.stream)).or_default();
                        *position = position.saturating_add(cursor.position);
                    }
                }
            }
        }
        if session.torn {
            return Ok(());
        }
        for ((run, stream), bytes) in &session.outputs {
            let position = positions.get(&(*run, *stream)).copied().unwrap_or(0);
            let name = if *stream == 1 { "stdout" } else { "stderr" };
            // While it runs, the cursor may have moved on since the events were read.
            if position < *bytes {
                if is_gone(self.look, ulid)? {
                    return Ok(());
                }
                let what = format!(
                    "run {run} has {bytes} bytes of {name}, and its cursor stands at {position}"
                );
                self.say(Some(ulid), None, what);
            }
        }
        Ok(())
    }

    /// Cursors of a session that has nothing else.
    fn left_over(&mut self, session: Ulid) -> Result<(), StoreError> {
        self.counts.sessions -= 1;
        let alone = self.look.look(|sight, _| {
            let rows = sight.rows(&keys::cursors(session))?;
            let none = sight.last_seq(session)? == 0;
            Ok(if none { rows.len() } else { 0 })
        })?;
        if alone > 0 {
            let what = format!("{alone} cursors belong to no session");
            self.say(Some(session), None, what);
        }
        Ok(())
    }

    /// Each commit's events are there, and each event is of a commit.
    fn commits(&mut self) -> Result<(), StoreError> {
        let mut covered: BTreeMap<Ulid, u64> = BTreeMap::new();
        let mut number = 0;
        let mut from = keys::commits().to_vec();
        while !self.is_over() {
            let found = self.look.look(|sight, watermark| {
                let key = sight.key_from(&keys::commits(), &from)?;
                let prefix = key.as_deref().and_then(keys::split_part);
                let Some((prefix, part)) = prefix else {
                    return Ok(None);
                };
                let number = keys::commit_number(prefix);
                if number.is_some_and(|number| number > watermark) {
                    return Ok(None);
                }
                let sealed = (part == 0).then(|| sight.value(prefix));
                Ok(Some((prefix.to_vec(), number, sealed)))
            })?;
            let Some((prefix, found, sealed)) = found else {
                break;
            };
            from = keys::with_part(&prefix, u16::MAX);
            from.push(0);
            let (Some(found), Some(sealed)) = (found, sealed) else {
                let what = format!("the commit row {} is no commit", keys::hex(&prefix));
                self.say(None, None, what);
                continue;
            };
            let commits =
                sealed.and_then(|sealed| group::commits(found, &sealed.unwrap_or_default()));
            match commits {
                Err(error) => self.say(None, None, error.to_string()),
                Ok(commits) => {
                    for (found, row) in commits {
                        self.counts.commits += 1;
                        self.commit(number, found, &row, &mut covered);
                        number = found;
                    }
                }
            }
            number = found;
        }
        self.coverage(&covered)
    }

    fn commit(
        &mut self,
        before: u64,
        number: u64,
        row: &CommitRow,
        covered: &mut BTreeMap<Ulid, u64>,
    ) {
        let expected = number.saturating_sub(row.step);
        if before < expected {
            let what = format!("commits {} to {expected} are missing", before + 1);
            self.say(None, None, what);
        }
        for span in &row.spans {
            let end = covered.entry(span.session).or_insert(span.first_seq - 1);
            // Events that were lost with their commits are recorded under these
            // numbers once more.
            *end = (*end).max(span.first_seq + span.count - 1);
        }
    }

    fn coverage(&mut self, covered: &BTreeMap<Ulid, u64>) -> Result<(), StoreError> {
        let ends = std::mem::take(&mut self.ends);
        for (session, end) in &ends {
            let by_commits = covered.get(session).copied().unwrap_or(0);
            if *end > by_commits && !is_gone(self.look, *session)? {
                let what = format!("events {} to {end} are of no commit", by_commits + 1);
                self.say(Some(*session), Some(by_commits + 1), what);
            }
        }
        for (session, by_commits) in covered {
            if ends.get(session).is_none_or(|end| end >= by_commits) {
                continue;
            }
            let now = self.look.look(|sight, _| Ok(sight.last_seq(*session)))?;
            let now = now.unwrap_or(*by_commits);
            if now > 0 && now < *by_commits {
                let what = format!("events {} to {by_commits} are missing", now + 1);
                self.say(Some(*session), Some(now + 1), what);
            }
        }
        Ok(())
    }

    fn requests(&mut self) -> Result<(), StoreError> {
        let mut from = keys::requests().to_vec();
        while !self.is_over() {
            let found = self.look.look(|sight, _| {
                let key = sight.key_from(&keys::requests(), &from)?;
                let prefix = key.as_deref().and_then(keys::split_part);
                let prefix = prefix.map(|(prefix, _)| prefix.to_vec());
                Ok(prefix.map(|prefix| (sight.value(&prefix), prefix)))
            })?;
            let Some((sealed, prefix)) = found else { break };
            from = keys::with_part(&prefix, u16::MAX);
            from.push(0);
            let row = sealed.and_then(|sealed| {
                sealed
                    .map(|sealed| rows::request(Ulid(0), &sealed))
                    .transpose()
            });
            match row {
                // Not on disk yet.
                Ok(None) => {}
                Ok(Some(_)) => self.counts.requests += 1,
                Err(error) => self.say(None, None, format!("a request: {error}")),
            }
        }
        Ok(())
    }

    /// Rows of kinds that no journal has.
    fn strangers(&mut self) -> Result<(), StoreError> {
        let (below, above) = self.look.look(|sight, _| {
            let is_strange = |key: &sled::IVec| !keys::is_ours(key);
            let below = sight.key_from(&[], &[])?.filter(is_strange);
            let above = sight.key_before(&[], &[u8::MAX; 64])?.filter(is_strange);
            Ok((below, above))
        })?;
        for key in [below, above].into_iter().flatten() {
            let what = format!("the row {} is of no known kind", keys::hex(&key));
            self.say(None, None, what);
        }
        Ok(())
    }
}

/// Events by their numbers; `to` is `u64::MAX` where it is not known.
pub(super) fn events_named(from: u64, to: u64) -> String {
    match to {
        u64::MAX => format!("the events from {from} on"),
        to if to == from => format!("event {from}"),
        to => format!("events {from} to {to}"),
    }
}
