//! `cldpd start`.

use crate::cli::Context;
use crate::cli::bounds::{BoundsArgs, seconds};
use crate::cli::error::{Done, usage};
use crate::cli::output::{Beside, Manner, Printer, prefix_width};
use crate::cli::signals::Signals;
use crate::cli::task::{EnvArgs, TaskArgs, Variables, labels, own, proxy};
use crate::cli::watch::{OnInterrupt, Target, watch};
use crate::cli::zone;
use crate::client::Client;
use crate::model::api::{EventsQuery, StartRequest, StartResponse};
use crate::model::ids::{check_session_name, check_session_ref};
use crate::model::{AgentKind, PodName, Result, RuntimeName, Ulid, exit};
use std::collections::BTreeSet;

/// Said when we are gone before the daemon's answer is there.
pub(super) const UNANSWERED: &str =
    "left before the daemon answered: `cldpd sessions` tells whether it began";

/// Flags of `start`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "cldpd start [OPTIONS] <POD>... (--issue <URL> | --prompt <TEXT> | --prompt-file <FILE>)",
    after_help = "\
Streams until all have ended and exits with the agent's exit code (the first
that is not 0). Ctrl+C stops them, a second one kills them; SIGTERM, SIGHUP and a
closed pipe leave them working.

Examples:
  cldpd start myrepo --issue https://github.com/org/repo/issues/42
  cldpd start -d myrepo otherrepo --prompt \"fix the flaky test\"
  cldpd start -d myrepo --count 5 --prompt-file task.md
  cldpd start -d reviewer --after myrepo-3f9a1c2e --timeout 30m --prompt \"review it\"
  cldpd start -d myrepo --max-turns 60 --max-cost 5 --idle-timeout 20m --retries 3 --prompt \"tidy up\"
  git diff | cldpd start reviewer --prompt-file -"
)]
pub struct Args {
    /// Pods: one session of each
    #[arg(value_name = "POD")]
    pods: Vec<String>,
    #[command(flatten)]
    task: TaskArgs,
    /// Print the ids and return as soon as the sessions are recorded
    #[arg(short, long)]
    detach: bool,
    /// A name for the session, when it is only one
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A label; may be given several times
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[command(flatten)]
    env: EnvArgs,
    /// Sessions of each pod
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Which agent, instead of the pod's
    #[arg(long, value_name = "AGENT")]
    agent: Option<Agent>,
    /// Which model the agent is told to use
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Where to run
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<Runtime>,
    /// Build the image even if nothing changed
    #[arg(long)]
    build: bool,
    /// Build it without the builder's cache
    #[arg(long)]
    no_cache: bool,
    /// Build it, and ask the registry for newer base images
    #[arg(long)]
    pull: bool,
    /// Stop each run that takes longer, such as 90s, 15m or 2h; 0 for no limit
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    #[command(flatten)]
    bounds: BoundsArgs,
    /// Leave the queue before those of a lower priority
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    priority: i32,
    /// Begin only when this session has succeeded; may be given several times
    #[arg(long, value_name = "SESSION")]
    after: Vec<String>,
    /// Remove the container when the run is over; it cannot be resumed then
    #[arg(long = "rm")]
    remove: bool,
    /// Show the exact bytes that the agent writes
    #[arg(long)]
    raw: bool,
    /// Time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// On Ctrl+C leave the sessions working
    #[arg(long)]
    detach_on_interrupt: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Agent {
    /// Claude Code.
    Claude,
    /// OpenAI's Codex.
    Codex,
    /// Google's Gemini CLI.
    Gemini,
    /// opencode.
    Opencode,
    /// Any program.
    Command,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Runtime {
    /// Containers of a Docker engine.
    Docker,
    /// Plain processes; isolates nothing.
    Local,
    #[value(hide = true)]
    Fake,
}

impl Args {
    /// Everything that can be wrong without asking anybody.
    fn check(&self) -> Result<()> {
        if self.pods.is_empty() {
            return Err(usage("missing <POD>: which pod is to be started")
                .hint("`cldpd pods` lists them, `cldpd pod new <name>` makes one"));
        }
        for pod in &self.pods {
            PodName::new(pod)?;
        }
        if let Some(name) = &self.name {
            check_session_name(name)?;
            if self.pods.len() > 1 || self.count > 1 {
                return Err(
                    usage("--name can name one session only").hint("use --label to mark several")
                );
            }
        }
        for session in &self.after {
            check_session_ref(session)?;
        }
        Ok(())
    }

    fn request(&self) -> Result<(StartRequest, Vec<String>)> {
        let env = self.env.read(&own)?;
        let request = StartRequest {
            request: Ulid::generate(),
            pods: self.pods.clone(),
            count: self.count,
            task: self.task.read()?,
            name: self.name.clone(),
            labels: labels(&self.labels)?,
            env: env.values,
            inherited: std::collections::BTreeMap::new(),
            runtime: self.runtime.map(|runtime| match runtime {
                Runtime::Docker => RuntimeName::Docker,
                Runtime::Local => RuntimeName::Local,
                Runtime::Fake => RuntimeName::Fake,
            }),
            agent: self.agent.map(|agent| match agent {
                Agent::Claude => AgentKind::Claude,
                Agent::Codex => AgentKind::Codex,
                Agent::Gemini => AgentKind::Gemini,
                Agent::Opencode => AgentKind::Opencode,
                Agent::Command => AgentKind::Command,
            }),
            model: self.model.clone(),
            build: self.build || self.no_cache || self.pull,
            no_cache: self.no_cache,
            pull: self.pull,
            remove: self.remove,
            timeout: self
                .timeout
                .as_deref()
                .map(|text| seconds("--timeout", text))
                .transpose()?,
            bounds: self.bounds.read()?,
            priority: self.priority,
            after: self.after.clone(),
            zone: Some(zone::own()),
            proxy: proxy(&own)?,
        };
        Ok((request, env.unset))
    }
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    args.check()?;
    let config = context.config()?;
    let (mut request, unset) = args.request()?;
    request.runtime = request.runtime.or(config.runtime_over_pods());
    for name in unset {
        context
            .ui
            .note(&format!("--env {name}: it is not set here and is left out"));
    }
    // From here on Ctrl+C is ours: it must not leave sessions that nobody knows of.
    let mut signals = if args.detach {
        None
    } else {
        Some(Signals::take()?)
    };
    let Some((client, started, interrupted)) =
        dispatch(context, &mut request, signals.as_mut()).await?
    else {
        return Ok(exit::INTERRUPTED);
    };
    for note in &started.notes {
        context.ui.note(note);
    }
    for session in &started.sessions {
        if args.detach {
            context.ui.line(session.id.as_str())?;
        } else {
            context.ui.progress(&format!("session {}", session.id));
        }
    }
    let Some(mut signals) = signals else {
        return Ok(exit::OK);
    };
    let targets: Vec<Target> = started
        .sessions
        .iter()
        .map(|session| Target {
            session: session.ulid,
            id: session.id.to_string(),
            run: Some(0),
            query: EventsQuery {
                run: Some(0),
                follow: true,
                ..EventsQuery::default()
            },
        })
        .collect();
    let mut printer = Printer::new(Manner {
        raw: args.raw,
        pretty: None,
        timestamps: args.timestamps,
        prefix: prefix_width(targets.iter().map(|target| target.id.as_str())),
        beside: Beside::Everything,
    });
    let on_interrupt = if args.detach_on_interrupt || config.detach_on_interrupt {
        OnInterrupt::Leave
    } else {
        OnInterrupt::Stop
    };
    watch(
        context,
        &client,
        &targets,
        &mut printer,
        &mut signals,
        on_interrupt,
        interrupted,
    )
    .await
}

/// Dispatches, with the values that the pods inherit. Nothing when a signal
/// took it back before it was told; else also whether Ctrl+C came meanwhile.
async fn dispatch(
    context: &mut Context,
    request: &mut StartRequest,
    signals: Option<&mut Signals>,
) -> Result<Option<(Client, StartResponse, bool)>> {
    let Some(signals) = signals else {
        let client = prepare(context, request).await?;
        let started = client.start(request).await?;
        context.note_engine(&client);
        return Ok(Some((client, started, false)));
    };
    let Some(client) = signals.unless_sent(prepare(context, request)).await else {
        return Ok(None);
    };
    let client = client?;
    let Some((started, interrupted)) = signals.holding(client.start(request)).await else {
        context.ui.note(UNANSWERED);
        return Ok(None);
    };
    let started = started?;
    context.note_engine(&client);
    Ok(Some((client, started, interrupted)))
}

/// Connects, and looks up what the pods want of this environment.
async fn prepare(context: &Context, request: &mut StartRequest) -> Result<Client> {
    let client = context.client().await?;
    let mut names = BTreeSet::new();
    let pods: BTreeSet<&String> = request.pods.iter().collect();
    for pod in pods {
        let pod = client.pod(pod).await?;
        names.extend(pod.inherit_env);
        names.extend(pod.secret_env);
    }
    request.inherited = Variables::of_names(names, &own)?.values;
    Ok(client)
}
