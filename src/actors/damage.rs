//! Sessions whose record was found damaged when the journal was opened.

use crate::model::api::{Check, SessionView};
use crate::model::{AgentKind, Error, PodName, RuntimeName, SessionId, Timestamp, Ulid};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is damaged, and what was.
#[derive(Default)]
pub(super) struct Damage {
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    mended: Vec<String>,
    lost: BTreeMap<Ulid, Error>,
}

impl Damage {
    /// A session's projection was made again.
    pub(super) fn mended(&self, id: String) {
        self.lock().mended.push(id);
    }

    /// A session's record can be neither read nor made again.
    pub(super) fn lost(&self, session: Ulid, why: Error) {
        self.lock().lost.insert(session, why);
    }

    /// The sessions whose record is lost, newest first, as lists show them.
    pub(super) fn views(&self) -> Vec<SessionView> {
        let found = self.lock();
        let lost = found.lost.iter().rev();
        lost.filter_map(|(session, why)| view(*session, why))
            .collect()
    }

    /// What `doctor` says of it.
    pub(super) fn checks(&self) -> Vec<Check> {
        let found = self.lock();
        let mut checks = Vec::new();
        if !found.mended.is_empty() {
            checks.push(Check::warning(
                "projections",
                format!(
                    "made again from events when the daemon started: {}",
                    found.mended.join(", ")
                ),
                "`cldpd journal verify` looks whether anything else is damaged",
            ));
        }
        for (session, why) in &found.lost {
            let why = Error::new(why.code, format!("session {session}: {}", why.message));
            let hint = "`cldpd journal export` writes down what can be read of it";
            checks.push(Check::failed("damaged", why.hint(hint)));
        }
        checks
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that is known of a session is its ULID.
fn view(session: Ulid, why: &Error) -> Option<SessionView> {
    let pod = PodName::new("unknown").ok()?;
    let millis = i64::try_from(session.timestamp_ms()).unwrap_or(0);
    Some(SessionView {
        id: SessionId::new(&pod, session),
        ulid: session,
        name: None,
        pod,
        runtime: RuntimeName::Docker,
        agent: AgentKind::Command,
        state: "damaged".to_owned(),
        outcome: None,
        code: None,
        error: Some(why.clone()),
        degraded: None,
        position: None,
        waits_for: None,
        runs: 0,
        run: 0,
        created: Timestamp(millis.saturating_mul(1_000_000)),
        started: None,
        ended: None,
        cost_usd: None,
        usage: None,
        waiting_limit: None,
        turns: 0,
        container: None,
        image: None,
        agent_session: None,
        prompt: String::new(),
        labels: BTreeMap::new(),
    })
}
