//! A session as the events tell it: the projection that `sessions` and `inspect` show.

use super::agent_event::AgentEvent;
use super::bounds::Bounds;
use super::event::is_zero;
use super::event::{Branch, Event, EventKind, Fresh, How};
use super::ids::{HomeId, PodName, SessionId, Ulid};
use super::message::is_message;
use super::outcome::Outcome;
use super::retry::Retry;
use super::run::{IllegalTransition, RunState};
use super::schema::UlidText;
use super::spec::{AgentKind, ImageConfig, Keep, RuntimeName};
use super::time::Timestamp;
use super::usage::{Account, ByModel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An agent may call its conversation something else with every line: the last
/// names are kept.
const AGENT_SESSIONS_MAX: usize = 64;
/// The last signals are kept, for a daemon that has to send them again.
const SIGNALS_MAX: usize = 16;

/// Longest first line of a task that is shown in lists, in characters.
pub const SUMMARY: usize = 200;

/// A session, folded from its events. Derived: the journal can make it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRecord {
    /// Its ULID; its time is when it was dispatched.
    #[schemars(with = "UlidText")]
    pub ulid: Ulid,
    /// What people call it.
    pub id: SessionId,
    /// `--name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its pod.
    pub pod: PodName,
    /// Where it runs.
    pub runtime: RuntimeName,
    /// Its agent.
    pub agent: AgentKind,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was dispatched.
    pub created: Timestamp,
    /// What is kept of its container.
    pub keep: Keep,
    /// `--rm`.
    #[serde(default)]
    pub remove: bool,
    /// Its agent takes messages while it works.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub steer: bool,
    /// How far its agent may go.
    #[serde(default, skip_serializing_if = "Bounds::is_empty")]
    pub bounds: Bounds,
    /// The agent's own ids of the conversation, newest last.
    #[serde(default)]
    pub agent_sessions: Vec<String>,
    /// The agent's version, as it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// The model that the agent said last it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_model: Option<String>,
    /// What its first image says about how it is to be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<ImageConfig>,
    /// Its runs, by number.
    pub runs: Vec<RunRecord>,
    /// The home that recorded it, where it was imported: nothing of it runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<UlidText>")]
    pub imported: Option<HomeId>,
    /// What it had was removed: `Some(false)` when something is left to remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<bool>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// Its number, from 0.
    pub number: u32,
    /// How it came about.
    pub how: How,
    /// The first line of its task, cut to 200 characters: of the prompt,
    /// without the pod's template.
    pub prompt: String,
    /// The event that has the prompt whole.
    pub queued_seq: u64,
    /// Names of variables whose values came with it and are not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// It goes on with no conversation, but begins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh: Option<Fresh>,
    /// It leaves the line of the conversation, or goes on with one that left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Branch>,
    /// The agent's own id of the fork that it made, once it has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked: Option<String>,
    /// How far its agent may go, where that is not the session's.
    #[serde(default, skip_serializing_if = "Bounds::is_empty")]
    pub bounds: Bounds,
    /// Its agent takes messages while it works, and this prompt is its first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub steerable: bool,
    /// Bytes of its prompt that are the pod's template.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub task_at: u64,
    /// It tries again what another run failed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// When it was asked for.
    pub queued: Timestamp,
    /// When the agent's program began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// The image it ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The agent's last word on how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AgentEvent>,
    /// What the agent accounted for.
    #[serde(default, skip_serializing_if = "Account::is_empty")]
    pub account: Account,
    /// A limit of its provider that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<ReachedLimit>,
    /// A SIGINT was sent to it on a user's behalf.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// The last signals that were sent to it on a user's behalf.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SentSignal>,
    /// Where it stands.
    pub state: RunState,
}

/// A limit of an agent's provider that is reached: nothing is answered until it begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReachedLimit {
    /// Which, in the agent's words.
    #[serde(default)]
    pub name: String,
    /// When it begins anew, where the agent says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets: Option<Timestamp>,
}

