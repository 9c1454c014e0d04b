//! From a request to sessions that are durable: all of them or none.

use super::bounds;
use super::context::Shared;
use super::environment::{self, Caller, Values};
use super::preflight;
use super::record::Recorder;
use crate::agent;
use crate::model::api::{Dispatched, StartRequest, StartResponse, Task};
use crate::model::ids::check_session_name;
use crate::model::session::SUMMARY;
use crate::model::spec::{BuildOptions, Limits};
use crate::model::{
    AgentKind, Blob, Bounds, Error, ErrorCode, EventKind, How, Result, RuntimeName, SessionId,
    SessionRecord, Spec, Timestamp, Ulid, WaitsFor,
};
use crate::pod::Pod;
use crate::store::{Append, RequestRow};

/// Longest prompt, in bytes: the shim takes a run of 64 MiB with all that belongs to it.
pub(super) const PROMPT_MAX: usize = 48 << 20;
/// Sessions that one request may ask for.
const COUNT_MAX: u32 = 1000;

/// A session that is about to be recorded.
pub(super) struct Planned {
    pub(super) ulid: Ulid,
    pub(super) id: SessionId,
    pub(super) spec: Spec,
    prompt: Blob,
    /// The task's first line, where the prompt begins with something else.
    task: Option<String>,
    /// Where in the prompt the task begins.
    task_at: u64,
    values: Values,
}

/// What a request comes to.
pub(super) struct Plan {
    pub(super) sessions: Vec<Planned>,
    pub(super) notes: Vec<String>,
}

/// Reads the pods and checks everything that can be checked without an engine.
/// Blocking; nothing is written.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn plan(shared: &Shared, request: &StartRequest, now: Timestamp) -> Result<Plan> {
    let usage = |message: String| Error::new(ErrorCode::Usage, message);
    if request.pods.is_empty() {
        return Err(usage("no pod given".to_owned()));
    }
    if request.count == 0 || request.count > COUNT_MAX {
        let message = format!("--count {} is not between 1 and {COUNT_MAX}", request.count);
        return Err(usage(message));
    }
    if let Task::Prompt(prompt) = &request.task {
        check_prompt(prompt)?;
    }
    if let Some(name) = &request.name {
        check_session_name(name)?;
        if request.pods.len() != 1 || request.count != 1 {
            return Err(usage("--name is for a single session".to_owned()));
        }
        if let Some(id) = shared.directory.live_by_name(name) {
            let message = format!("the name \"{name}\" is that of the live session {id}");
            return Err(Error::new(ErrorCode::Refused, message).hint("choose another name"));
        }
    }
    let mut after = Vec::new();
    for name in &request.after {
        let session = shared.directory.resolve(name)?;
        if !after.contains(&session) {
            after.push(session);
        }
    }
    let mut plan = Plan {
        sessions: Vec::new(),
        notes: Vec::new(),
    };
    for name in &request.pods {
        let pod = shared.pods.load(name).map_err(Error::from)?;
        note_what_is_missing(&pod, request, &mut plan.notes);
        let caller = Caller {
            env: &request.env,
            inherited: &request.inherited,
            proxy: &request.proxy,
        };
        let own = pod.secret_env.clone();
        let runtime = runtime(shared, request, &pod);
        let values = Values::gather(&pod.spec, own, &caller, runtime, false)?;
        let kind = kind(request, &pod);
        let told = preflight::check(kind, &pod.spec, &values, now)?;
        plan.notes.extend(told);
        bounds::check(request.bounds.over(pod.bounds), kind, &pod.spec)?;
        for _ in 0..request.count {
            let values = values.clone();
            let session = planned(shared, request, &pod, values, &after, now, &plan.sessions);
            plan.sessions.push(session);
        }
    }
    Ok(plan)
}

/// Whether a prompt can be handed to an agent.
///
/// # Errors
/// `usage` for one that is too long.
pub(super) fn check_prompt(prompt: &Blob) -> Result<()> {
    if prompt.0.len() <= PROMPT_MAX {
        return Ok(());
    }
    let message = format!(
        "a prompt of {} bytes is longer than {PROMPT_MAX}",
        prompt.0.len()
    );
    Err(Error::new(ErrorCode::Usage, message)
        .hint("put it into a file that is mounted, and name that"))
}

fn note_what_is_missing(pod: &Pod, request: &StartRequest, notes: &mut Vec<String>) {
    let name = &pod.spec.name;
    notes.extend(pod.warnings.iter().cloned());
    for variable in &pod.spec.inherit_env {
        if !request.inherited.contains_key(variable) && !request.env.contains_key(variable) {
            notes.push(format!(
                "{variable} is not set here; pod {name} inherits it"
            ));
        }
    }
    for source in &pod.missing_mounts {
        let source = source.display();
        notes.push(format!(
            "optional mount {source} of pod {name} does not exist; left out"
        ));
    }
}

