//! The attempt's directory: what makes it this shim's, and what it leaves there.
//!
//! ```text
//! born      made by the one shim that this directory will ever have, with its process
//! ctl.sock  the control socket, under its name only once it listens
//! fail      what the shim itself has to complain about
//! pid       locally: its process, when that began, and in which boot
//! keepers   locally: of each run its keeper and program, and when they began
//! exit      locally: its exit code and when
//! ```

use crate::stat;
use crate::sys;
use crate::writer::now;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

const SOCKET: &str = "ctl.sock";
const SOCKET_ASIDE: &str = "ctl.sock.new";

/// Takes possession of the directory, and says who it was: until `pid` is
/// there, that is who is alive.
pub fn be_born(dir: &Path) -> io::Result<()> {
    make(&dir.join("born"))?.write_all(identity().as_bytes())
}

/// Listens in the directory.
///
/// By a relative path, since sockets' paths have to be short, and under another
/// name first: so whoever finds the socket and is refused knows that its shim is dead.
pub fn listen(dir: &Path) -> io::Result<UnixListener> {
    let before = OpenOptions::new()
        .read(true)
        .custom_flags(sys::O_PATH)
        .open(".")?;
    std::env::set_current_dir(dir)?;
    let listener = UnixListener::bind(SOCKET_ASIDE)
        .and_then(|listener| fs::rename(SOCKET_ASIDE, SOCKET).map(|()| listener));
    sys::change_directory(&before)?;
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Says what is wrong, where the daemon looks.
pub fn complain(dir: &Path, message: &str) {
    if let Ok(mut file) = make(&dir.join("fail")) {
        let _ = file.write_all(message.as_bytes());
    }
}

/// Writes the files that a program is to find. Each is made anew: nothing that
/// is in its place is written into, or followed.
pub fn write_files(files: &[(Vec<u8>, u32, Vec<u8>)]) -> io::Result<()> {
    for (path, mode, bytes) in files {
        let path = Path::new(OsStr::from_bytes(path));
        let write = || {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(*mode);
            options.open(path)?.write_all(bytes)
        };
        write().map_err(|error| {
            let message = format!("cannot write {}: {error}", path.display());
            io::Error::new(error.kind(), message)
        })?;
    }
    Ok(())
}

/// Records who this shim is, so that it can be told from one with the same pid.
pub fn record_self(dir: &Path) -> io::Result<()> {
    put(dir, "pid", &identity())
}

/// This process, told from any that gets its pid later.
fn identity() -> String {
    let pid = std::process::id();
    format!("{pid} {} {}\n", start(pid), stat::boot_text())
}

/// Records who to kill when nobody is left to do it.
pub fn record_run(dir: &Path, run: u32, keeper: u32, program: u32) {
    let line = format!(
        "{run} {keeper} {} {program} {}\n",
        start(keeper),
        start(program)
    );
    let path = dir.join("keepers");
    let file = OpenOptions::new().append(true).create(true).open(path);
    // Without it a killed shim's program is still killed by its keeper.
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

/// Records the exit code.
pub fn record_exit(dir: &Path, code: u8) -> io::Result<()> {
    put(dir, "exit", &format!("{code} {}\n", now()))
}

fn start(pid: u32) -> u64 {
    stat::read(pid).map_or(0, |process| process.start)
}

/// Writes a small file, which is there whole or not at all.
fn put(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let aside = dir.join(format!("{name}.new"));
    make(&aside)?.write_all(text.as_bytes())?;
    fs::rename(aside, dir.join(name))
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