/// A signal that was sent on a user's behalf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SentSignal {
    /// Its name, as in `SIGINT`.
    pub signal: String,
    /// The id of the command at the shim.
    #[schemars(with = "UlidText")]
    pub id: Ulid,
}

impl SessionRecord {
    /// Begins with a session's first event.
    ///
    /// # Errors
    /// When `event` is not `created`.
    pub fn begin(ulid: Ulid, event: &Event) -> Result<Self, IllegalTransition> {
        let EventKind::Created { spec } = &event.kind else {
            return Err(IllegalTransition {
                state: "not there",
                event: event.kind.name(),
            });
        };
        Ok(Self {
            ulid,
            id: SessionId::new(&spec.pod.name, ulid),
            name: spec.name.clone(),
            pod: spec.pod.name.clone(),
            runtime: spec.runtime,
            agent: spec.agent,
            labels: spec.labels.clone(),
            created: event.time,
            keep: spec.pod.keep,
            remove: spec.remove,
            steer: spec.steer,
            bounds: spec.bounds,
            agent_sessions: spec.agent_session.iter().cloned().collect(),
            agent_version: None,
            agent_model: None,
            image_config: None,
            runs: Vec::new(),
            imported: None,
            removed: None,
        })
    }

    /// Takes the next event. Returns whether anything changed.
    ///
    /// # Errors
    /// [`IllegalTransition`]; nothing is changed then.
    pub fn apply(&mut self, event: &Event) -> Result<bool, IllegalTransition> {
        let illegal = |state| IllegalTransition {
            state,
            event: event.kind.name(),
        };
        match &event.kind {
            EventKind::Created { .. } => return Err(illegal("there already")),
            EventKind::Removed { complete, .. } => {
                if self.live_run().is_some() {
                    return Err(illegal("live"));
                }
                self.removed = Some(*complete);
                return Ok(true);
            }
            EventKind::Queued {
                how,
                prompt,
                task,
                env,
                fresh,
                branch,
                bounds,
                task_at,
                retry,
                ..
            } => {
                if event.run as usize != self.runs.len() || self.removed.is_some() {
                    return Err(illegal("of another run"));
                }
                let to = self.live_run().map(|run| run.number);
                let state = match (how, to) {
                    (How::Steer, Some(to)) => RunState::steering(to),
                    (How::Steer, None) => return Err(illegal("not working")),
                    (How::New | How::Next | How::Exec | How::Retry, _) => RunState::queued(),
                };
                // What shortens the conversation is no message in it.
                let compacts = retry.as_ref().is_some_and(|retry| retry.compacts);
                self.runs.push(RunRecord {
                    number: event.run,
                    how: *how,
                    prompt: task.clone().unwrap_or_else(|| prompt.summary(SUMMARY)),
                    queued_seq: event.seq,
                    env: env.clone(),
                    fresh: fresh.clone(),
                    branch: *branch,
                    forked: None,
                    bounds: *bounds,
                    steerable: self.steer && is_message(prompt) && !compacts,
                    task_at: *task_at,
                    retry: retry.clone(),
                    queued: event.time,
                    started: None,
                    image: None,
                    result: None,
                    account: Account::default(),
                    limit: None,
                    interrupted: false,
                    signals: Vec::new(),
                    state,
                });
                return Ok(true);
            }
            _ => {}
        }
        let number = event.run as usize;
        let run = self
            .runs
            .get_mut(number)
            .ok_or_else(|| illegal("not there"))?;
        if event.kind.is_passing() {
            run.state.accepts_passing(&event.kind)?;
            return Ok(false);
        }
        run.state = run.state.next(&event.kind, event.time)?;
        match &event.kind {
            EventKind::BuildComplete { image, config, .. } => {
                run.image = Some(image.clone());
                if self.image_config.is_none() {
                    self.image_config.clone_from(config);
                }
            }
            EventKind::ContainerStarted { .. } => run.started = Some(event.time),
            EventKind::Deferred { .. } => run.how = How::Next,
            EventKind::RunEnded {
                outcome: Outcome::Success,
                ..
            } if run.is_fork() => run.forked = run.said_session(),
            EventKind::Signalled { signal, id } => {
                run.interrupted |= signal == "SIGINT";
                if run.signals.len() == SIGNALS_MAX {
                    run.signals.remove(0);
                }
                let (signal, id) = (signal.clone(), *id);
                run.signals.push(SentSignal { signal, id });
            }
            EventKind::Agent { event: said } => {
                self.tell_messages(said, event.run, event.time);
                return Ok(self.take(said.clone(), number));
            }
            EventKind::Note { .. } => return Ok(false),
            _ => {}
        }
        Ok(true)
    }

