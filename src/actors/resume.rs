//! Further runs of a session.

use super::bounds;
use super::dispatch::{self, random};
use super::environment::{self, Caller, Values};
use super::handle::{Handle, TRIES, blocking, hash, turn};
use super::preflight;
use super::session::AddRun;
use super::supervisor::{Child, Room};
use crate::agent;
use crate::model::api::{ResumeHow, ResumeRequest, ResumeResponse};
use crate::model::message::is_message;
use crate::model::run::Phase;
use crate::model::spec::{Keep, SecretKind};
use crate::model::{
    Blob, Branch, Error, ErrorCode, Fresh, How, Message, Result, RunState, SessionRecord, Spec,
};
use std::sync::Arc;

impl Handle {
    /// Asks for a further run; returns when its intent is durable.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`, or `refused` with the reason.
    pub async fn resume(&self, target: &str, request: ResumeRequest) -> Result<ResumeResponse> {
        let this = self.clone();
        let (id, hash) = (
            request.request,
            hash(&format!("resume {target}"), &request)?,
        );
        let target = target.to_owned();
        self.once(id, hash, async move {
            this.resume_now(&target, request, hash).await
        })
        .await
    }

    async fn resume_now(
        &self,
        target: &str,
        request: ResumeRequest,
        hash: [u8; 32],
    ) -> Result<ResumeResponse> {
        dispatch::check_prompt(&request.prompt)?;
        let ulid = self.shared.directory.resolve_for_resume(target)?;
        // The values of a run are written before it is recorded, under the number
        // that it will get: only one may be on its way there.
        let turn = turn(&self.resumes, ulid);
        let _turn = turn.lock().await;
        if self
            .answered::<ResumeResponse>(request.request, hash)?
            .is_none()
        {
            self.check_disk().await?;
        }
        for _ in 0..TRIES {
            // An actor that ended may have recorded it before it could say so.
            if let Some(answer) = self.answered(request.request, hash)? {
                return Ok(answer);
            }
            let record = self.load(ulid)?;
            check_resumable(&record, request.how)?;
            let waiting = record.runs.iter().filter(|run| !run.state.is_ended());
            self.ask(Room(waiting.count())).await??;
            if !record.is_live() {
                // A run that could not begin now is not taken on; one that waits is.
                let runtime = self.shared.runtime(record.runtime)?;
                runtime.check().await.map_err(Error::from)?;
            }
            let spec = Arc::new(self.shared.spec(ulid)?);
            bounds::check(request.bounds.over(record.bounds), spec.agent, &spec.pod)?;
            bounds::check_left(request.bounds, &record, u32::MAX)?;
            let run = u32::try_from(record.runs.len()).unwrap_or(u32::MAX);
            let (this, asked) = (self.clone(), request.clone());
            let (dir, of) = (self.shared.session_dir(ulid), record.clone());
            let its = spec.clone();
            let (env, notes) = blocking(move || {
                let (values, notes) = this.values_for(&of, &its, &asked)?;
                environment::store(&dir, run, &values)?;
                Ok((values.names(), notes))
            })
            .await?;
            let response = ResumeResponse {
                id: record.id.clone(),
                ulid,
                run,
                how: How::Next,
                seq: 0,
                notes,
            };
            let message = AddRun {
                prompt: request.prompt.clone(),
                env,
                fresh: request.fresh.then(|| Fresh {
                    agent_session: agent::choose_session(spec.agent, &spec.pod, random()),
                }),
                branch: branch(&record, &spec, &request)?,
                bounds: request.bounds,
                how: request.how,
                id: request.request,
                hash,
                response,
            };
            fail_point!("resume.written");
            let session = self.ask(Child(ulid)).await??;
            match session.send(message).await {
                Ok(Ok(response)) => {
                    fail_point!("resume.recorded");
                    return Ok(response);
                }
                Ok(Err(error)) if error.code != ErrorCode::TryLater => return Err(error),
                // Another run came in first, or the actor ended just now.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(Error::new(
            ErrorCode::TryLater,
            "too many runs were asked for at the same moment",
        ))
    }

    /// Values for a further run: the pod's own as they are now, and the caller's.
    /// Blocking.
    fn values_for(
        &self,
        record: &SessionRecord,
        spec: &Spec,
        request: &ResumeRequest,
    ) -> Result<(Values, Vec<String>)> {
        let mut own = std::collections::BTreeMap::new();
        if let Ok(pod) = self.shared.pods.load(spec.pod.name.as_str()) {
            let of_spec = |name: &String| spec.pod.secret_env.contains(name);
            own.extend(pod.secret_env.into_iter().filter(|(name, _)| of_spec(name)));
        }
        let caller = Caller {
            env: &request.env,
            inherited: &request.inherited,
            proxy: &request.proxy,
        };
        let further = record.runs.iter().any(|run| run.started.is_some());
        let values = Values::gather(&spec.pod, own, &caller, spec.runtime, further)?;
        preflight::check_again(spec.agent, &spec.pod, &values)?;
        let first = record
            .runs
            .first()
            .map(|run| run.env.as_slice())
            .unwrap_or_default();
        let builds = |name: &String| {
            let mut secrets = spec.pod.secrets.iter();
            secrets.any(|secret| secret.kind == SecretKind::Build && secret.name == *name)
        };
        let known = values.names();
        let missing = first
            .iter()
            .filter(|name| !known.contains(*name) && !builds(name));
        let notes =
            missing.map(|name| format!("{name} was set for the first run and is not set now"));
        let notes = notes.collect();
        Ok((values, notes))
    }
}

