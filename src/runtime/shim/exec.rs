//! Running a program beside the agent: a connection of its own to the shim.

use super::bytes::Bad;
use super::channel::{Beside, FromProgram, ToProgram};
use super::connect::{Peer, check_peer, next_answer, reach};
use super::types::ShimError;
use super::wire::{self, Answer, Request};
use crate::runtime::session_dir::RunDir;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// A program that does not begin within this has a shim that is stuck (or paused).
const BEGIN: Duration = Duration::from_secs(15);

/// A program that runs beside the agent, as its connection: frames both ways,
/// [`ToProgram`] and [`FromProgram`]. It is ended with it.
#[derive(Debug)]
pub struct Channel {
    /// The connection.
    pub stream: UnixStream,
    /// What came over it already.
    pub early: Vec<u8>,
}

/// Why a program does not run beside the agent.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The shim cannot be spoken with.
    #[error(transparent)]
    Shim(#[from] ShimError),
    /// It was not executed.
    #[error("{message}")]
    NotRun {
        /// 127 (not found), 126 (not executable), or 125: the shim refused.
        code: u8,
        /// Why.
        message: String,
    },
}

impl Channel {
    /// Runs `beside` at the shim of `dir`; returns once it runs. The shim's owner
    /// is not disturbed.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn open(dir: &RunDir, peer: Peer, beside: &Beside) -> Result<Self, ExecError> {
        let path = dir.path();
        let begin = Request::Exec(ToProgram::Begin(beside.clone())).encode();
        if begin.len() > wire::FRAME_MAX {
            let message = format!(
                "arguments and variables of {} bytes are more than {}",
                begin.len(),
                wire::FRAME_MAX
            );
            return Err(ShimError::Refused { message }.into());
        }
        let deadline = Instant::now() + BEGIN;
        let mut stream = reach(&path, Duration::ZERO, deadline).await?;
        check_peer(&stream, peer, &path)?;
        let talk = async {
            let lost = |_| ShimError::Closed;
            let frame = wire::frame(&begin);
            stream.write_all(&frame).await.map_err(lost)?;
            let mut early = Vec::new();
            loop {
                if let Some(answer) = next_answer(&mut early).map_err(ShimError::Protocol)? {
                    return Ok((answer, early));
                }
                if stream.read_buf(&mut early).await.map_err(lost)? == 0 {
                    return Err(ShimError::Closed);
                }
            }
        };
        let answered = timeout_at(deadline, talk).await;
        let (answer, early) = answered.map_err(|_| ShimError::Timeout {
            dir: path.display().to_string(),
        })??;
        match answer {
            Answer::Exec(FromProgram::Started { .. }) => Ok(Self { stream, early }),
            Answer::Exec(FromProgram::NotRun { code, message }) => {
                Err(ExecError::NotRun { code, message })
            }
            _ => Err(ShimError::Protocol(Bad("an answer is out of order")).into()),
        }
    }
}
