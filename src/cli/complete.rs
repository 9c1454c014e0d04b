//! What may stand next on a command line.
//!
//! Shells ask with `cldpd __complete SHELL -- WORDS...`, the last word being the
//! one that is written. Sessions and labels come from the daemon if one runs,
//! pods from their directory. Nothing is started, nothing is waited for long,
//! and what goes wrong is silence: nobody reads errors while typing.

use super::args::{Cli, states};
use super::describe::state;
use super::text::{cut, sanitize};
use crate::client::{Client, HOME_VARIABLE, Home};
use crate::model::api::{ListQuery, SessionView};
use crate::model::{EventKind, PodName, Timestamp};
use clap::{Arg, Command, CommandFactory as _};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, complete};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hidden command that the scripts call.
pub const COMMAND: &str = "__complete";
/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_millis(800);
/// Sessions that have ended and are offered, the newest.
const ENDED_MAX: usize = 200;
/// Widest description.
const HELP_MAX: usize = 60;

/// Which sessions a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Live,
    Ended,
    All,
}

/// The candidates, as the shell's script reads them: one a line, with its
/// description after a tab where the shell shows one.
#[must_use]
pub fn answer(args: &[OsString]) -> String {
    let Some(at) = args.iter().position(|arg| arg == "--") else {
        return String::new();
    };
    let described = args.first().is_some_and(|shell| shell != "bash");
    let words = args[at + 1..].to_vec();
    let Some(current) = words.last().cloned() else {
        return String::new();
    };
    // Behind `--` stands somebody else's command.
    if words[..words.len() - 1].iter().any(|word| word == "--") {
        return String::new();
    }
    let home = home(&words);
    let mut command = with_candidates(Cli::command(), home.as_ref());
    let index = words.len() - 1;
    let found = complete(&mut command, words.clone(), index, None).unwrap_or_default();
    let mut lines = String::new();
    for candidate in found {
        let value = candidate.get_value();
        // Flags are many: they are offered to who asks for them.
        let flag = value.to_string_lossy().starts_with('-');
        if (flag && current.is_empty()) || words[..index].iter().any(|word| word == value) {
            continue;
        }
        lines.push_str(&value.to_string_lossy().replace(['\n', '\t'], " "));
        if let Some(help) = candidate.get_help().filter(|_| described) {
            let help = help.to_string();
            let first = help.lines().next().unwrap_or_default();
            lines.push('\t');
            lines.push_str(first);
        }
        lines.push('\n');
    }
    lines
}

/// The home that the words mean, or the environment.
fn home(words: &[OsString]) -> Option<Home> {
    let named = words.iter().zip(words.iter().skip(1));
    let named = named.filter(|(flag, _)| *flag == "--home");
    let joined = words
        .iter()
        .filter_map(|word| word.to_str()?.strip_prefix("--home="));
    let named = named
        .map(|(_, value)| PathBuf::from(value))
        .chain(joined.map(PathBuf::from))
        .next()
        .or_else(|| std::env::var_os(HOME_VARIABLE).map(PathBuf::from));
    Home::find(named.as_deref(), std::env::var_os("HOME")).ok()
}

/// The same commands, where what stands for a session, a pod and so on knows
/// which there are. They are told by the name of their value.
fn with_candidates(command: Command, home: Option<&Home>) -> Command {
    let wanted = match command.get_name() {
        "stop" | "kill" | "attach" => Wanted::Live,
        "rm" => Wanted::Ended,
        _ => Wanted::All,
    };
    let home = home.cloned();
    command
        .mut_args(|arg| argument(arg, home.as_ref(), wanted))
        .mut_subcommands(|command| with_candidates(command, home.as_ref()))
}

fn argument(arg: Arg, home: Option<&Home>, wanted: Wanted) -> Arg {
    let name = arg.get_value_names().and_then(|names| names.first());
    let Some(name) = name.map(ToString::to_string) else {
        return arg;
    };
    let home = home.cloned();
    let plain = |values: Vec<&'static str>| {
        ArgValueCandidates::new(move || values.iter().map(CompletionCandidate::new).collect())
    };
    let candidates = match name.as_str() {
        "SESSION" => ArgValueCandidates::new(move || sessions(home.as_ref(), wanted)),
        "SESSION|POD" => ArgValueCandidates::new(move || {
            let mut found = sessions(home.as_ref(), wanted);
            found.extend(pods(home.as_ref()));
            found
        }),
        "POD" => ArgValueCandidates::new(move || pods(home.as_ref())),
        "KEY[=VALUE]" | "KEY=VALUE" => ArgValueCandidates::new(move || labels(home.as_ref())),
        "STATE" => plain(states().collect()),
        "KIND" => plain(EventKind::NAMES.to_vec()),
        "SIGNAL" => plain(vec![
            "INT", "TERM", "KILL", "HUP", "USR1", "USR2", "STOP", "CONT",
        ]),
        "COMMAND" => ArgValueCandidates::new(topics),
        _ => return arg,
    };
    arg.add(candidates)
}

