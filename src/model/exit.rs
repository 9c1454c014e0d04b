//! The exit codes of the command `cldpd`.
//!
//! `start`, `resume` and `wait`, and `logs -f` and `attach` that stay to the
//! end, exit with the code of the agent's process (128 + n for signal n). The
//! codes below are for everything else.

/// Done.
pub const OK: u8 = 0;
/// Failed; also an agent that says it failed while its process says 0, and a
/// search that found nothing.
pub const FAILED: u8 = 1;
/// Wrong usage; nothing was tried.
pub const USAGE: u8 = 2;
/// No such pod or session.
pub const NOT_FOUND: u8 = 3;
/// Refused because something would be lost.
pub const REFUSED: u8 = 5;
/// The journal is damaged (`EX_DATAERR` of sysexits.h).
pub const DAMAGED: u8 = 65;
/// The daemon or the engine cannot be reached (`EX_UNAVAILABLE` of sysexits.h).
pub const UNAVAILABLE: u8 = 69;
/// Try later (`EX_TEMPFAIL` of sysexits.h).
pub const TRY_LATER: u8 = 75;
/// Credentials are missing or expired (`EX_NOPERM` of sysexits.h).
pub const CREDENTIALS: u8 = 77;
/// Ended by `--timeout`, as coreutils' timeout does, or by `--idle-timeout`.
pub const TIMED_OUT: u8 = 124;
/// cldpd itself failed: pod, daemon, engine, build or journal.
pub const CLDPD_FAILED: u8 = 125;
/// The command in the container could not be run.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command in the container was not found.
pub const COMMAND_NOT_FOUND: u8 = 127;
/// Left by Ctrl+C before there was an outcome.
pub const INTERRUPTED: u8 = 130;

/// Every code above, by its name, with what it means: `cldpd help exit-codes`.
pub const ALL: [(u8, &str, &str); 14] = [
    (OK, "OK", "done"),
    (
        FAILED,
        "FAILED",
        "failed; also an agent that says it failed while its process says 0, and a search that found nothing",
    ),
    (
        USAGE,
        "USAGE",
        "wrong usage, or a name that fits several sessions; nothing was tried",
    ),
    (NOT_FOUND, "NOT_FOUND", "no such pod or session"),
    (
        REFUSED,
        "REFUSED",
        "refused, because something would be lost or is in use",
    ),
    (
        DAMAGED,
        "DAMAGED",
        "the journal is damaged; `cldpd journal` gets out what can be read",
    ),
    (
        UNAVAILABLE,
        "UNAVAILABLE",
        "the daemon or the engine cannot be reached",
    ),
    (
        TRY_LATER,
        "TRY_LATER",
        "try later: rate limit, budget, full queue",
    ),
    (
        CREDENTIALS,
        "CREDENTIALS",
        "credentials are missing or expired",
    ),
    (
        TIMED_OUT,
        "TIMED_OUT",
        "the run was ended by its time limit, or for its silence",
    ),
    (
        CLDPD_FAILED,
        "CLDPD_FAILED",
        "cldpd itself failed: pod, engine, build or journal",
    ),
    (
        NOT_EXECUTABLE,
        "NOT_EXECUTABLE",
        "the command in the container could not be run",
    ),
    (
        COMMAND_NOT_FOUND,
        "COMMAND_NOT_FOUND",
        "the command in the container was not found",
    ),
    (
        INTERRUPTED,
        "INTERRUPTED",
        "left by Ctrl+C before there was an outcome, or taken back before it ran",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table_under_its_name() {
        let source = include_str!("exit.rs");
        let declared: Vec<(String, u8)> = source
            .lines()
            .filter_map(|line| {
                let (name, value) = line.strip_prefix("pub const ")?.split_once(": u8 = ")?;
                Some((name.to_owned(), value.strip_suffix(';')?.parse().ok()?))
            })
            .collect();
        let listed: Vec<(String, u8)> = ALL
            .iter()
            .map(|(code, name, _)| ((*name).to_owned(), *code))
            .collect();
        assert_eq!(declared, listed);
        let mut codes: Vec<u8> = ALL.iter().map(|(code, ..)| *code).collect();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
    }
}
