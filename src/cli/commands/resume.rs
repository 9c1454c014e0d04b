//! `cldpd resume`.

use super::start::UNANSWERED;
use crate::cli::Context;
use crate::cli::bounds::BoundsArgs;
use crate::cli::error::{Done, usage};
use crate::cli::output::{Beside, Manner, Printer};
use crate::cli::signals::Signals;
use crate::cli::task::{EnvArgs, PromptArgs, Variables, own, proxy};
use crate::cli::watch::{OnInterrupt, Target, watch};
use crate::client::Client;
use crate::model::api::{EventsQuery, ResumeHow, ResumeRequest};
use crate::model::ids::check_session_ref;
use crate::model::{self, ErrorCode, Result, Ulid, exit};
use std::collections::BTreeMap;

/// Flags of `resume`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "cldpd resume [OPTIONS] <SESSION|POD> (--prompt <TEXT> | --prompt-file <FILE>)",
    after_help = "\
Goes on with the same conversation. A session that works gets the prompt as its
next run, or at once if its agent takes messages (\"steer\": true in pod.json);
one that has ended goes on from where it was. A pod's name means its only live
session, else its latest.

Ctrl+C stops this run only, never one that was there before. A message to a
working agent is taken back, or what the agent does about it is interrupted.

Examples:
  cldpd resume myrepo --prompt \"focus on the error handling in api.go\"
  cldpd resume -d myrepo-3f9a1c2e --prompt-file more.md
  cldpd resume myrepo --max-cost 10 --prompt \"go on\""
)]
pub struct Args {
    /// The session, or its pod
    #[arg(value_name = "SESSION|POD")]
    session: String,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Print the session's id and return as soon as the prompt is recorded
    #[arg(short, long)]
    detach: bool,
    /// How the prompt is to reach the agent
    #[arg(long, value_name = "HOW", default_value = "auto")]
    how: How,
    /// Begin a new conversation in the same place, where the agent no longer has that one
    #[arg(long)]
    fresh: bool,
    /// Ask on a fork of the conversation: later runs know nothing of it
    #[arg(long, conflicts_with_all = ["fresh", "from_fork"])]
    fork: bool,
    /// Go on with the fork that this run made
    #[arg(long, value_name = "RUN", conflicts_with = "fresh")]
    from_fork: Option<u32>,
    #[command(flatten)]
    bounds: BoundsArgs,
    #[command(flatten)]
    env: EnvArgs,
    /// Show the exact bytes that the agent writes
    #[arg(long)]
    raw: bool,
    /// Time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// On Ctrl+C leave the run working
    #[arg(long)]
    detach_on_interrupt: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum How {
    /// As the session's state allows.
    Auto,
    /// To the working process.
    Steer,
    /// As the next run.
    Next,
    /// Beside the run there is.
    Exec,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let session = check_session_ref(&args.session)?;
    let prompt = args.prompt.read()?.ok_or_else(|| {
        usage("missing the prompt: --prompt <TEXT> or --prompt-file <FILE>")
            .hint("cldpd resume myrepo --prompt \"now write the tests\"")
    })?;
    let config = context.config()?;
    let env = args.env.read(&own)?;
    for name in &env.unset {
        context
            .ui
            .note(&format!("--env {name}: it is not set here and is left out"));
    }
    let mut signals = Signals::take()?;
    let Some(prepared) = signals.unless_sent(prepare(context, session)).await else {
        return Ok(exit::INTERRUPTED);
    };
    let (client, inherited) = prepared?;
    let request = ResumeRequest {
        fresh: args.fresh,
        fork: args.fork,
        from_fork: args.from_fork,
        bounds: args.bounds.read()?,
        request: Ulid::generate(),
        prompt,
        how: match args.how {
            How::Auto => ResumeHow::Auto,
            How::Steer => ResumeHow::Steer,
            How::Next => ResumeHow::Next,
            How::Exec => ResumeHow::Exec,
        },
        env: env.values,
        inherited,
        proxy: proxy(&own)?,
    };
    let answer = signals.holding(client.resume(session, &request)).await;
    let Some((resumed, interrupted)) = answer else {
        context.ui.note(UNANSWERED);
        return Ok(exit::INTERRUPTED);
    };
    let resumed = resumed?;
    context.note_engine(&client);
    for note in &resumed.notes {
        context.ui.note(note);
    }
    if args.detach {
        context.ui.line(resumed.id.as_str())?;
        return Ok(exit::OK);
    }
    context
        .ui
        .progress(&format!("session {}, run {}", resumed.id, resumed.run));
    let inspection = client.session(&resumed.ulid.to_string()).await?;
    let mut printer = Printer::new(Manner {
        raw: args.raw,
        pretty: None,
        timestamps: args.timestamps,
        prefix: 0,
        beside: Beside::Everything,
    });
    printer.knows(resumed.ulid, &inspection.spec);
    let target = Target {
        session: resumed.ulid,
        id: resumed.id.to_string(),
        run: Some(resumed.run),
        query: EventsQuery {
            after: Some(resumed.seq.saturating_sub(1)),
            // What is said to a message belongs to the run that it went to.
            run: (resumed.how != model::How::Steer).then_some(resumed.run),
            follow: true,
            ..EventsQuery::default()
        },
    };
    let on_interrupt = if args.detach_on_interrupt || config.detach_on_interrupt {
        OnInterrupt::Leave
    } else {
        OnInterrupt::Stop
    };
    watch(
        context,
        &client,
        &[target],
        &mut printer,
        &mut signals,
        on_interrupt,
        interrupted,
    )
    .await
}

/// Connects, and looks up the values here of what the session's pod inherits
/// and of what its secrets are read from.
async fn prepare(context: &Context, session: &str) -> Result<(Client, BTreeMap<String, String>)> {
    let client = context.client().await?;
    let names = match client.session(session).await {
        Ok(inspection) => {
            let pod = inspection.spec.pod;
            let secrets: Vec<String> = pod.secret_variables().map(str::to_owned).collect();
            [pod.inherit_env, secrets].concat()
        }
        // A pod with several sessions: which is meant is found by the resume.
        Err(error) if error.code == ErrorCode::Ambiguous => client
            .pod(session)
            .await
            .map(|pod| [pod.inherit_env, pod.secret_env].concat())
            .unwrap_or_default(),
        Err(error) => return Err(error),
    };
    Ok((client, Variables::of_names(names, &own)?.values))
}
