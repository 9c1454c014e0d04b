//! Recording sessions that are imported, and projections that are made again.

use super::{Journal, sight};
use crate::model::api::Rebuilt;
use crate::model::{SessionRecord, Ulid};
use crate::store::block::{body, event_ref};
use crate::store::error::StoreError;
use crate::store::fold;
use crate::store::import::{Batch, Last};
use crate::store::reserve::TO_RECORD;
use crate::store::rows::{CommitRow, Span};
use crate::store::shared::{Hidden, call};
use crate::store::space::Space;
use crate::store::walk::next_session;
use crate::store::{keys, open, parts, rows};
use sled::Db;

impl Journal {
    /// Records a part of an imported session, and returns when it is on disk.
    /// With its last part the session is there; until then nobody sees it.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub fn import(&mut self, batch: Batch) -> Result<(), StoreError> {
        if batch.first {
            // It may have been here, and not all that it had has gone yet.
            self.finish_removal(batch.session)?;
        }
        let db = self.db()?;
        self.reserve(TO_RECORD)?;
        let done = self.try_import(&db, batch);
        self.note(&done);
        done
    }

    fn try_import(&mut self, db: &Db, batch: Batch) -> Result<(), StoreError> {
        let path = self.open.path.clone();
        let session = batch.session;
        let mut space = self.open.space;
        if batch.first {
            if let Some(touched) = &mut self.touched {
                touched.removed(session);
            }
            // What an import left that was broken off.
            open::finish_deletion(db, &path, session, &mut space)?;
        }
        let mut written = sled::Batch::default();
        let mut last_seq = None;
        for event in &batch.events {
            let json = body(&event.kind).map_err(|why| rows::damaged("event", event.seq, why))?;
            self.encoder.push(event_ref(event, &json));
            last_seq = Some((event.seq, event.time));
        }
        let mut raw = 0;
        for block in self.encoder.finish() {
            raw += block.header.raw_len() as u64;
            let prefix = keys::block(session, block.header.first_seq);
            for (key, piece) in parts::split(&prefix, &block.bytes) {
                space.row(&key, piece, true);
                written.insert(key, piece);
            }
        }
        if let Some(touched) = &mut self.touched {
            touched.wrote(session, raw);
        }
        let Some(Last {
            cursors,
            record,
            home,
        }) = batch.last
        else {
            written.insert(keys::deleting(session), keys::IMPORTING);
            return self.put(db, written, space);
        };
        for (key, cursor) in &cursors {
            let (key, value) = (keys::cursor(session, key), rows::put_cursor(*cursor));
            space.row(&key, &value, true);
            written.insert(key, value);
        }
        let home = home.0.to_bytes();
        written.insert(keys::origin(session), home.as_slice());
        written.remove(keys::deleting(session));
        let json =
            serde_json::to_vec(&record).map_err(|why| rows::damaged("session", session, why))?;
        let mut hidden = Hidden::default();
        hidden.last_seqs.insert(session, 0);
        for (key, piece) in parts::split(&keys::session(session), &rows::seal(&json)) {
            space.row(&key, piece, true);
            written.insert(key.as_slice(), piece);
            hidden.rows.insert(key, None);
        }
        let (count, time) = match last_seq {
            Some(last) => last,
            None => (sight(db, &path).last_seq(session)?, self.open.last_time),
        };
        let number = self.open.last_commit + 1;
        let row = CommitRow {
            time: time.max(self.open.last_time),
            step: number - self.open.last_row,
            spans: vec![Span {
                session,
                first_seq: 1,
                count,
            }],
        };
        for (key, piece) in parts::split(&keys::commit(number), &row.encode()) {
            space.row(&key, piece, true);
            written.insert(key, piece);
        }
        written.insert(keys::meta("space"), space.encode());
        self.publish(db, number, written, hidden)?;
        self.open.space = space;
        self.shared.write().space = space;
        self.open.last_time = row.time;
        Ok(())
    }

    /// Writes a batch that nobody sees yet, or that changes nothing of what is seen.
    fn put(&mut self, db: &Db, mut batch: sled::Batch, space: Space) -> Result<(), StoreError> {
        batch.insert(keys::meta("space"), space.encode());
        let mut state = self.shared.write();
        call(&self.open.path, || db.apply_batch(batch))?;
        state.space = space;
        self.open.space = space;
        Ok(())
    }

    /// Writes a batch, and returns when it is on disk and may be seen.
    fn publish(
        &mut self,
        db: &Db,
        number: u64,
        batch: sled::Batch,
        hidden: Hidden,
    ) -> Result<(), StoreError> {
        {
            let mut state = self.shared.write();
            state.hidden = hidden;
            call(&self.open.path, || db.apply_batch(batch))?;
        }
        open::barrier(db, &self.open.file, &self.open.path)?;
        {
            let mut state = self.shared.write();
            state.hidden = Hidden::default();
            state.watermark = number;
        }
        self.open.last_commit = number;
        self.open.last_row = number;
        if let Err(error) = self.open.mark.write(number) {
            tracing::warn!(%error, "the journal's mark was not written");
        }
        Ok(())
    }

    /// Makes a session's projection again from its events.
    ///
    /// # Errors
    /// When its events cannot be read or do not make a session.
    pub fn rebuild(&mut self, session: Ulid) -> Result<SessionRecord, StoreError> {
        let db = self.db()?;
        self.reserve(TO_RECORD)?;
        let (record, _) = self.projection(&db, session)?;
        let done = self.put_projection(&db, session, &record);
        self.note(&done);
        done.map(|()| record)
    }

    /// Makes all projections again from events. Returns how many there are, and
    /// which of them were not what their events say, or cannot be made.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn rebuild_all(&mut self) -> Result<Rebuilt, StoreError> {
        let db = self.db()?;
        let mut rebuilt = Rebuilt::default();
        let mut after = None;
        while let Some(session) = next_session(&sight(&db, &self.open.path), after)? {
            after = Some(session);
            let view = sight(&db, &self.open.path);
            if view.get(&keys::deleting(session))?.is_some() {
                continue;
            }
            if matches!(view.last_seq(session), Ok(0)) {
                continue;
            }
            rebuilt.sessions += 1;
            match self.projection(&db, session) {
                Ok((_, true)) => {}
                Ok((record, false)) => {
                    self.reserve(TO_RECORD)?;
                    self.put_projection(&db, session, &record)?;
                    rebuilt.mended.push(record.id.to_string());
                }
                Err(error) => rebuilt.failed.push(format!("{session}: {error}")),
            }
        }
        open::barrier(&db, &self.open.file, &self.open.path)?;
        Ok(rebuilt)
    }

    /// A session's projection from its events, and whether it is the one there is.
    fn projection(&self, db: &Db, session: Ulid) -> Result<(SessionRecord, bool), StoreError> {
        let sight = sight(db, &self.open.path);
        let record = fold::of(&sight, session)?;
        let before = sight.value(&keys::session(session)).ok().flatten();
        let before = before.and_then(|sealed| rows::record(session, &sealed).ok());
        let same = before.as_ref() == Some(&record);
        Ok((record, same))
    }

    fn put_projection(
        &mut self,
        db: &Db,
        session: Ulid,
        record: &SessionRecord,
    ) -> Result<(), StoreError> {
        let json =
            serde_json::to_vec(record).map_err(|why| rows::damaged("session", session, why))?;
        if let Some(touched) = &mut self.touched {
            touched.wrote(session, 0);
        }
        let prefix = keys::session(session);
        let mut batch = sled::Batch::default();
        let mut space = self.open.space;
        for (key, value) in sight(db, &self.open.path).rows(&prefix)? {
            space.row(&key, &value, false);
            batch.remove(key);
        }
        for (key, piece) in parts::split(&prefix, &rows::seal(&json)) {
            space.row(&key, piece, true);
            batch.insert(key, piece);
        }
        self.put(db, batch, space)?;
        open::barrier(db, &self.open.file, &self.open.path)
    }
}
