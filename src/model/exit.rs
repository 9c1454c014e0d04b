//! The exit codes of the command `cldpd`.
//!
//! `start`, `resume` and `wait`, and `logs -f` and `attach` that stay to the
//! end, exit with the code of the agent's process (128 + n for signal n). The
//! codes below are for everything else.

/// Done.
pub const OK: u8 = 0;
/// Failed; also an agent that says it failed while its process says 0.
pub const FAILED: u8 = 1;
/// Wrong usage; nothing was tried.
pub const USAGE: u8 = 2;
/// No such pod or session.
pub const NOT_FOUND: u8 = 3;
/// Refused because something would be lost.
pub const REFUSED: u8 = 5;
/// The daemon or the engine cannot be reached (`EX_UNAVAILABLE` of sysexits.h).
pub const UNAVAILABLE: u8 = 69;
/// Try later (`EX_TEMPFAIL` of sysexits.h).
pub const TRY_LATER: u8 = 75;
/// Credentials are missing or expired (`EX_NOPERM` of sysexits.h).
pub const CREDENTIALS: u8 = 77;
/// Ended by `--timeout`, as coreutils' timeout does.
pub const TIMED_OUT: u8 = 124;
/// cldpd itself failed: pod, daemon, engine, build or journal.
pub const CLDPD_FAILED: u8 = 125;
/// The command in the container could not be run.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command in the container was not found.
pub const COMMAND_NOT_FOUND: u8 = 127;
/// Left by Ctrl+C before there was an outcome.
pub const INTERRUPTED: u8 = 130;
