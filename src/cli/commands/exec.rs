//! `cldpd exec`.

use crate::cli::Context;
use crate::cli::error::{Done, Failure, usage};
use crate::cli::signals::{Sent, Signals};
use crate::cli::task::{EnvArgs, own};
use crate::client::{Exec, Feed};
use crate::model::api::ExecRequest;
use crate::model::exec::{Output, PIECE};
use crate::model::ids::check_session_ref;
use crate::model::{ErrorCode, Result, Stream, exit};
use std::ffi::OsString;
use tokio::io::AsyncReadExt as _;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Flags of `exec`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "cldpd exec [OPTIONS] <SESSION> [--] <COMMAND>...",
    after_help = "\
Runs beside the agent: same container, same user, same variables, in the
agent's directory. Nothing of it is recorded, and it ends with this command or
with the session. Ctrl+C and SIGTERM are passed on.

Exits with the command's exit code; 126 if it could not be executed, 127 if it
was not found, 125 if cldpd failed.

Examples:
  cldpd exec myrepo-3f9a1c2e -- git status
  cldpd exec -w /src/api myrepo-3f9a1c2e -- go test ./...
  git diff | cldpd exec -i myrepo-3f9a1c2e -- git apply"
)]
pub struct Args {
    /// The session
    #[arg(value_name = "SESSION")]
    session: String,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    env: EnvArgs,
    /// Working directory, instead of the agent's
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    match attempt(context, args).await {
        // Its own codes are the command's: ours are all one.
        Err(Failure::Error(error)) => {
            context.ui.error(&error);
            Ok(match error.code {
                ErrorCode::Usage
                | ErrorCode::Ambiguous
                | ErrorCode::CommandNotFound
                | ErrorCode::CommandNotExecutable => error.code.exit_code(),
                _ => exit::CLDPD_FAILED,
            })
        }
        done => done,
    }
}

async fn attempt(context: &mut Context, args: Args) -> Done {
    let session = check_session_ref(&args.session)?;
    let argv = args.command.into_iter().map(text);
    let argv = argv.collect::<Result<Vec<String>>>()?;
    let env = args.env.read(&own)?;
    for name in &env.unset {
        let note = format!("--env {name}: it is not set here and is left out");
        context.ui.note(&note);
    }
    let request = ExecRequest {
        argv,
        cwd: args.workdir,
        env: env.values,
    };
    let mut signals = Signals::take()?;
    let connecting = async {
        let client = context.client().await?;
        client.exec(session, &request).await
    };
    let Some(exec) = signals.unless_sent(connecting).await else {
        return Ok(exit::INTERRUPTED);
    };
    let exec = exec?;
    let feed = exec.feed();
    let feeding = tokio::spawn(feed_input(feed, args.interactive));
    let done = show(context, exec, &mut signals).await;
    feeding.abort();
    done
}

fn text(argument: OsString) -> Result<String> {
    let wrong = |argument: OsString| {
        let shown = argument.to_string_lossy().into_owned();
        usage(format!("the argument '{shown}' is not UTF-8"))
    };
    argument.into_string().map_err(wrong)
}

/// Passes our standard input on, or nothing. A connection that breaks is told
/// by what comes from it.
async fn feed_input(feed: Feed, interactive: bool) {
    if interactive {
        let mut input = tokio::io::stdin();
        let mut buffer = vec![0; PIECE];
        while let Ok(read) = input.read(&mut buffer).await {
            if read == 0 || feed.write(&buffer[..read]).await.is_err() {
                break;
            }
        }
    }
    let _ = feed.end().await;
}

/// Shows what comes, passes signals on, and gives the exit code.
async fn show(context: &mut Context, mut exec: Exec, signals: &mut Signals) -> Done {
    let feed = exec.feed();
    loop {
        let output = tokio::select! {
            output = exec.next() => output?,
            sent = signals.next() => {
                let number = match sent {
                    Sent::Interrupt => SIGINT,
                    Sent::Leave => SIGTERM,
                };
                // One that finds nobody has come too late.
                let _ = feed.signal(number).await;
                continue;
            }
        };
        match output {
            Output::Stdout(bytes) => {
                context.ui.bytes(Stream::Stdout, &bytes)?;
                context.ui.flush()?;
            }
            Output::Stderr(bytes) => {
                context.ui.bytes(Stream::Stderr, &bytes)?;
                context.ui.flush()?;
            }
            Output::Taken(_) => {}
            Output::Exited { code, .. } => {
                context.ui.flush()?;
                return Ok(code);
            }
        }
    }
}
