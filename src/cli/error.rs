//! Errors as the user sees them, and the exit codes they lead to.
//!
//! Every failure is a [`model::Error`](crate::model::Error) before it is
//! printed; clap's are made into one, so that all look alike.

use super::text::sanitize;
use crate::model::{Error, ErrorCode, exit};
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong.
    Error(Error),
    /// Whoever read our output has gone: there is nothing more to do.
    Closed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// How a command ends: with its exit code, or early.
pub type Done = Result<u8, Failure>;

/// What is printed for an error: what is wrong, what it was about, what to do.
#[must_use]
pub fn render(error: &Error) -> String {
    let mut text = format!("error: {}\n", sanitize(error.message.trim_end()));
    if let Some(hint) = &error.hint {
        text.push_str("hint: ");
        text.push_str(&sanitize(hint));
        text.push('\n');
    }
    text
}

/// A mistake in how the command was called.
#[must_use]
pub fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Usage, message)
}

/// What clap found, as something to print.
#[derive(Debug)]
pub enum Parsed {
    /// Help or the version, that was asked for.
    Wanted(clap::builder::StyledStr),
    /// How the command is used, since nothing was asked for.
    Nothing(clap::builder::StyledStr),
    /// Wrong usage.
    Wrong(Error),
}

/// Makes our error of clap's.
#[must_use]
pub fn from_clap(error: &clap::Error) -> Parsed {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return Parsed::Wanted(error.render());
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Parsed::Nothing(error.render());
        }
        _ => {}
    }
    let command = command_of(error);
    let help = format!("see `{command} --help`");
    let text = |kind| context(error, kind);
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("unknown command '{name}'")
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            format!("unknown option '{argument}'")
        }
        ErrorKind::UnknownArgument => format!("unexpected argument '{argument}'"),
        ErrorKind::MissingRequiredArgument => format!("missing {argument}"),
        ErrorKind::MissingSubcommand => format!("missing the command after `{command}`"),
        ErrorKind::InvalidValue => match text(ContextKind::InvalidValue) {
            Some(value) if !value.is_empty() => format!("invalid value '{value}' for {argument}"),
            _ => format!("missing the value of {argument}"),
        },
        ErrorKind::ValueValidation => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            format!(
                "{argument}: {}",
                cause.unwrap_or_else(|| "invalid value".to_owned())
            )
        }
        ErrorKind::ArgumentConflict => match text(ContextKind::PriorArg) {
            Some(prior) if prior != argument => format!("{argument} cannot be used with {prior}"),
            _ => format!("{argument} cannot be given more than once"),
        },
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        }
    };
    let suggestion = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(text);
    let hint = match (suggestion, text(ContextKind::ValidValue)) {
        (Some(near), _) => format!("did you mean '{near}'? {help}"),
        (None, Some(values)) => format!("one of {values}"),
        (None, None) => help,
    };
    Parsed::Wrong(usage(message).hint(hint))
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.join(", ")),
        _ => None,
    }
}

/// The command that was called, from its usage line.
fn command_of(error: &clap::Error) -> String {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return "cldpd".to_owned();
    };
    let usage = usage.to_string();
    let words = usage.trim_start_matches("Usage:").split_whitespace();
    let words: Vec<&str> = words
        .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    if words.is_empty() {
        return "cldpd".to_owned();
    }
    words.join(" ")
}

/// The exit codes, as `cldpd help exit-codes` prints them.
#[must_use]
pub fn exit_codes() -> String {
    let rows: [(u8, &str); 13] = [
        (exit::OK, "done"),
        (
            exit::FAILED,
            "failed; also an agent that says it failed while its process says 0",
        ),
        (
            exit::USAGE,
            "wrong usage, or a name that fits several sessions; nothing was tried",
        ),
        (exit::NOT_FOUND, "no such pod or session"),
        (
            exit::REFUSED,
            "refused, because something would be lost or is in use",
        ),
        (
            exit::UNAVAILABLE,
            "the daemon or the engine cannot be reached",
        ),
        (exit::TRY_LATER, "try later: rate limit, budget, full queue"),
        (exit::CREDENTIALS, "credentials are missing or expired"),
        (exit::TIMED_OUT, "the run was ended by its time limit"),
        (
            exit::CLDPD_FAILED,
            "cldpd itself failed: pod, daemon, engine, build or journal",
        ),
        (
            exit::NOT_EXECUTABLE,
            "the command in the container could not be run",
        ),
        (
            exit::COMMAND_NOT_FOUND,
            "the command in the container was not found",
        ),
        (
            exit::INTERRUPTED,
            "left by Ctrl+C before there was an outcome, or taken back before it ran",
        ),
    ];
    let mut text = String::from(
        "Exit codes of cldpd\n\n\
         start, resume and wait, and logs -f and attach that stay to the end, exit with\n\
         the code of the agent's process: 128 + n when signal n ended it (137 is SIGKILL,\n\
         143 SIGTERM). Of several sessions, the first code that is not 0 counts.\n\n",
    );
    for (code, meaning) in rows {
        text.push_str(&format!("{code:>5}  {meaning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_what_then_about_what_then_what_to_do() {
        let error = Error::new(
            ErrorCode::BuildFailed,
            "the image \"x\" could not be built\nlast \x1b[31mline\n",
        )
        .hint("see `cldpd logs x-1`");
        assert_eq!(
            render(&error),
            "error: the image \"x\" could not be built\nlast line\nhint: see `cldpd logs x-1`\n"
        );
    }

    #[test]
    fn every_exit_code_is_listed_once() {
        let text = exit_codes();
        for code in ["    0", "    2", "  125", "  130"] {
            assert_eq!(
                text.lines().filter(|line| line.starts_with(code)).count(),
                1,
                "{code}"
            );
        }
    }
}