    /// What an agent said. Returns whether anything changed.
    fn take(&mut self, event: AgentEvent, number: usize) -> bool {
        let Some(run) = self.runs.get_mut(number) else {
            return false;
        };
        let mut changed = run.account.take(&event);
        match &event {
            AgentEvent::Limit {
                reached,
                name,
                resets,
            } => {
                let (name, resets) = (name.clone(), *resets);
                run.limit = reached.then_some(ReachedLimit { name, resets });
                changed = true;
            }
            // It was answered.
            AgentEvent::Usage { .. } => run.limit = None,
            AgentEvent::Heard { .. } | AgentEvent::Dropped { .. } => changed = true,
            _ => {}
        }
        let fork = run.is_fork();
        let session = match &event {
            AgentEvent::Init {
                agent_session,
                model,
                version,
                ..
            } => {
                changed = true;
                let said = |slot: &mut Option<String>, said: &Option<String>| {
                    if said.is_some() {
                        slot.clone_from(said);
                    }
                };
                said(&mut self.agent_version, version);
                said(&mut self.agent_model, model);
                agent_session.clone()
            }
            AgentEvent::Result { agent_session, .. } => agent_session.clone(),
            _ => None,
        };
        if let AgentEvent::Result { .. } = event {
            changed = true;
            run.result = Some(event);
        }
        if let Some(id) = session.filter(|_| !fork)
            && self.agent_sessions.last() != Some(&id)
        {
            self.agent_sessions.push(id);
            if self.agent_sessions.len() > AGENT_SESSIONS_MAX {
                self.agent_sessions.remove(0);
            }
        }
        changed
    }

    /// Whether events that change nothing ([`EventKind::is_passing`]) fit.
    ///
    /// # Errors
    /// [`IllegalTransition`].
    pub fn check_passing(&self, events: &[Event]) -> Result<(), IllegalTransition> {
        for event in events {
            let Some(run) = self.runs.get(event.run as usize) else {
                return Err(IllegalTransition {
                    state: "not there",
                    event: event.kind.name(),
                });
            };
            run.state.accepts_passing(&event.kind)?;
        }
        Ok(())
    }

    /// The run that is not over, the earliest if several wait. Where it was
    /// imported none is: what was under way is so elsewhere, if at all.
    #[must_use]
    pub fn live_run(&self) -> Option<&RunRecord> {
        if self.imported.is_some() {
            return None;
        }
        self.runs.iter().find(|run| !run.state.is_ended())
    }

    /// The run that says how the session stands: the live one, else the last with a
    /// process of its own that was not taken back before it ran, else the last.
    #[must_use]
    pub fn current_run(&self) -> Option<&RunRecord> {
        let says_nothing = |run: &&RunRecord| match &run.state {
            RunState::Ended { outcome, .. } => {
                *outcome == Outcome::Cancelled || run.how == How::Steer
            }
            RunState::Live { .. } => false,
        };
        let ran = || self.runs.iter().rev().find(|run| !says_nothing(run));
        self.live_run().or_else(ran).or_else(|| self.runs.last())
    }

