//! Numbers events and holds them against the state machine before they are written.

use crate::model::{Event, EventKind, IllegalTransition, SessionRecord, Timestamp, Ulid};

/// A session's record and where its next event goes.
pub(super) struct Recorder {
    record: Option<SessionRecord>,
    ulid: Ulid,
    next_seq: u64,
    last: Timestamp,
}

/// Events that fit, and the projection if they changed it.
pub(super) struct Staged {
    pub(super) events: Vec<Event>,
    pub(super) record: Option<SessionRecord>,
}

impl Recorder {
    /// A session that is not there yet.
    pub(super) const fn new(ulid: Ulid) -> Self {
        Self {
            record: None,
            ulid,
            next_seq: 1,
            last: Timestamp(0),
        }
    }

    /// A session whose last durable event was `next_seq - 1`, at `last`.
    pub(super) const fn resume(record: SessionRecord, next_seq: u64, last: Timestamp) -> Self {
        Self {
            ulid: record.ulid,
            record: Some(record),
            next_seq,
            last,
        }
    }

    /// The projection, with all that was staged.
    pub(super) const fn record(&self) -> Option<&SessionRecord> {
        self.record.as_ref()
    }

    /// The number of the next event.
    pub(super) const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Numbers `kinds` and applies them. Times never go back within a session.
    ///
    /// # Errors
    /// When one of them may not follow; nothing is changed then.
    pub(super) fn stage(
        &mut self,
        run: u32,
        kinds: Vec<(Timestamp, EventKind)>,
    ) -> Result<Staged, IllegalTransition> {
        let mut last = self.last;
        let events: Vec<Event> = kinds
            .into_iter()
            .zip(self.next_seq..)
            .map(|((time, kind), seq)| {
                last = last.max(time);
                Event {
                    seq,
                    run,
                    time: last,
                    kind,
                }
            })
            .collect();
        let record = self.apply(&events)?;
        self.next_seq += events.len() as u64;
        self.last = last;
        if let Some(record) = &record {
            self.record = Some(record.clone());
        }
        Ok(Staged { events, record })
    }

