//! What a run's shim is told: the command, its variables and files, the prompt.

use super::driver::{self, Driver};
use super::environment::{self, Values};
use crate::agent::command::PROMPT;
use crate::agent::{self, CommandLine, Invocation};
use crate::model::message::prompt_id;
use crate::model::spec::PromptBy;
use crate::model::{
    AgentKind, Bounds, Error, ErrorCode, EventKind, Result, RunRecord, RuntimeName, SessionRecord,
    Spec, Ulid,
};
use crate::runtime::session_dir::CONTAINER_RUN;
use crate::runtime::shim::RunBody;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

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
    let mut files = values.secret_files();
    let (argv, stdin) = match run.steerable {
        true => {
            let argv = command.argv.into_iter().map(String::into_bytes);
            let id = prompt_id(driver.link.ulid, run.number);
            (argv.collect(), message(driver, run, &id)?)
        }
        false => hand_over(driver, run, command.argv, &mut files)?,
    };
    Ok(RunBody {
        id,
        run: run.number,
        argv,
        env: environment::merge(&command.env, &driver.spec, &values),
        cwd: None,
        stdin,
        keep_stdin_open: run.steerable,
        tty: None,
        primary: true,
        secrets: values.secrets(),
        files,
    })
}

/// The arguments and the standard input of a run, with its prompt in one of them, or
/// in a file that is one of `files`. Nothing of that is recorded: `{prompt}` stands
/// for it wherever a command is shown.
fn hand_over(
    driver: &Driver,
    run: &RunRecord,
    argv: Vec<String>,
    files: &mut Files,
) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
    let spec = &driver.spec;
    let prompt = prompt(driver, run)?;
    let template = spec
        .pod
        .command
        .as_ref()
        .filter(|_| spec.agent == AgentKind::Command);
    let by = template.map_or(PromptBy::Stdin, |template| template.prompt);
    let (word, stdin) = match by {
        PromptBy::Stdin => {
            let argv = argv.into_iter().map(String::into_bytes).collect();
            return Ok((argv, prompt));
        }
        PromptBy::Arg if prompt.len() > ARGUMENT_MAX || prompt.contains(&0) => {
            let message = format!(
                "a prompt of {} bytes cannot be an argument: that has at most {ARGUMENT_MAX}, and no NUL",
                prompt.len()
            );
            return Err(Error::new(ErrorCode::InvalidPod, message)
                .hint("set \"prompt\": \"file\" in \"command\" of pod.json"));
        }
        PromptBy::Arg => (prompt, Vec::new()),
        PromptBy::File => {
            let place = run.state.place().map_or(1, |place| place.attempt);
            let path = match spec.runtime {
                RuntimeName::Docker => PathBuf::from(CONTAINER_RUN),
                // Processes of this machine find it where it lies.
                RuntimeName::Local | RuntimeName::Fake => {
                    let dir = driver.link.shared.session_dir(driver.link.ulid);
                    dir.run(run.number, place).path()
                }
            };
            let path = path.join("prompt").into_os_string().into_vec();
            files.push((path.clone(), PROMPT_MODE, prompt));
            (path, Vec::new())
        }
    };
    let mut argv: Vec<Vec<u8>> = argv.into_iter().map(String::into_bytes).collect();
    let mut named = false;
    for argument in &mut argv {
        let text = String::from_utf8_lossy(argument).into_owned();
        if let Some((before, after)) = text.split_once(PROMPT) {
            named = true;
            *argument = [before.as_bytes(), &word, after.as_bytes()].concat();
        }
    }
    if !named {
        argv.push(word);
    }
    Ok((argv, stdin))
}

/// Longest argument of a program on Linux, with the zero behind it 128 KiB.
const ARGUMENT_MAX: usize = 131_071;
/// Mode of a prompt's file: it is made by the agent's user, and is for nobody else.
const PROMPT_MODE: u32 = 0o400;

type Files = Vec<(Vec<u8>, u32, Vec<u8>)>;

/// The values that came with a run.
pub(super) fn values(driver: &Driver, run: &RunRecord) -> Result<Values> {
    let dir = driver.link.shared.session_dir(driver.link.ulid);
    environment::load(&dir, run.asked(), &run.env)
}

/// The command of a run, as `inspect` shows it and the shim gets it.
pub(super) fn command_line(spec: &Spec, record: &SessionRecord, run: &RunRecord) -> CommandLine {
    let mut config = record.image_config.clone().unwrap_or_default();
    // A plain process is whoever the daemon is.
    if let (RuntimeName::Docker | RuntimeName::Fake, Some(user)) = (spec.runtime, &spec.pod.user) {
        config.user.clone_from(user);
    }
    let resume = driver::goes_on(record, run)
        .then(|| record.conversation(run))
        .flatten();
    let session = match &run.fresh {
        Some(fresh) => fresh.agent_session.as_deref(),
        // The agent names it.
        None if run.is_fork() => None,
        None => spec.agent_session.as_deref(),
    };
    agent::agent(spec.agent).command(&Invocation {
        spec,
        image_command: &config.command,
        root: config.is_root(),
        steer: run.steerable,
        resume,
        fork: run.is_fork(),
        session,
        bounds: bounds_left(record, run),
    })
}

/// How far a run may go: of what its session may cost, what is left.
pub(super) fn bounds_left(record: &SessionRecord, run: &RunRecord) -> Bounds {
    let bounds = record.bounds_of(run);
    let limit = bounds.cost();
    let left = limit.map(|limit| limit.less(record.spent_before(run.number)));
    Bounds {
        max_cost: left,
        ..bounds
    }
}

/// A run's prompt as a message to its agent.
pub(super) fn message(driver: &Driver, run: &RunRecord, id: &str) -> Result<Vec<u8>> {
    let prompt = prompt(driver, run)?;
    let text = String::from_utf8_lossy(&prompt);
    let message = agent::agent(driver.spec.agent).message(&text, id);
    message.ok_or_else(|| {
        let message = "the agent takes no messages while it works";
        Error::new(ErrorCode::Internal, message)
    })
}

/// The id of a message at the shim of the run that it goes to.
pub(super) fn message_id(session: Ulid, run: u32) -> Ulid {
    run_id(session, run, u32::MAX)
}

/// A run's prompt, whole.
pub(super) fn prompt(driver: &Driver, run: &RunRecord) -> Result<Vec<u8>> {
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
