//! What is recorded of a session whose actor fails however often it is made again.
//!
//! Its runs end as failed, by the supervisor's hand; their container is left as
//! it is, with all that it still says in its spool. Nothing is known to be wrong
//! with it: only that nobody here can look after it.

use super::driver::run_ended;
use super::environment;
use super::record::Recorder;
use super::session::Birth;
use crate::model::run::{End, Phase, outcome};
use crate::model::{
    AgentKind, Error, ErrorCode, EventKind, Result, RunRecord, RunState, SessionRecord, Timestamp,
};
use crate::store::Append;

/// Ends what is live of the session that `birth` would go on with.
///
/// # Errors
/// When the journal cannot be written.
pub(super) async fn give_up(birth: Birth) -> Result<SessionRecord> {
    let Birth {
        shared,
        claim,
        record,
        last,
        ..
    } = birth;
    let dir = shared.session_dir(record.ulid);
    // The last first, as whoever stops a session does.
    let live = record.runs.iter().filter(|run| !run.state.is_ended());
    let ends: Vec<_> = live
        .rev()
        .map(|run| (run.number, ends(&record, run)))
        .collect();
    let (session, mut now) = (record.ulid, record.clone());
    let mut recorder = Recorder::resume(record, claim.next_seq, last);
    let internal = |why: &dyn std::fmt::Display| Error::new(ErrorCode::Internal, why.to_string());
    for (run, kinds) in ends {
        let staged = recorder.stage(run, kinds);
        let staged = staged.map_err(|illegal| internal(&illegal))?;
        now = staged.record.clone().unwrap_or(now);
        let append = Append {
            session,
            generation: claim.generation,
            events: staged.events,
            cursors: Vec::new(),
            record: staged.record,
            requests: Vec::new(),
        };
        for appended in shared.journal.append(vec![append]).await? {
            appended.map_err(|refused| internal(&refused))?;
        }
        environment::forget_unneeded(&dir, &now, run);
    }
    Ok(now)
}

fn ends(record: &SessionRecord, run: &RunRecord) -> Vec<(Timestamp, EventKind)> {
    let RunState::Live { phase, stop } = &run.state else {
        return Vec::new();
    };
    let now = Timestamp::now();
    let (error, end) = match phase {
        Phase::Over { end, .. } => (None, end.clone()),
        _ => {
            let left = match phase.place() {
                Some(place) => format!(
                    "; {} was left as it is\nhint: `cldpd rm {}` removes it",
                    place.container, record.id
                ),
                None => String::new(),
            };
            let code = ErrorCode::Internal;
            let message = format!("cldpd failed again and again in looking after it{left}");
            let error = EventKind::Error {
                code,
                message: message.clone(),
            };
            (Some(error), End::Error { code, message })
        }
    };
    let outcome = outcome(
        record.agent != AgentKind::Command,
        stop.as_ref(),
        &end,
        run.result.as_ref(),
        run.interrupted,
    );
    let ended = run_ended(&run.account, outcome, None);
    error
        .into_iter()
        .chain([ended])
        .map(|kind| (now, kind))
        .collect()
}