    fn apply(&self, events: &[Event]) -> Result<Option<SessionRecord>, IllegalTransition> {
        // Output comes by the million and changes no projection: no copy for it.
        let passing = |event: &Event| event.kind.is_passing();
        let mut changed = false;
        let mut copy = None;
        for event in events {
            let record = match (&mut copy, &self.record) {
                (Some(record), _) => record,
                (slot @ None, Some(record)) => {
                    if passing(event) && events.iter().all(passing) {
                        return record.check_passing(events).map(|()| None);
                    }
                    slot.insert(record.clone())
                }
                (slot @ None, None) => {
                    *slot = Some(SessionRecord::begin(self.ulid, event)?);
                    changed = true;
                    continue;
                }
            };
            changed |= record.apply(event)?;
        }
        Ok(copy.filter(|_| changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::Step;
    use crate::model::spec::PodSpec;
    use crate::model::{
        AgentEvent, AgentKind, Blob, Bounds, ErrorCode, How, Outcome, Output, RuntimeName, Spec,
        Stream,
    };
    use proptest::prelude::*;

    fn spec() -> Spec {
        let pod = serde_json::json!({"name": "pod", "dir": "/pods/pod", "image": "cldpd-pod", "dockerfile": true});
        let pod = serde_json::from_value::<PodSpec>(pod).unwrap();
        Spec::bare(pod, RuntimeName::Fake, AgentKind::Command)
    }

    fn queued(how: How) -> EventKind {
        let prompt = Blob::from("do it");
        EventKind::Queued {
            how,
            prompt,
            task: None,
            env: vec![],
            fresh: None,
            branch: None,
            bounds: Bounds::default(),
            task_at: 0,
            retry: None,
            position: None,
            reason: None,
        }
    }

    /// What may be tried at any moment, legal or not.
    fn anything() -> impl Strategy<Value = EventKind> {
        let output = Output {
            stream: Stream::Stdout,
            data: b"x".to_vec(),
            continued: false,
        };
        let container = "c".to_owned();
        prop_oneof![
            Just(queued(How::New)),
            Just(queued(How::Steer)),
            (0u32..3).prop_map(|run| {
                let message = crate::model::message::message_id(Ulid(1), run);
                let event = AgentEvent::Heard { message };
                EventKind::Agent { event }
            }),
            Just(EventKind::Deferred { why: String::new() }),
            Just(EventKind::Preparing {
                step: String::new()
            }),
            (1u32..4).prop_map(|attempt| EventKind::BuildStarted {
                attempt,
                tag: String::new()
            }),
            Just(EventKind::BuildOutput {
                line: Blob::default()
            }),
            Just(EventKind::BuildComplete {
                image: "i".to_owned(),
                seconds: 0.0,
                cached: false,
                created: None,
                config: None
            }),
            (1u32..4).prop_map({
                let container = container.clone();
                move |attempt| EventKind::Creating {
                    attempt,
                    container: container.clone(),
                }
            }),
            Just(EventKind::RunStarted {
                how: How::New,
                prompt: String::new()
            }),
            Just(EventKind::ContainerStarted {
                container: container.clone(),
                id: container
            }),
            Just(EventKind::Output(output.clone())),
            Just(EventKind::Output(output)),
            Just(EventKind::Stopping {
                signal: "SIGTERM".to_owned(),
                deadline: Timestamp(9),
                by: "user".to_owned(),
                id: Ulid(7)
            }),
            Just(EventKind::ContainerExited {
                finished: Timestamp(3),
                code: 0,
                oom_killed: false,
                signal: None
            }),
            Just(EventKind::Error {
                code: ErrorCode::Gone,
                message: String::new()
            }),
            Just(EventKind::RunEnded {
                outcome: Outcome::Success,
                why: None,
                usage: None,
                turns: None,
            }),
            Just(EventKind::Note {
                code: "n".to_owned(),
                message: String::new()
            }),
            Just(EventKind::Removed {
                complete: true,
                message: None
            }),
        ]
    }

    fn replay(journal: &[Event], ulid: Ulid) -> Result<SessionRecord, IllegalTransition> {
        let (first, rest) = journal.split_first().expect("a session has a first event");
        let mut record = SessionRecord::begin(ulid, first)?;
        for event in rest {
            record.apply(event)?;
        }
        Ok(record)
    }

    proptest! {
        /// Whatever is tried in whatever order, and wherever the daemon dies:
        /// what was let into the journal replays to the same state.
        #[test]
        fn a126_any_interleaving_replays(
            steps in proptest::collection::vec((0u32..3, anything(), any::<bool>(), -5i64..50), 0..80)
        ) {
            let ulid = Ulid(1);
            let mut recorder = Recorder::new(ulid);
            let created = EventKind::Created { spec: Box::new(spec()) };
            let staged = recorder.stage(0, vec![(Timestamp(1), created), (Timestamp(1), queued(How::New))]);
            let mut journal = staged.map_err(|e| TestCaseError::fail(e.to_string()))?.events;
            for (run, kind, crash, time) in steps {
                if let Ok(staged) = recorder.stage(run, vec![(Timestamp(time), kind)]) {
                    journal.extend(staged.events);
                }
                if crash {
                    let record = replay(&journal, ulid).map_err(|e| TestCaseError::fail(e.to_string()))?;
                    let last = journal.last().map_or(Timestamp(0), |event| event.time);
                    recorder = Recorder::resume(record, journal.len() as u64 + 1, last);
                }
            }
            let replayed = replay(&journal, ulid).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(Some(&replayed), recorder.record());
            for pair in journal.windows(2) {
                prop_assert_eq!(pair[1].seq, pair[0].seq + 1);
                prop_assert!(pair[1].time >= pair[0].time);
            }
            for run in &replayed.runs {
                let count = |wanted: &dyn Fn(&EventKind) -> bool| {
                    journal.iter().filter(|e| e.run == run.number && wanted(&e.kind)).count()
                };
                let ends = count(&|k| matches!(k, EventKind::ContainerExited { .. } | EventKind::Error { .. }));
                prop_assert!(ends <= 1, "{} ends", ends);
                let concluded = count(&|k| matches!(k, EventKind::RunEnded { .. }));
                let sent = count(&|k| matches!(k, EventKind::RunStarted { .. }));
                // A message is no process that ends, and once it was deferred is sent as a run.
                let deferred = count(&|k| matches!(k, EventKind::Deferred { .. }));
                prop_assert!(deferred <= 1 && sent <= 1 + deferred);
                prop_assert!(concluded <= ends || run.how == How::Steer && concluded == 1);
                prop_assert_eq!(run.state.is_ended(), run.state.step() == Step::Done);
            }
        }
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut recorder = Recorder::new(Ulid(1));
        let created = EventKind::Created {
            spec: Box::new(spec()),
        };
        recorder
            .stage(
                0,
                vec![(Timestamp(1), created), (Timestamp(1), queued(How::New))],
            )
            .unwrap();
        let before = recorder.record().cloned();
        let preparing = EventKind::Preparing {
            step: String::new(),
        };
        let ended = EventKind::RunEnded {
            outcome: Outcome::Success,
            why: None,
            usage: None,
            turns: None,
        };
        assert!(
            recorder
                .stage(
                    0,
                    vec![(Timestamp(2), preparing.clone()), (Timestamp(2), ended)]
                )
                .is_err()
        );
        assert_eq!(recorder.record().cloned(), before);
        let staged = recorder.stage(0, vec![(Timestamp(0), preparing)]).unwrap();
        assert_eq!(
            (staged.events[0].seq, staged.events[0].time),
            (3, Timestamp(1))
        );
    }
}
