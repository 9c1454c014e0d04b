//! What the routes and the library ask: nothing here changes anything.

use super::admission::Load;
use super::directory::{self, Choice};
use super::follow::{Firehose, Follow};
use super::handle::{Handle, blocking};
use super::order;
use super::supervisor::{CountRuns, LookAtQueue};
use super::view;
use crate::model::api::{
    EventsQuery, FirehoseQuery, Inspection, ListQuery, SessionView, WaitResponse,
};
use crate::model::{Error, ErrorCode, Result, SessionRecord, Ulid};

impl Handle {
    /// Waits until a run is over; all of the session's, unless one is named.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`.
    pub async fn wait(&self, target: &str, run: Option<u32>) -> Result<WaitResponse> {
        let ulid = self.shared.directory.resolve(target)?;
        if let Some(number) = run {
            has_run(&self.load(ulid)?, number)?;
        }
        self.wait_for(ulid, run).await
    }

    pub(super) async fn wait_for(&self, ulid: Ulid, run: Option<u32>) -> Result<WaitResponse> {
        let mut durable = self.shared.hub.follow(ulid);
        loop {
            durable.borrow_and_update();
            let record = self.load(ulid)?;
            let awaited = match run {
                Some(number) => record.runs.get(number as usize),
                None if record.is_live() => None,
                None => record.current_run(),
            };
            if let Some(home) = record.imported
                && awaited.is_some_and(|run| !run.state.is_ended())
            {
                let message = format!(
                    "{} was live when it was exported from home {home}: nothing of it runs here",
                    record.id
                );
                return Err(
                    Error::new(ErrorCode::Refused, message).hint("its home knows how it ended")
                );
            }
            if let Some(mut end) = awaited.and_then(view::end) {
                let next = awaited.and_then(|run| record.retried_by(run));
                end.retry = next.map(|next| next.number);
                return Ok(WaitResponse { id: record.id, end });
            }
            if durable.changed().await.is_err() {
                return Err(directory::not_found(record.id.as_str()));
            }
        }
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn list(&self, query: ListQuery) -> Result<Vec<SessionView>> {
        let waits = self.ask(LookAtQueue(None)).await?;
        let shared = self.shared.clone();
        blocking(move || {
            let limit = query.limit.unwrap_or(usize::MAX);
            let mut views = Vec::new();
            // Only what may be meant is read: ten thousand may be there.
            let chosen = shared.directory.select(&Choice {
                live_only: query.live_only(),
                pod: query.pod.as_deref(),
                state: query.state.as_deref(),
                labels: &query.label,
            });
            for ulid in chosen {
                if views.len() >= limit {
                    break;
                }
                let record = match shared.reader.session(ulid) {
                    Ok(Some(record)) => record,
                    Ok(None) => continue,
                    // It is told by `doctor`; the others are all there.
                    Err(error) if error.damaged_session().is_some() => continue,
                    Err(error) => return Err(error.into()),
                };
                if view::matches(&record, &query) {
                    views.push(view::session(&record, waits.get(&ulid), &shared));
                }
            }
            let damaged = query.pod.is_none() && query.label.is_empty();
            let state = query.state.as_deref();
            if damaged && state.is_none_or(|state| state == "damaged") {
                let room = limit.saturating_sub(views.len());
                views.extend(shared.damage.views().into_iter().take(room));
            }
            Ok(views)
        })
        .await
    }

    /// Everything known of a session.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`.
    pub async fn inspect(&self, target: &str) -> Result<Inspection> {
        let ulid = self.shared.directory.resolve(target)?;
        let record = self.load(ulid)?;
        let spec = self.shared.spec(ulid)?;
        let waits = self.ask(LookAtQueue(Some(vec![ulid]))).await?;
        let argv = record
            .current_run()
            .map(|run| order::command_line(&spec, &record, run).argv)
            .unwrap_or_default();
        Ok(Inspection {
            view: view::session(&record, waits.get(&ulid), &self.shared),
            spec,
            last_seq: self.shared.reader.last_seq(ulid).map_err(Error::from)?,
            argv,
            directory: self.shared.session_dir(ulid).path().display().to_string(),
            record,
        })
    }

    /// A session's events.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`; `session_not_found` for a run that is not there.
    pub async fn events(&self, target: &str, query: EventsQuery) -> Result<Follow> {
        let ulid = self.shared.directory.resolve(target)?;
        if let Some(number) = query.run {
            has_run(&self.load(ulid)?, number)?;
        }
        let shared = self.shared.clone();
        blocking(move || Follow::new(shared, ulid, query)).await
    }

    /// Events of all sessions.
    ///
    /// # Errors
    /// `usage` for a cursor that is none.
    pub fn firehose(&self, query: FirehoseQuery) -> Result<Firehose> {
        Firehose::new(self.shared.clone(), query)
    }

    /// Whether a session is not over, or waits for its time.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.shared.directory.live().is_empty()
    }

    /// How many runs are let go and how many wait.
    ///
    /// # Errors
    /// When the daemon is leaving.
    pub async fn queue(&self) -> Result<Load> {
        self.ask(CountRuns).await
    }

    /// Runs that were under way when this daemon started.
    #[must_use]
    pub const fn adopted(&self) -> u32 {
        self.adopted
    }

    /// The number of the last durable commit.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.reader.watermark()
    }
}

/// Refuses a run that the session does not have.
fn has_run(record: &SessionRecord, number: u32) -> Result<()> {
    let hint = match record.runs.len() {
        runs if runs > number as usize => return Ok(()),
        1 => "it has run 0 only".to_owned(),
        runs => format!("it has runs 0 to {}", runs.saturating_sub(1)),
    };
    let message = format!("{} has no run {number}", record.id);
    Err(Error::new(ErrorCode::SessionNotFound, message).hint(hint))
}