    /// The conversation that a run goes on with: the last that the agent named before
    /// it, unless the run begins one.
    #[must_use]
    pub fn conversation(&self, run: &RunRecord) -> Option<&str> {
        match (&run.fresh, run.branch) {
            (Some(_), _) => None,
            (None, Some(Branch::From { run })) => self.runs.get(run as usize)?.forked.as_deref(),
            (None, Some(Branch::Fork) | None) => self.agent_sessions.last().map(String::as_str),
        }
    }

    /// The runs whose conversation a run goes on with, from the last.
    fn line(&self, run: u32) -> impl Iterator<Item = &RunRecord> {
        let before = |of: &RunRecord| match (&of.fresh, of.branch) {
            (Some(_), _) => None,
            (None, Some(Branch::From { run })) => self.runs.get(run as usize),
            (None, Some(Branch::Fork) | None) => {
                let mut earlier = self.runs.iter().take(of.number as usize).rev();
                earlier.find(|run| run.started.is_some() && !run.is_fork())
            }
        };
        let first = self.runs.get(run as usize).and_then(before);
        std::iter::successors(first, move |run| before(run))
    }

    /// What its agent used in the conversation of a run in the runs before it, by model.
    #[must_use]
    pub fn used_before(&self, run: u32) -> ByModel {
        let mut used = ByModel::new();
        for run in self.line(run) {
            for (model, usage) in &run.account.models {
                let slot = used.entry(model.clone()).or_default();
                *slot = slot.plus(usage);
            }
        }
        used
    }

    /// US dollars that its agent counted in the runs before that one.
    #[must_use]
    pub fn spent_before(&self, run: u32) -> f64 {
        let before = self.runs.iter().filter(|earlier| earlier.number < run);
        let costs = before.filter_map(|run| run.account.total().cost_usd);
        costs.sum()
    }

    /// Whether a record says the same. One that an earlier version made of the same
    /// events may lack what was not kept then.
    #[must_use]
    pub fn is_told_by(&self, other: &Self) -> bool {
        self == other || self.as_of_before() == other.as_of_before()
    }

    /// Without what versions before 0.2 did not keep.
    fn as_of_before(&self) -> Self {
        let mut before = self.clone();
        before.agent_version = None;
        before.agent_model = None;
        before.steer = false;
        before.bounds = Bounds::default();
        for run in &mut before.runs {
            run.steerable = false;
            run.account = Account::default();
            run.limit = None;
        }
        before
    }

    /// Whether a run is not over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live_run().is_some()
    }

    /// The last container that ran, which may be kept to be resumed from.
    #[must_use]
    pub fn last_place(&self) -> Option<(&RunRecord, &super::run::Place)> {
        self.runs.iter().rev().find_map(|run| match &run.state {
            RunState::Ended {
                place: Some(place), ..
            } if run.started.is_some() => Some((run, place)),
            _ => None,
        })
    }
}

impl RunRecord {
    /// Nothing that is said in it is known to later runs.
    #[must_use]
    pub fn is_fork(&self) -> bool {
        self.branch == Some(Branch::Fork)
    }

    /// The conversation that its agent named last.
    fn said_session(&self) -> Option<String> {
        match &self.result {
            Some(AgentEvent::Result { agent_session, .. }) => agent_session.clone(),
            _ => None,
        }
    }
}

impl RunState {
    /// The cheap check for the events that come by the million.
    fn accepts_passing(&self, kind: &EventKind) -> Result<(), IllegalTransition> {
        use super::run::Phase;
        let Self::Live { phase, .. } = self else {
            return Err(IllegalTransition {
                state: self.name(),
                event: kind.name(),
            });
        };
        let fits = match kind {
            EventKind::Output(_) | EventKind::Agent { .. } => {
                matches!(phase, Phase::Running { .. })
            }
            EventKind::BuildOutput { .. } => matches!(phase, Phase::Building { .. }),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(IllegalTransition {
            state: self.name(),
            event: kind.name(),
        })
    }
}
