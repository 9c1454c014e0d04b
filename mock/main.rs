//! The APIs that the real agents speak to, played on a container's own loopback,
//! for `make test-agents`.
//!
//! It stands in an image under the name of an agent. Called so, it listens,
//! leaves a copy of itself behind to answer, and becomes the real command
//! (`/opt/agents/NAME`) with the same process id, arguments and streams: whoever
//! called it notices nothing. `script.rs` says what it answers, and why it needs
//! no memory for that; all that it dispensed stands in a file, a JSON object a
//! line (`ledger.rs`).

#![deny(unsafe_code)]

mod anthropic;
mod chat;
mod gemini;
mod http;
mod ledger;
mod reply;
mod responses;
mod script;
mod server;

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Where the agents' configurations say that their API is.
const PORT: u16 = 8765;

/// Where the real commands are.
const AGENTS: &str = "/opt/agents";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let done = match args.first().map(|word| word.as_bytes()) {
        Some(b"--serve-what-is-listened-on") => serve(),
        _ => become_agent(&called, &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mock-api: {error}");
            ExitCode::from(125)
        }
    }
}

/// The listening socket is standard input.
fn serve() -> io::Result<()> {
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    server::serve(&TcpListener::from(socket))
}

fn become_agent(called: &OsString, args: &[OsString]) -> io::Result<()> {
    let name = Path::new(called).file_name().unwrap_or_default();
    // Listening before the agent is there: nothing has to be waited for.
    match TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)) {
        Ok(listener) => {
            ledger::begin(name, args)?;
            Command::new("/proc/self/exe")
                .arg("--serve-what-is-listened-on")
                .stdin(Stdio::from(OwnedFd::from(listener)))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // Signals for the agent and its tools are not for its API.
                .process_group(0)
                .spawn()?;
        }
        // An agent that an agent started.
        Err(error) if error.kind() == ErrorKind::AddrInUse => {}
        Err(error) => return Err(error),
    }
    Err(Command::new(Path::new(AGENTS).join(name)).args(args).exec())
}