fn check_resumable(record: &SessionRecord, how: ResumeHow) -> Result<()> {
    let refused = |message: String, hint: &str| {
        Err(Error::new(ErrorCode::Refused, message).hint(hint.to_owned()))
    };
    let id = &record.id;
    match how {
        ResumeHow::Auto | ResumeHow::Next | ResumeHow::Steer => {}
        ResumeHow::Exec => {
            return refused(
                format!("{id} cannot run a second agent beside the first yet"),
                "`--fork` asks on a fork of the conversation, `--how next` after what runs",
            );
        }
    }
    if let Some(home) = record.imported {
        return refused(
            format!("{id} was imported from home {home}: its container and files are there"),
            "resume it in that home, or start a new session",
        );
    }
    if record.removed.is_some() {
        return refused(
            format!("{id} was removed: only its history is left"),
            "start a new session",
        );
    }
    if record.remove || record.keep == Keep::Never {
        let why = if record.remove {
            "--rm"
        } else {
            "\"keep\": \"never\""
        };
        return refused(
            format!("{id} was started with {why}: nothing is kept to resume from"),
            "start a new session",
        );
    }
    Ok(())
}

/// What the run that is asked for branches off, if it may.
///
/// # Errors
/// `refused`, with the reason.
fn branch(record: &SessionRecord, spec: &Spec, request: &ResumeRequest) -> Result<Option<Branch>> {
    let id = &record.id;
    let refused =
        |message: String, hint: String| Err(Error::new(ErrorCode::Refused, message).hint(hint));
    if request.fork && (request.fresh || request.from_fork.is_some())
        || request.fresh && request.from_fork.is_some()
    {
        let message = "of fresh, fork and from_fork only one can be";
        return Err(Error::new(ErrorCode::Usage, message));
    }
    if let Some(run) = request.from_fork {
        let forked = record
            .runs
            .get(run as usize)
            .is_some_and(|run| run.forked.is_some());
        if !forked {
            return refused(
                format!("run {run} of {id} made no fork to go on with"),
                format!("`cldpd inspect {id}` has \"forked\" at the runs that did, and succeeded"),
            );
        }
        return Ok(Some(Branch::From { run }));
    }
    if !request.fork {
        return Ok(None);
    }
    if !agent::agent(spec.agent).can_fork() {
        return refused(
            format!("{} cannot fork a conversation", spec.agent),
            "without --fork it goes on with the one there is".to_owned(),
        );
    }
    if record.agent_sessions.is_empty() || record.runs.iter().all(|run| run.started.is_none()) {
        return refused(
            format!("the agent of {id} has said nothing yet that could be forked"),
            format!("`cldpd logs -f {id}` shows when it does"),
        );
    }
    Ok(Some(Branch::Fork))
}

/// Whether a prompt can go to the agent that works, as it stands. `own`: it comes with
/// what a message cannot have, a conversation or bounds of its own.
///
/// # Errors
/// `refused`, with the reason.
pub(super) fn steerable(record: &SessionRecord, prompt: &Blob, own: bool) -> Result<()> {
    let id = &record.id;
    let refused =
        |message: String| Err(Error::new(ErrorCode::Refused, message).hint("use --how next"));
    if !record.steer {
        let message = format!("the agent of {id} takes no messages while it works");
        return Err(Error::new(ErrorCode::Refused, message)
            .hint("use --how next; with \"steer\": true in pod.json, Claude Code takes them"));
    }
    if own {
        let message = "a message to a working agent has no conversation and no limits of its own";
        return refused(message.to_owned());
    }
    if !is_message(prompt) {
        return refused(
            "a message to a working agent has to be UTF-8, and of 8 MiB at most".to_owned(),
        );
    }
    let Some(run) = record.live_run() else {
        return refused(format!("{id} is not running"));
    };
    if run.state.stop().is_some() {
        return refused(format!("{id} is being stopped"));
    }
    if !run.steerable {
        return refused(format!(
            "run {} of {id} was begun without messages",
            run.number
        ));
    }
    let works = match &run.state {
        RunState::Live { phase, .. } => {
            matches!(phase, Phase::Accepted { .. } | Phase::Running { .. })
        }
        RunState::Ended { .. } => false,
    };
    if !works {
        return refused(format!("the agent of {id} does not work yet, or no more"));
    }
    let unanswered = record
        .messages_to(run.number)
        .any(|(_, message)| message == Message::Heard);
    if run.result.is_some() && !unanswered {
        return refused(format!(
            "the agent of {id} has answered, and is about to end"
        ));
    }
    Ok(())
}
