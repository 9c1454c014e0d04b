//! `cldpd pod build`.

use crate::cli::Context;
use crate::cli::error::{Done, Failure};
use crate::cli::task::{Variables, own, proxy};
use crate::cli::time::ago;
use crate::client::Client;
use crate::model::api::{PodBuildEvent, PodBuildRequest};
use crate::model::{Error, ErrorCode, PodName, Timestamp, exit};
use futures::StreamExt as _;

/// Flags of `pod build`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints the image's id for each pod. Ctrl+C cancels the build.

Examples:
  cldpd pod build myrepo
  cldpd pod build myrepo otherrepo --no-cache --pull")]
pub struct Args {
    /// Pods
    #[arg(value_name = "POD", required = true)]
    names: Vec<String>,
    /// Build without the builder's cache
    #[arg(long)]
    no_cache: bool,
    /// Ask the registry for newer base images
    #[arg(long)]
    pull: bool,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    for name in &args.names {
        PodName::new(name)?;
    }
    let client = context.client().await?;
    let mut code = exit::OK;
    for name in &args.names {
        let prefix = match args.names.len() {
            1 => String::new(),
            _ => format!("{name} | "),
        };
        match build(context, &client, name, &args, &prefix).await {
            Ok(()) => {}
            // The other pods are not to blame.
            Err(Failure::Error(error)) => {
                context.ui.error(&error);
                code = code.max(error.code.exit_code());
            }
            Err(Failure::Closed) => return Err(Failure::Closed),
        }
    }
    Ok(code)
}

async fn build(
    context: &mut Context,
    client: &Client,
    name: &str,
    args: &Args,
    prefix: &str,
) -> Result<(), Failure> {
    let pod = client.pod(name).await?;
    let request = PodBuildRequest {
        no_cache: args.no_cache,
        pull: args.pull,
        inherited: Variables::of_names(pod.secret_env, &own)?.values,
        proxy: proxy(&own)?,
    };
    let mut events = client.build_pod(name, &request).await?;
    while let Some(event) = events.next().await {
        match event? {
            PodBuildEvent::Output { line } => {
                context.ui.progress(&format!("{prefix}{}", line.lossy()));
            }
            PodBuildEvent::Complete {
                image,
                seconds,
                cached,
                created,
            } => {
                let when = created.map(|at| ago(Timestamp::now(), at));
                let when = when.unwrap_or_else(|| "before".to_owned());
                context.ui.progress(&match cached {
                    true => format!("{prefix}nothing has changed; the image was built {when}"),
                    false => format!("{prefix}image built in {seconds:.1} s"),
                });
                context.ui.line(&image)?;
                return Ok(());
            }
            PodBuildEvent::Failed { error } => return Err(error.into()),
        }
    }
    let message = format!("the build of pod {name} ended without a result");
    Err(Error::new(ErrorCode::Internal, message).into())
}
