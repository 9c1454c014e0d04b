//! `cldpd pod`: one pod.

use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::pods_local::{self, Template};
use crate::cli::time::ago;
use crate::model::{PodName, Timestamp, exit};
use clap::Subcommand;
use std::path::PathBuf;

/// What to do with a pod.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a pod to begin with
    #[command(after_help = "\
Examples:
  cldpd pod new myrepo
  cldpd pod new myrepo --from-repo ~/src/myrepo
  cldpd pod new tool --template command")]
    New {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// What it runs
        #[arg(long, value_name = "TEMPLATE", default_value = "claude")]
        template: TemplateName,
        /// A repository whose origin is cloned into the image
        #[arg(long, value_name = "PATH")]
        from_repo: Option<PathBuf>,
    },
    /// Show a pod
    Show {
        /// The pod
        #[arg(value_name = "POD")]
        name: String,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// The JSON schema of pod.json, for editors
    #[command(after_help = "\
Examples:
  cldpd pod schema > pod.schema.json
Editors that know JSON schemas use it when pod.json begins with
  { \"$schema\": \"pod.schema.json\", ...")]
    Schema,
    /// Say everything that is wrong with pods
    Check {
        /// Pods; all when none is named
        #[arg(value_name = "POD")]
        names: Vec<String>,
    },
}

/// What a new pod runs.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum TemplateName {
    /// Claude Code.
    Claude,
    /// Any program.
    Command,
}

pub(super) async fn run(context: &mut Context, command: Command) -> Done {
    match command {
        Command::New {
            name,
            template,
            from_repo,
        } => new(context, &name, template, from_repo),
        Command::Show { name, format } => show(context, &name, format.chosen()).await,
        Command::Schema => {
            context.ui.out(&pods_local::schema())?;
            Ok(exit::OK)
        }
        Command::Check { names } => check(context, names),
    }
}

fn new(
    context: &mut Context,
    name: &str,
    template: TemplateName,
    from_repo: Option<PathBuf>,
) -> Done {
    let template = match template {
        TemplateName::Claude => Template::Claude,
        TemplateName::Command => Template::Command,
    };
    let dir = pods_local::create(&context.home()?, name, template, from_repo.as_deref())?;
    context.ui.line(&dir.display().to_string())?;
    context.ui.progress(&format!(
        "edit its Dockerfile, then: cldpd start {name} --prompt \"...\""
    ));
    Ok(exit::OK)
}

async fn show(context: &mut Context, name: &str, format: Format) -> Done {
    PodName::new(name)?;
    let client = context.client().await?;
    let mut pod = client.pod(name).await?;
    // The listing knows of its image too.
    if let Some(listed) = client.pods().await?.into_iter().find(|p| p.name == name) {
        pod = listed;
    }
    if format != Format::Table {
        context.ui.value(format, &pod)?;
        return Ok(exit::OK);
    }
    let now = Timestamp::now();
    let when = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| ago(now, at));
    let inherited = if pod.inherit_env.is_empty() {
        "nothing".to_owned()
    } else {
        pod.inherit_env.join(", ")
    };
    for (key, value) in [
        ("pod", pod.name),
        ("directory", pod.dir),
        ("image", pod.image.unwrap_or_else(|| "none".to_owned())),
        ("built", when(pod.built)),
        ("last used", when(pod.last_used)),
        ("inherits", inherited),
    ] {
        context.ui.line(&format!("{key:<10} {value}"))?;
    }
    for problem in &pod.problems {
        context.ui.error(problem);
    }
    Ok(exit::OK)
}

fn check(context: &mut Context, names: Vec<String>) -> Done {
    let checked = pods_local::check(&context.home()?, names)?;
    let mut code = exit::OK;
    for (name, problems) in checked {
        if problems.is_empty() {
            context.ui.line(&format!("{name}: ok"))?;
            for warning in pods_local::warnings(&context.home()?, &name) {
                context.ui.note(&warning);
            }
            for variable in pods_local::unset(&context.home()?, &name) {
                let text = format!("{variable} is not set here; pod {name} inherits it");
                context.ui.note(&text);
            }
            continue;
        }
        code = exit::FAILED;
        context
            .ui
            .line(&format!("{name}: {} wrong", problems.len()))?;
        for problem in &problems {
            context.ui.error(problem);
        }
    }
    Ok(code)
}
