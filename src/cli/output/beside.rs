//! What is said of events beside the output.

use super::{Beside, Printer};
use crate::cli::describe::{describe, image_there, spent};
use crate::cli::ui::Ui;
use crate::model::{
    Error, ErrorCode, EventKind, Outcome, RuntimeName, SessionEvent, Spec, Stream, Ulid,
};

/// What a session runs in that is no image built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// An image that somebody else made.
    Pulled,
    /// No image: this machine.
    Here,
}

impl Elsewhere {
    pub(super) fn of(spec: &Spec) -> Option<Self> {
        match spec.runtime {
            RuntimeName::Local => Some(Self::Here),
            RuntimeName::Docker if !spec.pod.dockerfile => Some(Self::Pulled),
            RuntimeName::Docker | RuntimeName::Fake => None,
        }
    }
}

impl Printer {
    /// A run's error as it is to be said at its end: what the builder wrote is
    /// not said again where it was seen as it came.
    #[must_use]
    pub fn at_the_end(&self, ui: &Ui, session: Ulid, run: u32, error: &Error) -> Error {
        let seen = self.built.contains(&(session, run)) && !ui.is_terminal(Stream::Stderr);
        let mut error = error.clone();
        if seen
            && error.code == ErrorCode::BuildFailed
            && let Some((first, _)) = error.message.split_once('\n')
        {
            error.message = first.trim_end_matches(':').to_owned();
        }
        error
    }

    /// What is said of an event beside output, if anything.
    pub(super) fn describe(&mut self, event: &SessionEvent) -> Option<String> {
        if self.manner.raw {
            return None;
        }
        let run = (event.ulid, event.event.run);
        let place = self.places.get(&event.ulid).copied();
        match (self.manner.beside, &event.event.kind) {
            (_, EventKind::BuildOutput { .. }) if self.began.contains(&run) => None,
            // Said at the end, with what to do about it.
            (Beside::Everything, EventKind::Error { .. }) => None,
            (
                Beside::Everything,
                EventKind::RunEnded {
                    outcome,
                    why,
                    usage,
                    turns,
                },
            ) => {
                let mut ended = ended(event, outcome, self.codes.get(&run).copied());
                if let Some(spent) = spent(usage.as_ref(), *turns) {
                    ended.push_str(&format!(", {spent}"));
                }
                let hint = why.as_ref().and_then(|why| why.rsplit_once("\nhint: "));
                Some(match hint {
                    Some((_, hint)) => format!("{ended}\nhint: {hint}"),
                    None => ended,
                })
            }
            (Beside::Everything, EventKind::ContainerExited { .. } | EventKind::Agent { .. }) => {
                None
            }
            // The session was named already; what it lacks is worth a line.
            (Beside::Everything, EventKind::Created { spec }) => {
                let local = spec.runtime == RuntimeName::Local;
                local.then(|| {
                    "note: runs as a plain process of this machine: nothing isolates it".to_owned()
                })
            }
            (
                Beside::Everything,
                EventKind::BuildComplete {
                    seconds,
                    cached,
                    created,
                    ..
                },
            ) if place == Some(Elsewhere::Pulled) => Some(match cached {
                true => image_there(event.event.time, *created, true),
                false => format!("image pulled in {seconds:.1} s"),
            }),
            (
                Beside::Everything,
                EventKind::BuildStarted { .. } | EventKind::BuildComplete { .. },
            ) if place == Some(Elsewhere::Here) => None,
            (Beside::Everything, _) => describe(&event.event),
            (Beside::Trouble, EventKind::Note { code, .. }) if code == "adopted" => None,
            (
                Beside::Trouble,
                EventKind::BuildOutput { .. } | EventKind::Error { .. } | EventKind::Note { .. },
            ) => describe(&event.event),
            (Beside::Trouble, EventKind::Queued { prompt, .. }) if event.event.run > 0 => {
                Some(format!("run {}: {}", event.event.run, prompt.summary(100)))
            }
            (Beside::Trouble, EventKind::RunEnded { usage, turns, .. })
                if self.is_readable(self.agents.get(&event.ulid).copied()) =>
            {
                let spent = spent(usage.as_ref(), *turns)?;
                Some(format!("run {}: {spent}", event.event.run))
            }
            (Beside::Trouble, _) => None,
        }
    }
}

fn ended(event: &SessionEvent, outcome: &Outcome, code: Option<u8>) -> String {
    let id = &event.session;
    let outcome = outcome.name().replace('_', " ");
    match code {
        Some(code) => format!("{id} ended: {outcome}, exit code {code}"),
        None => format!("{id} ended: {outcome}"),
    }
}
