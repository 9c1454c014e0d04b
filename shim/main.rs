//! The shim: the first process of a session's container, or of a local session.
//!
//! It owns the agent's pipes, spools what comes out, keeps the exit status,
//! takes commands over a socket, and needs nobody. One thread, no dependencies;
//! `unsafe` only in `sys`.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]

#[macro_use]
mod failpoint;

// Shared with the main package, which uses the other half of each.
mod beside;
#[allow(dead_code)]
mod bytes;
#[allow(dead_code)]
mod channel;
#[allow(dead_code)]
mod command;
mod conn;
mod crc;
mod exec;
mod input;
mod keeper;
mod log;
mod options;
mod place;
mod process;
mod purge;
mod redact;
mod run;
mod server;
mod sha256;
mod source;
#[allow(dead_code)]
mod spool;
mod stat;
#[allow(unsafe_code)]
mod sys;
#[allow(dead_code, unused_imports)]
mod wire;
mod writer;

use options::{Mode, Options};
use server::{Parts, Server};
use spool::SegmentHeader;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use sys::Fork;

/// Its own complaints; a run's code comes out of the spool.
const FAILED: u8 = 125;

fn main() {
    sys::close_others(&[]);
    let code = match options::parse(std::env::args_os().skip(1)) {
        Ok(Mode::Serve(options)) => serve(options),
        Ok(Mode::Purge(dir)) => purge(&dir),
        Err(message) => complain_loudly(&message),
    };
    sys::exit(code)
}

fn purge(dir: &Path) -> u8 {
    match purge::purge(dir) {
        Ok(()) => 0,
        Err(error) => complain_loudly(&format!("cannot delete {error}")),
    }
}

fn complain_loudly(message: &str) -> u8 {
    let _ = writeln!(io::stderr(), "shim: {message}");
    FAILED
}

fn serve(options: Options) -> u8 {
    let umask = sys::umask(0);
    let dir = options.dir.clone();
    fail_point!("shim.begun");
    if let Err(error) = place::be_born(&dir) {
        // Not into `fail`: that is another shim's to write.
        return complain_loudly(&format!("cannot be born in {}: {error}", dir.display()));
    }
    fail_point!("shim.born");
    let told = dir.clone();
    std::panic::set_hook(Box::new(move |info| {
        place::complain(&told, &format!("a fault of the shim's own: {info}"));
    }));
    let result = prepare(&options).and_then(|(log, listener, boot)| {
        let local = options.local;
        let begin = move || {
            // Opened while it may be: then this process closes itself to its own
            // user, and knows no secret before that.
            let oom = File::options()
                .read(true)
                .write(true)
                .open("/proc/self/oom_score_adj")
                .ok();
            sys::become_undumpable()?;
            let parts = Parts {
                signals: sys::catch_signals()?,
                options,
                log,
                listener,
                oom,
                umask,
                boot,
            };
            Ok(Server::new(parts))
        };
        if local {
            serve_apart(&dir, begin)
        } else {
            begin()?.serve()
        }
    });
    result.unwrap_or_else(|error| {
        let message = error.to_string();
        place::complain(&dir, &message);
        complain_loudly(&message)
    })
}

fn prepare(options: &Options) -> io::Result<(log::Log, UnixListener, [u8; 16])> {
    let boot = stat::boot();
    let header = SegmentHeader {
        number: 0,
        session: options.session,
        run: options.run,
        attempt: options.attempt,
        boot,
        base: 0,
        ordinal: 0,
    };
    let named = |what: &str, error: io::Error| {
        let dir = options.dir.display();
        io::Error::new(error.kind(), format!("cannot {what} in {dir}: {error}"))
    };
    let bound = options.spool_max;
    #[cfg(failpoints)]
    let bound = failpoint::bound().unwrap_or(bound);
    let writer = writer::Writer::create(&options.dir, header, bound)
        .map_err(|error| named("begin the spool", error))?;
    fail_point!("shim.spooled");
    let listener = place::listen(&options.dir).map_err(|error| named("listen", error))?;
    fail_point!("shim.listens");
    Ok((log::Log::new(writer), listener, boot))
}

/// Goes on in a process of its own session, adopting what its descendants leave;
/// the one that was called ends when that is ready.
fn serve_apart(dir: &Path, begin: impl FnOnce() -> io::Result<Server>) -> io::Result<u8> {
    let (mut ready, mut tell) = io::pipe()?;
    if let Fork::Parent(_) = sys::split()? {
        drop(tell);
        let mut byte = [0];
        return match ready.read(&mut byte)? {
            0 => Ok(FAILED),
            _ => Ok(0),
        };
    }
    drop(ready);
    sys::new_session()?;
    sys::become_subreaper()?;
    place::record_self(dir)?;
    let mut server = begin()?;
    tell.write_all(&[1])?;
    drop(tell);
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..3 {
        sys::duplicate_as(&nowhere, stream)?;
    }
    let code = server.serve()?;
    fail_point!("shim.finished");
    place::record_exit(dir, code)?;
    fail_point!("shim.recorded");
    Ok(code)
}
