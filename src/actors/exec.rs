//! Commands beside the agent.

use super::handle::Handle;
use super::launch::peer_of;
use crate::model::api::ExecRequest;
use crate::model::run::Phase;
use crate::model::{Error, ErrorCode, Result, RunState, SessionRecord};
use crate::runtime::shim::channel::{Beside, REFUSED};
use crate::runtime::shim::{Channel, ExecError, ShimError};
use crate::runtime::{Owner, PlaceState};

impl Handle {
    /// Runs a command beside the agent of a session that runs; returns once it
    /// does. It sees what the agent sees, and is ended when the channel is
    /// dropped. Nothing of it is recorded.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`, `refused` when no run of the session
    /// runs, `command_not_found`, `command_not_executable`, `container_failed`.
    pub async fn exec(&self, target: &str, request: &ExecRequest) -> Result<Channel> {
        check(request)?;
        let ulid = self.shared.directory.resolve(target)?;
        let record = self.load(ulid)?;
        let live = record.live_run();
        let Some((run, place)) = live.and_then(|run| match &run.state {
            RunState::Live {
                phase: Phase::Running { place, .. },
                ..
            } => Some((run.number, place)),
            RunState::Live { .. } | RunState::Ended { .. } => None,
        }) else {
            return Err(not_running(&record));
        };
        let owner = Owner {
            home: self.shared.home,
            session: ulid,
            id: record.id.clone(),
            run,
            attempt: place.attempt,
        };
        let runtime = self.shared.runtime(record.runtime)?;
        let found = runtime.find(&owner, &place.container).await?;
        let pid = match found.map(|found| found.state) {
            Some(PlaceState::Running { paused: true, .. }) => {
                let message = format!("container {} is paused", place.container);
                return Err(Error::new(ErrorCode::Refused, message)
                    .hint(format!("docker unpause {}", place.container)));
            }
            Some(PlaceState::Running { pid, .. }) => pid,
            Some(PlaceState::Gone | PlaceState::Created | PlaceState::Exited(_)) | None => {
                return Err(not_running(&record));
            }
        };
        let bytes = |text: &String| text.clone().into_bytes();
        let env = request.env.iter();
        let beside = Beside {
            argv: request.argv.iter().map(bytes).collect(),
            env: env
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
            cwd: request.cwd.as_ref().map(bytes),
        };
        let dir = self.shared.session_dir(ulid).run(run, place.attempt);
        let opened = Channel::open(&dir, peer_of(record.runtime, pid), &beside).await;
        opened.map_err(|error| failed(&record, &place.container, error))
    }
}

fn check(request: &ExecRequest) -> Result<()> {
    let usage = |message: &str| Err(Error::new(ErrorCode::Usage, message));
    if request.argv.first().is_none_or(String::is_empty) {
        return usage("no command given");
    }
    let texts = request.argv.iter().chain(&request.cwd);
    let mut texts = texts.chain(request.env.keys()).chain(request.env.values());
    if texts.any(|text| text.contains('\0')) {
        return usage("a command, its directory and its variables cannot have a zero byte in them");
    }
    let wrong = |name: &String| name.is_empty() || name.contains('=');
    if request.env.keys().any(wrong) {
        return usage("a variable's name is empty or has = in it");
    }
    Ok(())
}

fn not_running(record: &SessionRecord) -> Error {
    let id = &record.id;
    let (message, hint) = match record.live_run() {
        Some(run) => (
            format!("{id} does not run yet: it is {}", run.state.name()),
            format!("`cldpd logs -f {id}` shows how far it is"),
        ),
        None if record.removed.is_some() => (
            format!("{id} was removed: only its history is left"),
            "start a new session".to_owned(),
        ),
        None => (
            format!("{id} has ended: nothing runs there that a command could run beside"),
            format!(
                "`cldpd resume {id}` lets its agent go on, `cldpd cp {id}:PATH .` gets files out"
            ),
        ),
    };
    Error::new(ErrorCode::Refused, message).hint(hint)
}

fn failed(record: &SessionRecord, container: &str, error: ExecError) -> Error {
    let of_container = |message: String| {
        let message = format!("container {container}: {message}");
        Error::new(ErrorCode::ContainerFailed, message)
    };
    match error {
        ExecError::NotRun { code: 127, message } => Error::new(ErrorCode::CommandNotFound, message),
        ExecError::NotRun { code: 126, message } => {
            Error::new(ErrorCode::CommandNotExecutable, message)
        }
        ExecError::NotRun {
            code: REFUSED,
            message,
        } => Error::new(ErrorCode::TryLater, message),
        ExecError::NotRun { message, .. } => of_container(message),
        ExecError::Shim(ShimError::Refused { message }) => Error::new(ErrorCode::Usage, message),
        // It ended between our looking and our coming.
        ExecError::Shim(ShimError::Dead { .. }) => {
            Error::new(ErrorCode::Refused, format!("{} has just ended", record.id))
        }
        ExecError::Shim(ShimError::Closed) => of_container(
            "its shim hung up: it was started by a version of cldpd that had no exec".to_owned(),
        ),
        ExecError::Shim(error) => of_container(error.to_string()),
    }
}
