//! Errors as the user sees them, and the exit codes they lead to.
//!
//! Every failure is a [`model::Error`](crate::model::Error) before it is
//! printed; clap's are made into one, so that all look alike.

use super::args::Cli;
use super::text::sanitize;
use crate::model::{Error, ErrorCode, PodName, exit};
use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;
use std::io;

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

/// What the system says, without its number.
#[must_use]
pub fn plain(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// What clap found, as something to print.
#[derive(Debug)]
pub enum Parsed {
    /// Help or the version, that was asked for.
    Wanted(clap::builder::StyledStr),
    /// How the command is used, since nothing was asked of it.
    Nothing(clap::builder::StyledStr),
    /// Wrong usage.
    Wrong(Error),
}

/// Makes our error of clap's, for a command line that began with `args`.
#[must_use]
pub fn from_clap(error: &clap::Error, args: &[OsString]) -> Parsed {
    let mut called = called(args);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return Parsed::Wanted(error.render());
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            return Parsed::Nothing(called.render_help());
        }
        _ => {}
    }
    let command = called.get_bin_name().unwrap_or("cldpd").to_owned();
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
        ErrorKind::InvalidValue => match text(ContextKind::InvalidValue) {
            Some(value) if !value.is_empty() => format!("invalid value '{value}' for {argument}"),
            _ => format!("missing the value of {argument}"),
        },
        ErrorKind::ValueValidation => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let cause = std::error::Error::source(error).map(ToString::to_string);
            let cause = cause.map(|cause| of_value(&cause)).unwrap_or_default();
            format!("invalid value '{value}' for {argument}{cause}")
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
    .find_map(text)
    .map(|near| near.replace(", ", "' or '"));
    let hint = match (suggestion, text(ContextKind::ValidValue)) {
        (Some(near), None) => format!("did you mean '{near}'? {help}"),
        (Some(near), Some(values)) => format!("did you mean '{near}'? one of {values}"),
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

/// The command that `args` call, as far as its name goes.
fn called(args: &[OsString]) -> clap::Command {
    let mut root = Cli::command();
    // Makes every command know its full name and the global flags.
    root.build();
    let mut command = &root;
    for word in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    command.clone()
}

/// What is wrong with a value, not in the words of the number parser.
fn of_value(cause: &str) -> String {
    if let Some((_, range)) = cause.split_once(" is not in ") {
        let (least, most) = range.split_once("..").unwrap_or((range, ""));
        return match most.trim_start_matches('=') {
            "" => format!(": at least {least}"),
            most => format!(": between {least} and {most}"),
        };
    }
    match cause {
        "" => String::new(),
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            ": not a whole number".to_owned()
        }
        "number too large to fit in target type" => ": too large a number".to_owned(),
        other => format!(": {other}"),
    }
}

/// The name of a pod that is asked about. One that can be none is wrong usage:
/// there is nothing it could mean.
///
/// # Errors
/// `usage`.
pub fn pod_asked_for(name: &str) -> Result<(), Error> {
    PodName::new(name).map(drop).map_err(|error| Error {
        code: ErrorCode::Usage,
        ..error
    })
}

/// A name that has to be one of a few.
///
/// # Errors
/// `usage`, with those that there are.
pub fn one_of(flag: &str, given: &str, known: &[&str]) -> Result<(), Error> {
    if known.contains(&given) {
        return Ok(());
    }
    let given = given.escape_debug();
    Err(usage(format!("invalid value '{given}' for {flag}"))
        .hint(format!("one of {}", known.join(", "))))
}

/// The exit codes, as `cldpd help exit-codes` prints them.
#[must_use]
pub fn exit_codes() -> String {
    let mut text = String::from(
        "Exit codes of cldpd\n\n\
         start, resume and wait, and logs -f and attach that stay to the end, exit with\n\
         the code of the agent's process: 128 + n when signal n ended it (137 is SIGKILL,\n\
         143 SIGTERM). Of several sessions, the first code that is not 0 counts.\n\n",
    );
    for (code, _, meaning) in exit::ALL {
        text.push_str(&format!("{code:>5}  {meaning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

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

    fn refused(line: &str) -> (String, String) {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&args).err();
        match error.map(|error| from_clap(&error, &args)) {
            Some(Parsed::Wrong(error)) => (error.message, error.hint.unwrap_or_default()),
            other => (format!("{other:?}"), String::new()),
        }
    }

    #[test]
    fn what_is_wrong_with_a_command_line_is_named() {
        let cases = [
            (
                "strat p",
                "unknown command 'strat'",
                "did you mean 'stats' or 'start'? see `cldpd --help`",
            ),
            ("xyzzy", "unknown command 'xyzzy'", "see `cldpd --help`"),
            (
                "start p --promt x",
                "unknown option '--promt'",
                "did you mean '--prompt'? see `cldpd start --help`",
            ),
            (
                "attach a b",
                "unexpected argument 'b'",
                "see `cldpd attach --help`",
            ),
            (
                "resume --prompt x",
                "missing <SESSION|POD>",
                "see `cldpd resume --help`",
            ),
            ("logs -f", "missing <SESSION>...", "see `cldpd logs --help`"),
            (
                "logs x --run",
                "missing the value of --run <N>",
                "see `cldpd logs --help`",
            ),
            (
                "sessions --format xml",
                "invalid value 'xml' for --format <FORMAT>",
                "one of table, json, jsonl",
            ),
            (
                "start p --prompt a --issue b",
                "--prompt <TEXT> cannot be used with --issue <URL>",
                "see `cldpd start --help`",
            ),
            (
                "pod shw x",
                "unknown command 'shw'",
                "did you mean 'show'? see `cldpd pod --help`",
            ),
            (
                "start p --count 0",
                "invalid value '0' for --count <N>: between 1 and 1000",
                "see `cldpd start --help`",
            ),
            (
                "--home a --home b pods",
                "--home <DIR> cannot be given more than once",
                "see `cldpd pods --help`",
            ),
        ];
        for (line, message, hint) in cases {
            let expected = (message.to_owned(), hint.to_owned());
            assert_eq!(refused(&format!("cldpd {line}")), expected, "{line}");
        }
    }

    #[test]
    fn nothing_asked_is_answered_with_the_usage() {
        for (line, usage) in [("cldpd", "Usage: cldpd"), ("cldpd pod", "Usage: cldpd pod")] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let error = Cli::try_parse_from(&args).err();
            let text = match error.map(|error| from_clap(&error, &args)) {
                Some(Parsed::Nothing(text)) => text.to_string(),
                other => format!("{other:?}"),
            };
            assert!(text.contains(usage), "{line}: {text}");
        }
    }

    #[test]
    fn numbers_are_refused_in_plain_words() {
        assert_eq!(
            of_value("invalid digit found in string"),
            ": not a whole number"
        );
        assert_eq!(of_value("0 is not in 1..=1000"), ": between 1 and 1000");
        assert_eq!(of_value("0 is not in 1.."), ": at least 1");
        assert_eq!(of_value("x"), ": x");
    }

    #[test]
    fn a_name_is_one_of_those_there_are() {
        assert!(one_of("--state", "ended", &["ended", "failed"]).is_ok());
        let error = one_of("--state", "endet", &["ended", "failed"]).unwrap_err();
        assert_eq!(
            render(&error),
            "error: invalid value 'endet' for --state\nhint: one of ended, failed\n"
        );
    }
}
