//! What a run's shim is told: the command, its variables and files, the prompt.

use super::driver::{self, Driver};
use super::environment::{self, Values};
use crate::agent::{self, CommandLine, Invocation};
use crate::model::{
    Error, ErrorCode, EventKind, Result, RunRecord, RuntimeName, SessionRecord, Spec, Ulid,
};
use crate::runtime::shim::RunBody;

/// The run, as its shim gets it.
pub(super) fn run_body(driver: &Driver, run: &RunRecord, id: Ulid) -> Result<RunBody> {
    let record = driver.record();
    let values = values(driver, run)?;
    let command = command_line(&driver.spec, &record, run);
    if command.argv.is_empty() {
        let message = "there is no command to run: the image has no ENTRYPOINT or CMD";
        return Err(Error::new(ErrorCode::InvalidPod, message)
            .hint("set \"entrypoint\" in pod.json, or \"agent\": \"claude\""));
    }
    Ok(RunBody {
        id,
        run: run.number,
        argv: command.argv.into_iter().map(String::into_bytes).collect(),
        env: environment::merge(&command.env, &driver.spec, &values),
        cwd: None,
        stdin: prompt(driver, run)?,
        keep_stdin_open: false,
        tty: None,
        primary: true,
        secrets: values.secrets(),
        files: values.secret_files(),
    })
}

/// The values that came with a run.
pub(super) fn values(driver: &Driver, run: &RunRecord) -> Result<Values> {
    let dir = driver.link.shared.session_dir(driver.link.ulid);
    environment::load(&dir, run.number, &run.env)
}

/// The command of a run, as `inspect` shows it and the shim gets it.
pub(super) fn command_line(spec: &Spec, record: &SessionRecord, run: &RunRecord) -> CommandLine {
    let mut config = record.image_config.clone().unwrap_or_default();
    // A plain process is whoever the daemon is.
    if let (RuntimeName::Docker | RuntimeName::Fake, Some(user)) = (spec.runtime, &spec.pod.user) {
        config.user.clone_from(user);
    }
    let resume = driver::goes_on(record, run)
        .then(|| record.agent_sessions.last().map(String::as_str))
        .flatten();
    agent::agent(spec.agent).command(&Invocation {
        spec,
        image_command: &config.command,
        root: config.is_root(),
        resume,
        session: spec.agent_session.as_deref(),
    })
}

fn prompt(driver: &Driver, run: &RunRecord) -> Result<Vec<u8>> {
    let reader = &driver.link.shared.reader;
    let events = reader
        .events(driver.link.ulid, run.queued_seq - 1, 1)
        .map_err(Error::from)?;
    match events.into_iter().next().map(|event| event.kind) {
        Some(EventKind::Queued { prompt, .. }) => Ok(prompt.0),
        _ => Err(Error::new(
            ErrorCode::JournalFailed,
            "the run's prompt is not where it should be",
        )),
    }
}

/// The id of a run at the shim: the same whenever the same attempt is sent.
pub(super) fn run_id(session: Ulid, run: u32, attempt: u32) -> Ulid {
    Ulid(session.0 ^ ((u128::from(run) << 32) | u128::from(attempt)))
}
