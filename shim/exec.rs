//! From the forked keeper to the program: everything a process is given before
//! it is another's.

use crate::sys::{self, signals};
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where programs are looked for when there is no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// A program, with all that it is to be given.
pub struct Launch {
    /// Program and arguments; never empty.
    pub argv: Vec<CString>,
    /// All variables, as `NAME=value`.
    pub env: Vec<CString>,
    /// The working directory, if not the shim's.
    pub cwd: Option<CString>,
    /// Its standard streams.
    pub streams: Streams,
    /// The umask that the shim was started with.
    pub umask: u32,
}

/// A program's standard streams.
pub enum Streams {
    /// Pipes: input, output, errors.
    Pipes([OwnedFd; 3]),
    /// A terminal for all of them.
    Terminal(OwnedFd),
}

/// Becomes the program, in a process forked from `keeper`. If that cannot be, it
/// says so on `complaint` (which closes by itself otherwise) and ends.
pub fn become_program(launch: &Launch, keeper: u32, mut complaint: File) -> ! {
    let (code, message) = prepare(launch, keeper)
        .map_err(|error| (NOT_EXECUTABLE, error.to_string()))
        .and_then(|()| enter(launch))
        .map_or_else(|failure| failure, |()| try_all(launch));
    let mut said = vec![code];
    said.extend_from_slice(message.as_bytes());
    let _ = complaint.write_all(&said);
    sys::exit(code)
}

fn prepare(launch: &Launch, keeper: u32) -> io::Result<()> {
    sys::signal_at_parents_death(signals::KILL)?;
    if std::os::unix::process::parent_id() != keeper {
        sys::exit(NOT_EXECUTABLE);
    }
    sys::new_session()?;
    match &launch.streams {
        Streams::Pipes(streams) => {
            for (number, stream) in (0..).zip(streams) {
                sys::duplicate_as(stream, number)?;
            }
        }
        Streams::Terminal(terminal) => {
            sys::take_terminal(terminal)?;
            for number in 0..3 {
                sys::duplicate_as(terminal, number)?;
            }
        }
    }
    sys::umask(launch.umask);
    sys::reset_signals();
    Ok(())
}

fn enter(launch: &Launch) -> Result<(), (u8, String)> {
    let Some(cwd) = &launch.cwd else {
        return Ok(());
    };
    std::env::set_current_dir(path(cwd)).map_err(|error| {
        let shown = cwd.to_string_lossy();
        (
            code_of(&error),
            format!("cannot change to the directory {shown}: {}", plain(&error)),
        )
    })
}

/// Tries every place where the program may be. Returns only when none will do.
fn try_all(launch: &Launch) -> (u8, String) {
    let program = &launch.argv[0];
    let shown = program.to_string_lossy();
    let mut denied = None;
    for candidate in candidates(program.as_bytes(), &launch.env) {
        let error = sys::execute(&candidate, &launch.argv, &launch.env);
        match error.kind() {
            io::ErrorKind::NotFound if is_there(&candidate) => {
                let message = format!(
                    "{} is there, but the interpreter or loader that it names is not",
                    candidate.to_string_lossy()
                );
                return (NOT_FOUND, message);
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            io::ErrorKind::PermissionDenied => {
                denied.get_or_insert(candidate);
            }
            _ => {
                let candidate = candidate.to_string_lossy();
                return (
                    NOT_EXECUTABLE,
                    format!("cannot execute {candidate}: {}", plain(&error)),
                );
            }
        }
    }
    if let Some(denied) = denied {
        let denied = denied.to_string_lossy();
        return (
            NOT_EXECUTABLE,
            format!("cannot execute {denied}: permission denied"),
        );
    }
    let place = if program.as_bytes().contains(&b'/') {
        ""
    } else {
        " in PATH"
    };
    (NOT_FOUND, format!("{shown} was not found{place}"))
}

fn candidates(program: &[u8], env: &[CString]) -> Vec<CString> {
    let name = CString::new(program).unwrap_or_default();
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains(&b'/') {
        return vec![name];
    }
    let paths = env
        .iter()
        .find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    let directories = paths.split(|b| *b == b':');
    let candidates = directories.map(|directory| {
        // An empty one is the working directory, as everywhere.
        let mut path = if directory.is_empty() {
            b".".to_vec()
        } else {
            directory.to_vec()
        };
        path.push(b'/');
        path.extend_from_slice(program);
        CString::new(path).unwrap_or_default()
    });
    candidates.collect()
}

fn is_there(candidate: &CString) -> bool {
    fs::symlink_metadata(path(candidate)).is_ok_and(|meta| meta.is_file())
}

fn path(text: &CString) -> &Path {
    Path::new(OsStr::from_bytes(text.as_bytes()))
}

fn code_of(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

/// The system's word, in lower case and without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}
