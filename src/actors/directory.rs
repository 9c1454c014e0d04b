//! Which sessions there are, in memory, so that a name is found without a scan.
//!
//! About 150 bytes a session, and its labels; made from the journal at start.

use crate::model::ids::check_session_ref;
use crate::model::{Error, ErrorCode, PodName, Result, RunState, SessionId, SessionRecord, Ulid};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Clone)]
struct Entry {
    id: SessionId,
    pod: PodName,
    name: Option<String>,
    labels: BTreeMap<String, String>,
    live: bool,
    standing: Standing,
}

/// The state of a session, and the outcome of its last run where none is live.
pub(super) type Standing = (&'static str, Option<&'static str>);

/// Which sessions are meant, as far as the directory knows them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice<'a> {
    /// Only live ones.
    pub(super) live_only: bool,
    /// Of this pod.
    pub(super) pod: Option<&'a str>,
    /// In this state, a state's or an outcome's name.
    pub(super) state: Option<&'a str>,
    /// With all of these labels, `key` or `key=value`.
    pub(super) labels: &'a [String],
}

impl Choice<'_> {
    fn takes(&self, entry: &Entry) -> bool {
        let (state, outcome) = entry.standing;
        (entry.live || !self.live_only)
            && self.pod.is_none_or(|pod| entry.pod.as_str() == pod)
            && self
                .state
                .is_none_or(|wanted| state == wanted || outcome == Some(wanted))
            && has_labels(&entry.labels, self.labels)
    }
}

/// Whether all of these labels, `key` or `key=value`, are among a session's.
pub(super) fn has_labels(labels: &BTreeMap<String, String>, wanted: &[String]) -> bool {
    wanted.iter().all(|label| match label.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(label),
    })
}

/// The sessions of a home, by ULID.
#[derive(Default)]
pub(super) struct Directory {
    entries: Mutex<BTreeMap<Ulid, Entry>>,
}

impl Directory {
    /// Takes a session in, or its newer record.
    pub(super) fn put(&self, record: &SessionRecord) {
        let entry = Entry {
            id: record.id.clone(),
            pod: record.pod.clone(),
            name: record.name.clone(),
            labels: record.labels.clone(),
            live: record.is_live(),
            standing: standing(record),
        };
        self.lock().insert(record.ulid, entry);
    }

    /// Forgets a session.
    pub(super) fn remove(&self, session: Ulid) {
        self.lock().remove(&session);
    }

    /// Whether a session is there that has the id which `ulid` would have in `pod`.
    pub(super) fn has_id(&self, pod: &PodName, ulid: Ulid) -> bool {
        // Ten thousand are looked through for each that is dispatched: no text is compared.
        let alike = |other: &Ulid| other.0 as u32 == ulid.0 as u32;
        let entries = self.lock();
        let mut entries = entries.iter().filter(|(other, _)| alike(other));
        entries.any(|(_, entry)| entry.pod == *pod)
    }

    /// What people call a session; its ULID when it is not there.
    pub(super) fn name(&self, session: Ulid) -> String {
        let entries = self.lock();
        let entry = entries.get(&session);
        entry.map_or_else(|| session.to_string(), |entry| entry.id.to_string())
    }

    /// The live session of that name.
    pub(super) fn live_by_name(&self, name: &str) -> Option<SessionId> {
        self.lock()
            .values()
            .find(|entry| entry.live && entry.name.as_deref() == Some(name))
            .map(|entry| entry.id.clone())
    }

    /// A session's id, if it is there.
    pub(super) fn id(&self, session: Ulid) -> Option<SessionId> {
        self.lock().get(&session).map(|entry| entry.id.clone())
    }

    /// The live sessions, newest first.
    pub(super) fn live(&self) -> Vec<Ulid> {
        self.select(&Choice {
            live_only: true,
            ..Choice::default()
        })
    }

    /// The sessions that are meant, newest first.
    pub(super) fn select(&self, choice: &Choice<'_>) -> Vec<Ulid> {
        self.lock()
            .iter()
            .rev()
            .filter(|(_, entry)| choice.takes(entry))
            .map(|(ulid, _)| *ulid)
            .collect()
    }

    /// The newest session of each pod.
    pub(super) fn newest_by_pod(&self) -> BTreeMap<PodName, Ulid> {
        self.lock()
            .iter()
            .map(|(ulid, entry)| (entry.pod.clone(), *ulid))
            .collect()
    }

    /// Finds what the user named: a full id, a name, a pod (its only live
    /// session, else its only one), a unique prefix of an id, or a ULID.
    ///
    /// # Errors
    /// `usage` for what cannot be an id, `ambiguous` with the candidates,
    /// `session_not_found`.
    pub(super) fn resolve(&self, text: &str) -> Result<Ulid> {
        self.find(text, false)
    }

    /// As [`Directory::resolve`], but a pod means its only live session, else its latest.
    ///
    /// # Errors
    /// As [`Directory::resolve`].
    pub(super) fn resolve_for_resume(&self, text: &str) -> Result<Ulid> {
        self.find(text, true)
    }