fn planned(
    shared: &Shared,
    request: &StartRequest,
    pod: &Pod,
    values: Values,
    after: &[Ulid],
    now: Timestamp,
    others: &[Planned],
) -> Planned {
    let (ulid, id) = loop {
        let random = Ulid::generate().random();
        // In the order in which they are asked for: that is also how they are served.
        let ulid = match others.last() {
            None => Ulid::from_parts(now.millis(), random >> 1),
            Some(last) => Ulid(last.ulid.0 + 1 + (random >> 16)),
        };
        let id = SessionId::new(&pod.spec.name, ulid);
        if !shared.directory.has_id(&pod.spec.name, ulid)
            && others.iter().all(|other| other.id != id)
        {
            break (ulid, id);
        }
    };
    let kind = kind(request, pod);
    let mut spec = Spec {
        name: request.name.clone(),
        labels: request.labels.clone(),
        runtime: runtime(shared, request, pod),
        agent: kind,
        model: request.model.clone().or_else(|| pod.model.clone()),
        permissions: pod.permissions,
        steer: pod.steer,
        agent_session: agent::choose_session(kind, &pod.spec, random()),
        pod: pod.spec.clone(),
        build: BuildOptions {
            force: request.build,
            no_cache: request.no_cache,
            pull: request.pull,
        },
        remove: request.remove,
        limits: limits(shared, pod),
        // Said as 0 it is none, over the pod's.
        timeout: request
            .timeout
            .or(pod.timeout)
            .filter(|seconds| *seconds > 0),
        bounds: request.bounds.over(pod.bounds),
        priority: request.priority,
        after: after.to_vec(),
        zone: request.zone.clone(),
    };
    spec.steer &= agent::unsteerable(&spec).is_none();
    let prompt = pod.prompt(&request.task);
    Planned {
        ulid,
        id,
        spec,
        task_at: prompt.0.len().saturating_sub(request.task.text().len()) as u64,
        prompt,
        task: match &request.task {
            Task::Issue(url) => Some(url.chars().take(SUMMARY).collect()),
            Task::Prompt(prompt) => pod.template.as_ref().map(|_| prompt.summary(SUMMARY)),
        },
        values,
    }
}

/// The agent of a request's session of a pod.
fn kind(request: &StartRequest, pod: &Pod) -> AgentKind {
    request.agent.or(pod.agent).unwrap_or(AgentKind::Claude)
}

/// Where a request's session of a pod runs.
fn runtime(shared: &Shared, request: &StartRequest, pod: &Pod) -> RuntimeName {
    request
        .runtime
        .or(pod.runtime)
        .unwrap_or(shared.settings.runtime)
}

/// What the pod says, and the defaults for the rest.
fn limits(shared: &Shared, pod: &Pod) -> Limits {
    let spec = &pod.spec;
    Limits {
        memory: spec.memory.unwrap_or(shared.settings.session_memory),
        nano_cpus: spec.nano_cpus.unwrap_or(0),
        pids: spec.pids.unwrap_or(shared.settings.session_pids),
        shm: spec.shm.unwrap_or(0),
    }
}

/// 128 random bits, from two ULIDs' 80.
pub(super) fn random() -> u128 {
    (Ulid::generate().random() << 64) ^ Ulid::generate().random()
}

/// The runtimes that a plan needs.
pub(super) fn runtimes(plan: &Plan) -> Vec<RuntimeName> {
    let mut names: Vec<RuntimeName> = Vec::new();
    for session in &plan.sessions {
        if !names.contains(&session.spec.runtime) {
            names.push(session.spec.runtime);
        }
    }
    names
}

/// Writes the values that are not recorded. Blocking.
///
/// # Errors
/// When a session's directory cannot be written; what was written is removed.
pub(super) fn write_values(shared: &Shared, plan: &Plan) -> Result<()> {
    for session in &plan.sessions {
        let stored = environment::store(&shared.session_dir(session.ulid), 0, &session.values);
        if let Err(error) = stored {
            discard(shared, plan);
            return Err(error);
        }
    }
    Ok(())
}

/// Takes back what [`write_values`] wrote. Blocking.
pub(super) fn discard(shared: &Shared, plan: &Plan) {
    for session in &plan.sessions {
        let dir = shared.session_dir(session.ulid);
        match std::fs::remove_dir_all(dir.path()) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, path = %dir.path().display(), "cannot be removed"),
        }
    }
}

/// What is recorded: every session's first two events, and the request.
///
/// # Errors
/// A fault of cldpd's own: the events do not fit the state machine.
pub(super) fn appends(
    plan: Plan,
    generations: &[u64],
    waits: Vec<Option<(Option<u32>, WaitsFor)>>,
    request: (Ulid, [u8; 32]),
    now: Timestamp,
) -> Result<(Vec<Append>, Vec<SessionRecord>, StartResponse)> {
    let Plan { sessions, notes } = plan;
    let dispatched = sessions
        .iter()
        .zip(&waits)
        .map(|(session, waits)| Dispatched {
            id: session.id.clone(),
            ulid: session.ulid,
            position: waits.as_ref().and_then(|(place, _)| *place),
        })
        .collect();
    let response = StartResponse {
        sessions: dispatched,
        notes,
    };
    let answer = serde_json::to_value(&response)
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    let row = RequestRow {
        id: request.0,
        hash: request.1,
        answer,
        at: now,
    };
    let mut rows = vec![row];
    let mut appends = Vec::new();
    let mut records = Vec::new();
    for ((session, generation), waits) in sessions.into_iter().zip(generations).zip(waits) {
        let mut recorder = Recorder::new(session.ulid);
        let position = waits.as_ref().and_then(|(place, _)| *place);
        let reason = waits.map(|(_, what)| what.to_string());
        let kinds = vec![
            (
                now,
                EventKind::Created {
                    spec: Box::new(session.spec),
                },
            ),
            (
                now,
                EventKind::Queued {
                    how: How::New,
                    prompt: session.prompt,
                    task: session.task,
                    env: session.values.names(),
                    fresh: None,
                    branch: None,
                    bounds: Bounds::default(),
                    task_at: session.task_at,
                    retry: None,
                    position,
                    reason,
                },
            ),
        ];
        let staged = recorder
            .stage(0, kinds)
            .map_err(|illegal| Error::new(ErrorCode::Internal, illegal.to_string()))?;
        records.extend(staged.record.clone());
        appends.push(Append {
            session: session.ulid,
            generation: *generation,
            events: staged.events,
            cursors: Vec::new(),
            record: staged.record,
            requests: std::mem::take(&mut rows),
        });
    }
    Ok((appends, records, response))
}
