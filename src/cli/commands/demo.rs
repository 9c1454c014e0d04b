//! `cldpd demo`: the main job, on what this machine has, with a scripted agent.
//!
//! It types the commands that a user would type, in a home of its own that it
//! removes at the end, together with everything that was made in it.

use crate::cli::Context;
use crate::cli::error::{Done, Failure};
use crate::cli::ui::Style;
use crate::client::Home;
use crate::model::api::CheckState;
use crate::model::{Error, ErrorCode, RuntimeName, exit};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// A small agent that does what its prompt says; it speaks as Claude Code does.
const AGENT: &[u8] = include_bytes!(env!("CLDPD_SCRIPTED_AGENT"));
const SESSIONS: usize = 3;
const TASK: &str = "Tidy up. [[remember the tests were green]] [[print I look around.]] \
    [[tool Bash ls src]] [[sleep 300]] [[err a word on standard error]] \
    [[print All tests are green.]]";
const FOLLOW_UP: &str = "What did you find? [[recall]]";

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Dispatches three sessions at once, lists them, replays one, goes on with it, and
removes everything again. Uses a Docker engine if one answers, else plain
processes of this machine. Your own home is not touched.

Examples:
  cldpd demo
  DOCKER_HOST=unix:///nonexistent cldpd demo    # without an engine")]
pub struct Args {}

pub(super) async fn run(context: &mut Context, _: Args) -> Done {
    let root = std::env::temp_dir().join(format!("cldpd-demo-{}", std::process::id()));
    let demo = Demo {
        exe: exe()?,
        home: Home::new(&root)?,
    };
    let shown = tokio::select! {
        shown = demo.show(context) => shown,
        _ = tokio::signal::ctrl_c() => Ok(exit::INTERRUPTED),
    };
    let cleaned = demo.clean_up(context).await;
    let code = shown?;
    cleaned.map(|()| code)
}

fn exe() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Error::new(
            ErrorCode::Internal,
            format!("cannot find this program: {error}"),
        )
        .into()
    })
}

struct Demo {
    exe: PathBuf,
    home: Home,
}

impl Demo {
    async fn show(&self, context: &mut Context) -> Done {
        self.home.make()?;
        let runtime = self.runtime(context).await?;
        self.make_pod(runtime).map_err(|error| {
            let place = self.home.root().display();
            Error::new(
                ErrorCode::Internal,
                format!("cannot make a pod in {place}: {error}"),
            )
        })?;
        self.say(
            context,
            "Three sessions at once, dispatched and left alone:",
        )?;
        let count = SESSIONS.to_string();
        let started = [
            "start", "--detach", "demo", "--count", &count, "--prompt", TASK,
        ];
        let ids = self.ask(context, &started).await?;
        let ids: Vec<&str> = ids.lines().collect();
        let [first, .., last] = ids[..] else {
            return Err(Error::new(ErrorCode::Internal, "nothing was dispatched").into());
        };
        self.say(context, "What there is:")?;
        self.type_in(context, &["sessions"]).await?;
        self.say(context, "Waiting for all of them:")?;
        let wait: Vec<&str> = std::iter::once("wait").chain(ids.iter().copied()).collect();
        self.type_in(context, &wait).await?;
        self.say(context, "What one of them said, replayed from the journal:")?;
        self.type_in(context, &["logs", first]).await?;
        self.say(context, "The same conversation goes on:")?;
        self.type_in(context, &["resume", last, "--prompt", FOLLOW_UP])
            .await?;
        self.say(context, "And the history of all:")?;
        self.type_in(context, &["sessions", "--all"]).await?;
        Ok(exit::OK)
    }