    fn find(&self, text: &str, latest: bool) -> Result<Ulid> {
        check_session_ref(text)?;
        let entries = self.lock();
        let matching = |fits: &dyn Fn(&Entry) -> bool| -> Vec<Ulid> {
            entries
                .iter()
                .filter(|(_, e)| fits(e))
                .map(|(u, _)| *u)
                .collect()
        };
        if let [only] = matching(&|e| e.id.as_str() == text)[..] {
            return Ok(only);
        }
        // A name may be used again once its session is over: the live one counts.
        let named = matching(&|e| e.name.as_deref() == Some(text));
        let named_live = matching(&|e| e.live && e.name.as_deref() == Some(text));
        if let Some(found) = named_live.last().or(named.last()) {
            return Ok(*found);
        }
        let of_pod = matching(&|e| e.pod.as_str() == text);
        let live = matching(&|e| e.live && e.pod.as_str() == text);
        match (&live[..], &of_pod[..]) {
            ([only], _) | ([], [only]) => return Ok(*only),
            ([], [.., last]) if latest => return Ok(*last),
            ([], []) => {}
            (several @ [_, ..], _) | ([], several) => {
                return Err(ambiguous(text, several, &entries));
            }
        }
        let upper = text.to_ascii_uppercase();
        let prefixed: Vec<Ulid> = entries
            .iter()
            .filter(|(ulid, e)| {
                e.id.as_str().starts_with(text) || ulid.to_string().starts_with(&upper)
            })
            .map(|(ulid, _)| *ulid)
            .collect();
        match prefixed[..] {
            [only] => Ok(only),
            [] => Err(not_found(text)),
            _ => Err(ambiguous(text, &prefixed, &entries)),
        }
    }

    /// How many sessions stand how.
    pub(super) fn census(&self) -> BTreeMap<Standing, u64> {
        let mut census = BTreeMap::new();
        for entry in self.lock().values() {
            *census.entry(entry.standing).or_default() += 1;
        }
        census
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ulid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn standing(record: &SessionRecord) -> Standing {
    let current = record.current_run();
    let outcome = current.and_then(|run| match &run.state {
        RunState::Ended { outcome, .. } => Some(outcome.name()),
        RunState::Live { .. } => None,
    });
    match (record.removed, current) {
        (Some(true), _) => ("removed", outcome),
        (Some(false), _) => ("removing", outcome),
        (None, Some(run)) => (run.state.name(), outcome),
        (None, None) => ("queued", None),
    }
}

/// No session is called `text`.
pub(super) fn not_found(text: &str) -> Error {
    Error::new(ErrorCode::SessionNotFound, format!("no session \"{text}\""))
        .hint("`cldpd sessions -a` lists them all")
}

fn ambiguous(text: &str, found: &[Ulid], entries: &BTreeMap<Ulid, Entry>) -> Error {
    let mut message = format!("\"{text}\" fits {} sessions:", found.len());
    for ulid in found.iter().rev().take(10) {
        if let Some(entry) = entries.get(ulid) {
            let state = if entry.live { "live" } else { "ended" };
            message.push_str(&format!("\n  {}  {state}", entry.id));
        }
    }
    if found.len() > 10 {
        message.push_str("\n  …");
    }
    Error::new(ErrorCode::Ambiguous, message).hint("name one of them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentKind, RuntimeName, Timestamp, spec::Keep};

    fn record(pod: &str, n: u128, name: Option<&str>, live: bool) -> SessionRecord {
        let pod = PodName::new(pod).unwrap();
        let ulid = Ulid((n << 64) | n);
        let mut record = SessionRecord {
            ulid,
            id: SessionId::new(&pod, ulid),
            name: name.map(str::to_owned),
            pod,
            runtime: RuntimeName::Local,
            agent: AgentKind::Command,
            labels: BTreeMap::new(),
            created: Timestamp(0),
            keep: Keep::Always,
            remove: false,
            steer: false,
            bounds: crate::model::Bounds::default(),
            agent_sessions: vec![],
            agent_version: None,
            agent_model: None,
            image_config: None,
            runs: vec![],
            imported: None,
            removed: None,
        };
        if live {
            let json = serde_json::json!({"number": 0, "how": "new", "prompt": "", "queued_seq": 2,
                "queued": "1970-01-01T00:00:00Z", "state": {"state": "live", "phase": {"phase": "queued"}}});
            record.runs.push(serde_json::from_value(json).unwrap());
        }
        record
    }

    #[test]
    fn names_are_tried_in_order() {
        let directory = Directory::default();
        directory.put(&record("a", 0x1111_0001, None, false));
        directory.put(&record("a", 0x1111_0002, Some("mine"), true));
        directory.put(&record("b", 0x2222_0001, None, false));
        directory.put(&record("b", 0x2222_0002, None, false));
        let low = |text: &str| directory.resolve(text).map(|u| u.0 as u32);
        assert_eq!(low("a-11110001").unwrap(), 0x1111_0001);
        assert_eq!(low("mine").unwrap(), 0x1111_0002);
        assert_eq!(low("a").unwrap(), 0x1111_0002, "the only live one");
        assert_eq!(low("b").unwrap_err().code, ErrorCode::Ambiguous);
        assert_eq!(
            directory.resolve_for_resume("b").unwrap().0 as u32,
            0x2222_0002
        );
        assert_eq!(low("b-2222").unwrap_err().code, ErrorCode::Ambiguous);
        assert_eq!(low("c").unwrap_err().code, ErrorCode::SessionNotFound);
        assert_eq!(low("../x").unwrap_err().code, ErrorCode::Usage);
    }
}
