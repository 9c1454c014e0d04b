//! A command beside the agent, over a connection of its own.

use super::connection::{Client, Exchange};
use crate::model::api::ExecRequest;
use crate::model::exec::{Input, Output, PIECE, UPGRADE, WINDOW};
use crate::model::{Error, ErrorCode, Result};
use hyper::Method;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, Semaphore};

type Connection = TokioIo<Upgraded>;

/// A command that runs. It is ended when this and all its [`Feed`]s are dropped.
pub struct Exec {
    reader: ReadHalf<Connection>,
    buffer: Vec<u8>,
    feed: Feed,
}

/// What goes to a command. Cheap to clone; clones take turns, frame by frame.
#[derive(Clone)]
pub struct Feed {
    writer: Arc<Mutex<WriteHalf<Connection>>>,
    /// Bytes of input that may still be sent.
    window: Arc<Semaphore>,
}

impl Client {
    /// Runs a command beside the agent of a session; returns once it runs.
    ///
    /// # Errors
    /// `command_not_found`, `command_not_executable`, `refused` when the session
    /// does not run; and as all requests do. It is never tried twice.
    pub async fn exec(&self, session: &str, request: &ExecRequest) -> Result<Exec> {
        let exchange = Exchange::new(Method::POST, &["sessions", session, "exec"]);
        let exchange = exchange.json(request)?.upgraded(UPGRADE);
        let response = self.answer(&exchange).await?;
        let upgraded = hyper::upgrade::on(response).await;
        let upgraded = upgraded.map_err(|error| broken(&error.to_string()))?;
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        let feed = Feed {
            writer: Arc::new(Mutex::new(writer)),
            window: Arc::new(Semaphore::new(WINDOW)),
        };
        Ok(Exec {
            reader,
            buffer: Vec::new(),
            feed,
        })
    }
}

impl Exec {
    /// The way to it.
    #[must_use]
    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// What comes next; [`Output::Exited`] is the last. Nothing is lost when the
    /// future is dropped.
    ///
    /// # Errors
    /// `daemon_unavailable` when the connection ends before the command does.
    pub async fn next(&mut self) -> Result<Output> {
        loop {
            let frame = Output::take(&mut self.buffer)
                .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
            match frame {
                // What was never under way cannot be off the way: more is no gift.
                Some(Output::Taken(count)) => {
                    let missing = WINDOW - self.feed.window.available_permits().min(WINDOW);
                    self.feed.window.add_permits(missing.min(count as usize));
                }
                Some(output) => return Ok(output),
                None => {
                    let read = self.reader.read_buf(&mut self.buffer).await;
                    if read.map_err(|error| broken(&error.to_string()))? == 0 {
                        return Err(broken("it was closed"));
                    }
                }
            }
        }
    }
}

impl Feed {
    /// Gives bytes to its standard input, as it takes them: somebody has to call
    /// [`Exec::next`] meanwhile.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let room = self.window.acquire_many(length).await;
            room.map_err(io::Error::other)?.forget();
            self.send(Input::Bytes(piece)).await?;
        }
        Ok(())
    }

    /// Ends its standard input.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn end(&self) -> io::Result<()> {
        self.send(Input::End).await
    }

    /// Sends a signal to its process group.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn signal(&self, number: i32) -> io::Result<()> {
        self.send(Input::Signal(number)).await
    }

    async fn send(&self, input: Input<'_>) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.write_all(&input.frame()).await?;
        writer.flush().await
    }
}

fn broken(cause: &str) -> Error {
    let message = format!("the connection to the command broke: {cause}");
    Error::new(ErrorCode::DaemonUnavailable, message)
        .hint("the command is ended with it; the session is not concerned")
}