fn topics() -> Vec<CompletionCandidate> {
    let command = Cli::command();
    let visible = command.get_subcommands().filter(|c| !c.is_hide_set());
    let names: Vec<String> = visible.map(|c| c.get_name().to_owned()).collect();
    let topics = names.into_iter().chain(["exit-codes".to_owned()]);
    topics.map(CompletionCandidate::new).collect()
}

/// Sessions: the live ones first, the newest of each first; then the names that
/// users gave them.
fn sessions(home: Option<&Home>, wanted: Wanted) -> Vec<CompletionCandidate> {
    let now = Timestamp::now();
    let found: Vec<SessionView> = ask(home)
        .into_iter()
        .filter(|session| match (wanted, session.state.as_str()) {
            (Wanted::Live, "ended" | "removing" | "removed") | (Wanted::Ended, "removed") => false,
            (Wanted::Ended, state) => state == "ended",
            (Wanted::Live | Wanted::All, _) => true,
        })
        .collect();
    let ids = found.iter().map(|session| {
        let about = format!("{}, {}", state(session, now), session.prompt);
        CompletionCandidate::new(session.id.as_str())
            .help(Some(cut(&sanitize(&about), HELP_MAX).into()))
    });
    let names = found.iter().filter_map(|session| {
        let name = session.name.as_ref()?;
        Some(CompletionCandidate::new(name).help(Some(session.id.to_string().into())))
    });
    ids.chain(names).collect()
}

/// Pods, whether or not a daemon runs.
fn pods(home: Option<&Home>) -> Vec<CompletionCandidate> {
    let entries = home.map(|home| std::fs::read_dir(home.pods()));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .flatten()
        .filter(|entry| Path::is_dir(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| PodName::new(name).is_ok())
        .collect();
    names.sort();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn labels(home: Option<&Home>) -> Vec<CompletionCandidate> {
    let mut labels = BTreeSet::new();
    for session in ask(home) {
        for (key, value) in session.labels {
            labels.insert(match value.as_str() {
                "" => key,
                value => format!("{key}={value}"),
            });
        }
    }
    labels.into_iter().map(CompletionCandidate::new).collect()
}

/// The sessions of the daemon that runs, the live ones first; none when none
/// runs or it takes too long.
fn ask(home: Option<&Home>) -> Vec<SessionView> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (Ok(runtime), Some(home)) = (runtime, home) else {
        return Vec::new();
    };
    let asked = async {
        let client = Client::find(home).await.ok().flatten()?;
        let mut found = client.sessions(&ListQuery::default()).await.ok()?;
        let query = ListQuery {
            all: true,
            limit: Some(ENDED_MAX),
            ..ListQuery::default()
        };
        let live: BTreeSet<_> = found.iter().map(|session| session.ulid).collect();
        let all = client.sessions(&query).await.unwrap_or_default();
        found.extend(all.into_iter().filter(|s| !live.contains(&s.ulid)));
        Some(found)
    };
    let patient = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
    patient.ok().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(shell: &str, words: &[&str]) -> Vec<String> {
        let args = [shell, "--", "cldpd", "--home", "/nonexistent"];
        let args = args.iter().chain(words).map(OsString::from);
        let text = answer(&args.collect::<Vec<_>>());
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn commands_flags_and_values_are_offered() {
        assert_eq!(asked("bash", &["sess"]), ["sessions"]);
        assert!(asked("zsh", &["sess"])[0].starts_with("sessions\t"));
        assert_eq!(asked("bash", &["start", "--prompt-f"]), ["--prompt-file"]);
        assert_eq!(asked("bash", &["sessions", "--state", "qu"]), ["queued"]);
        assert_eq!(
            asked("bash", &["sessions", "--format=js"]),
            ["--format=json", "--format=jsonl"]
        );
        assert_eq!(
            asked("bash", &["events", "--kind", "run_"]),
            ["run_started", "run_ended"]
        );
        assert_eq!(asked("bash", &["help", "exit"]), ["exit-codes"]);
        assert_eq!(asked("bash", &["start", "--agent", "cl"]), ["claude"]);
        assert!(asked("bash", &[""]).contains(&"start".to_owned()));
        assert!(!asked("bash", &[""]).contains(&COMMAND.to_owned()));
    }

    #[test]
    fn what_is_not_there_is_silence() {
        assert_eq!(asked("bash", &["stop", ""]), [""; 0]);
        assert_eq!(asked("bash", &["start", ""]), [""; 0]);
        assert_eq!(answer(&[]), "");
        assert_eq!(answer(&["bash".into(), "--".into()]), "");
    }
}
