//! `cldpd pod show`.

use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::time::{ago, short};
use crate::model::api::PodView;
use crate::model::spec::{Keep, PodSpec, SecretKind, SecretSource};
use crate::model::units::exact_size;
use crate::model::{PodName, Timestamp, exit};
use std::collections::BTreeMap;
use std::time::Duration;

/// Flags of `pod show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cldpd pod show myrepo
  cldpd pod show myrepo --json | jq .spec.mounts")]
pub struct Args {
    /// The pod
    #[arg(value_name = "POD")]
    name: String,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    PodName::new(&args.name)?;
    let client = context.client().await?;
    let mut pod = client.pod(&args.name).await?;
    // The listing knows of its image too.
    let listed = client.pods().await?.into_iter();
    if let Some(listed) = listed.into_iter().find(|p| p.name == args.name) {
        pod = listed;
    }
    match args.format.chosen() {
        Format::Table => {
            for (key, value) in rows(&pod, Timestamp::now()) {
                context.ui.line(&format!("{key:<12} {value}"))?;
            }
        }
        format => context.ui.value(format, &pod)?,
    }
    for warning in &pod.warnings {
        context.ui.note(warning);
    }
    for problem in &pod.problems {
        context.ui.error(problem);
    }
    Ok(exit::OK)
}

/// What there is to be said, in the order of the questions.
fn rows(pod: &PodView, now: Timestamp) -> Vec<(&'static str, String)> {
    let when = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| ago(now, at));
    let mut rows = Vec::new();
    let mut row = |key, value: String| rows.push((key, value));
    row("pod", pod.name.clone());
    row("directory", pod.dir.clone());
    if let Some(link) = &pod.link {
        row("link to", link.clone());
    }
    let image = pod.image.clone();
    row("image", image.unwrap_or_else(|| "none".to_owned()));
    row("built", when(pod.built));
    row("last used", when(pod.last_used));
    let agent = pod.agent.map(|agent| agent.to_string());
    row("agent", agent.unwrap_or_else(|| "claude".to_owned()));
    if let Some(model) = &pod.model {
        row("model", model.clone());
    }
    if let Some(runtime) = pod.runtime {
        row("runtime", runtime.to_string());
    }
    if let Some(spec) = &pod.spec {
        rows.extend(of_spec(spec));
    }
    if let Some(seconds) = pod.timeout {
        rows.push(("timeout", duration(seconds)));
    }
    if let Some(turns) = pod.bounds.turns() {
        rows.push(("max turns", turns.to_string()));
    }
    if let Some(cost) = pod.bounds.cost() {
        rows.push(("max cost", cost.to_string()));
    }
    if let Some(seconds) = pod.bounds.silence() {
        rows.push(("idle", duration(seconds)));
    }
    rows
}

fn of_spec(spec: &PodSpec) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut lists = |key, values: Vec<String>| {
        let first = values
            .iter()
            .zip(std::iter::once(key).chain(std::iter::repeat("")));
        rows.extend(first.map(|(value, key)| (key, value.clone())));
    };
    lists(
        "entrypoint",
        spec.entrypoint
            .iter()
            .map(|words| words.join(" "))
            .collect(),
    );
    lists("args", joined(&spec.args));
    lists("inherits", joined(&spec.inherit_env));
    let secret = spec.secret_env.iter().map(|name| format!("{name}=..."));
    lists("env", pairs(&spec.env).into_iter().chain(secret).collect());
    lists("build args", pairs(&spec.build_args));
    lists("user", spec.user.iter().cloned().collect());
    lists("groups", joined(&spec.group_add));
    lists("workdir", spec.workdir.iter().cloned().collect());
    let mounts = spec.mounts.iter().map(|mount| {
        let read_only = if mount.read_only { " (read-only)" } else { "" };
        format!("{} at {}{read_only}", mount.source.display(), mount.target)
    });
    lists("mounts", mounts.collect());
    let copies = spec.copy.iter();
    let copies = copies.map(|copy| format!("{} to {}", copy.source.display(), copy.target));
    lists("copies", copies.collect());
    let secrets = spec.secrets.iter().map(|secret| {
        let source = match &secret.source {
            SecretSource::Env(name) => format!("${name}"),
            SecretSource::File(path) => path.display().to_string(),
        };
        let kind = match secret.kind {
            SecretKind::Env => "a variable",
            SecretKind::File => "a file",
            SecretKind::Build => "a build secret",
        };
        format!("{} from {source}, as {kind}", secret.name)
    });
    lists("secrets", secrets.collect());
    lists("network", spec.network.iter().cloned().collect());
    lists("hosts", joined(&spec.extra_hosts));
    lists("labels", pairs(&spec.labels));
    lists(
        "memory",
        spec.memory
            .map(|bytes| limit(bytes, exact_size))
            .into_iter()
            .collect(),
    );
    lists(
        "cpus",
        spec.nano_cpus
            .map(|nano| limit(nano, cpus))
            .into_iter()
            .collect(),
    );
    let pids = spec.pids.map(u64::from);
    lists(
        "pids",
        pids.map(|pids| limit(pids, |n| n.to_string()))
            .into_iter()
            .collect(),
    );
    let shm = spec.shm.filter(|bytes| *bytes > 0);
    lists("shm", shm.map(exact_size).into_iter().collect());
    let at_once = spec.max_parallel.map(|n| format!("{n} at once"));
    lists("sessions", at_once.into_iter().collect());
    let keep = match spec.keep {
        Keep::Never => "no time".to_owned(),
        Keep::Days(1) => "1 day".to_owned(),
        Keep::Days(days) => format!("{days} days"),
        Keep::Seconds(seconds) => short(Duration::from_secs(seconds.into())),
        Keep::Always => "until they are removed".to_owned(),
    };
    lists("kept for", vec![keep]);
    rows
}

/// All in one line; none for none.
fn joined(values: &[String]) -> Vec<String> {
    match values {
        [] => Vec::new(),
        values => vec![values.join(", ")],
    }
}

fn pairs(table: &BTreeMap<String, String>) -> Vec<String> {
    let pair = |(name, value): (&String, &String)| format!("{name}={value}");
    table.iter().map(pair).collect()
}

fn limit(value: u64, text: impl Fn(u64) -> String) -> String {
    match value {
        0 => "unlimited".to_owned(),
        value => text(value),
    }
}

fn cpus(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1h30m`, as pod.json takes it.
fn duration(seconds: u32) -> String {
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let text = |(number, unit): &(u32, &str)| (*number > 0).then(|| format!("{number}{unit}"));
    parts.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_shown_as_they_are_written() {
        assert_eq!(limit(0, exact_size), "unlimited");
        assert_eq!(cpus(1_500_000_000), "1.5");
        assert_eq!(cpus(10_000_000), "0.01");
        assert_eq!(cpus(4_000_000_000), "4");
        assert_eq!(duration(5400), "1h30m");
        assert_eq!(duration(90), "1m30s");
        assert_eq!(duration(7200), "2h");
    }
}