    /// A Docker engine if one answers, else this machine itself; says which.
    async fn runtime(&self, context: &mut Context) -> Result<RuntimeName, Failure> {
        let doctor = self.command(&["doctor", "--format", "json"]).output().await;
        let output = doctor.map_err(|error| self.failed(&error))?;
        let checks: Vec<crate::model::api::Check> =
            serde_json::from_slice(&output.stdout).unwrap_or_default();
        let docker = checks.iter().find(|check| check.name == "docker");
        match docker {
            Some(check) if check.state == CheckState::Ok => {
                self.say(context, &format!("In containers of {}.", check.message))?;
                Ok(RuntimeName::Docker)
            }
            Some(check) => {
                let why = &check.message;
                let text =
                    format!("As plain processes of this machine, isolated by nothing: {why}.");
                self.say(context, &text)?;
                Ok(RuntimeName::Local)
            }
            None => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let message = format!("the daemon of the demonstration does not answer: {said}");
                Err(Error::new(ErrorCode::DaemonUnavailable, message).into())
            }
        }
    }

    fn make_pod(&self, runtime: RuntimeName) -> io::Result<()> {
        let pod = self.home.pods().join("demo");
        let state = self.home.root().join("agent");
        fs::create_dir_all(pod.join("bin"))?;
        fs::create_dir_all(&state)?;
        let agent = pod.join("bin").join("claude");
        fs::write(&agent, AGENT)?;
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
        fs::write(
            pod.join("Dockerfile"),
            "FROM scratch\nCOPY bin/claude /bin/claude\n",
        )?;
        let env = match runtime {
            RuntimeName::Docker => {
                serde_json::json!({ "PATH": "/bin", "CLDPD_SCRIPTED_STATE": "/" })
            }
            RuntimeName::Local | RuntimeName::Fake => {
                serde_json::json!({ "PATH": pod.join("bin"), "CLDPD_SCRIPTED_STATE": state })
            }
        };
        let config = serde_json::json!({
            "runtime": runtime,
            "env": env,
            "image": format!("cldpd-demo-{}", std::process::id()),
        });
        fs::write(pod.join("pod.json"), format!("{config:#}\n"))
    }

    /// Removes everything, whether or not anybody reads what is said about it.
    async fn clean_up(&self, context: &mut Context) -> Result<(), Failure> {
        if !self.home.root().try_exists().unwrap_or(false) {
            return Ok(());
        }
        let mut read = self
            .say(context, "Everything that was made is removed again:")
            .is_ok();
        // Of a pod that is gone, the image goes with the last session.
        remove(&self.home.pods().join("demo")).map_err(|error| self.failed(&error))?;
        for args in [
            &["rm", "--all", "--force", "--yes"][..],
            &["daemon", "stop"],
        ] {
            read = read && self.show_command(context, args).is_ok();
            let mut command = self.command(args);
            if !read {
                command.stdout(Stdio::null());
            }
            let status = command
                .status()
                .await
                .map_err(|error| self.failed(&error))?;
            check(args, status)?;
        }
        let removed = remove(self.home.root());
        removed.map_err(|error| {
            let place = self.home.root().display();
            Error::new(
                ErrorCode::Internal,
                format!("cannot remove {place}: {error}"),
            )
            .into()
        })
    }

    fn say(&self, context: &mut Context, text: &str) -> Result<(), Failure> {
        let text = context.ui.paint(Style::Dim, &format!("# {text}"));
        context.ui.line("")?;
        context.ui.line(&text)?;
        context.ui.flush()
    }

    /// Shows a command as a user types it, and runs it with our own streams.
    async fn type_in(&self, context: &mut Context, args: &[&str]) -> Result<(), Failure> {
        self.show_command(context, args)?;
        let status = self
            .command(args)
            .status()
            .await
            .map_err(|error| self.failed(&error))?;
        check(args, status)
    }

    /// The same, and gives what it printed.
    async fn ask(&self, context: &mut Context, args: &[&str]) -> Result<String, Failure> {
        self.show_command(context, args)?;
        let mut command = self.command(args);
        command.stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.failed(&error))?;
        let mut text = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout
                .read_to_string(&mut text)
                .await
                .map_err(|error| self.failed(&error))?;
        }
        let status = child.wait().await.map_err(|error| self.failed(&error))?;
        context.ui.out(&text)?;
        check(args, status)?;
        Ok(text)
    }

    fn show_command(&self, context: &mut Context, args: &[&str]) -> Result<(), Failure> {
        let quoted = |arg: &&str| match arg.contains(' ') {
            true => format!("'{arg}'"),
            false => (*arg).to_owned(),
        };
        let words: Vec<String> = args.iter().map(quoted).collect();
        let line = context
            .ui
            .paint(Style::Good, &format!("$ cldpd {}", words.join(" ")));
        context.ui.line(&line)?;
        context.ui.flush()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        command
            .args(args)
            .env("CLDPD_HOME", self.home.root())
            .stdin(Stdio::null());
        command
    }

    fn failed(&self, error: &io::Error) -> Failure {
        let exe = self.exe.display();
        Error::new(ErrorCode::Internal, format!("cannot run {exe}: {error}")).into()
    }
}

fn check(args: &[&str], status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    let verb = args.first().copied().unwrap_or_default();
    Err(Error::new(
        ErrorCode::Internal,
        format!("`cldpd {verb}` ended with {status}"),
    )
    .into())
}

fn remove(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
