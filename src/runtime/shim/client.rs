//! The client of one shim: sends commands, learns how long the spool is.
//!
//! A command's future may be dropped at any point: what was begun is sent whole
//! all the same, since one task does all the writing.

use super::bytes::Bad;
use super::connect::{self, Peer, next_answer};
use super::types::{Hello, RunBody, ShimError};
use super::wire::{self, Answer, Command, Request, RunCommand};
use crate::model::Ulid;
use crate::runtime::session_dir::RunDir;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// A connection to a shim. Cheap to clone; it ends with the last clone.
#[derive(Clone)]
pub struct Shim(Arc<Inner>);

struct Inner {
    hello: Hello,
    out: mpsc::Sender<Out>,
    state: watch::Receiver<State>,
    pending: Pending,
    request: AtomicU32,
    /// How much input each run was given; held while some is given, to keep its order.
    input: tokio::sync::Mutex<HashMap<u32, u64>>,
    tasks: [JoinHandle<()>; 2],
}

/// Requests that wait for their answers.
type Pending = Arc<Mutex<HashMap<u32, oneshot::Sender<Result<(), String>>>>>;

enum Out {
    Frame(Request),
    Body {
        request: u32,
        id: Ulid,
        body: Vec<u8>,
    },
}

#[derive(Clone, Copy)]
struct State {
    written: u64,
    gone: Option<Gone>,
}

#[derive(Clone, Copy)]
enum Gone {
    Closed,
    Displaced(u64),
    Protocol(Bad),
}

impl From<Gone> for ShimError {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Closed => Self::Closed,
            Gone::Displaced(generation) => Self::Displaced { generation },
            Gone::Protocol(bad) => Self::Protocol(bad),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl fmt::Debug for Shim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shim").field(&self.0.hello).finish()
    }
}

impl Shim {
    /// Connects to the shim of `dir`, waiting up to `patience` for its socket
    /// to appear, and takes it over if `generation` is not older than its owner's.
    ///
    /// # Errors
    /// [`ShimError::Dead`] when nobody listens (with no patience also when the
    /// socket is not there yet), and everything else that [`ShimError`] lists.
    pub async fn connect(
        dir: &RunDir,
        peer: Peer,
        generation: u64,
        patience: Duration,
    ) -> Result<Self, ShimError> {
        let (stream, hello, rest) = connect::connect(dir, peer, generation, patience).await?;
        let (read, write) = stream.into_split();
        let (out, queue) = mpsc::channel(64);
        let (tell, state) = watch::channel(State {
            written: hello.written,
            gone: None,
        });
        let pending = Pending::default();
        let input = hello.runs.iter().map(|(run, _, taken)| (*run, *taken));
        let input = tokio::sync::Mutex::new(input.collect());
        let tasks = [
            tokio::spawn(write_all(queue, write)),
            tokio::spawn(read_all(read, rest, tell, Arc::clone(&pending))),
        ];
        Ok(Self(Arc::new(Inner {
            hello,
            out,
            state,
            pending,
            request: AtomicU32::new(0),
            input,
            tasks,
        })))
    }

    /// What it said of itself when we connected.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// Runs a program; returns once that is accepted. With an id that the shim
    /// knows nothing happens again.
    ///
    /// # Errors
    /// See [`ShimError`].
    pub async fn run(&self, body: &RunBody) -> Result<(), ShimError> {
        let command = Command::Run(Box::new(RunCommand {
            run: body.run,
            argv: body.argv.clone(),
            env: body.env.clone(),
            cwd: body.cwd.clone(),
            stdin: body.stdin.clone(),
            keep_stdin_open: body.keep_stdin_open,
            tty: body.tty,
            primary: body.primary,
            secrets: body
                .secrets
                .iter()
                .map(|(name, value)| (name.clone().into_bytes(), value.clone()))
                .collect(),
            files: body.files.clone(),
        }));
        self.command(body.id, &command).await
    }

    /// Sends a signal to the run's process group; returns once that is accepted.
    ///
    /// # Errors
    /// See [`ShimError`].
    pub async fn signal(&self, id: Ulid, run: u32, signal: i32) -> Result<(), ShimError> {
        self.command(id, &Command::Signal { run, signal }).await
    }

    /// TERM to the run now, KILL to its whole tree after `grace`; with none at
    /// once. A further stop can only shorten the time. The shim keeps it by
    /// itself; `Done` follows when the run is over.
    ///
    /// # Errors
    /// See [`ShimError`].
    pub async fn stop(&self, id: Ulid, run: u32, grace: Duration) -> Result<(), ShimError> {
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.command(id, &Command::Stop { run, grace }).await
    }

    /// Writes `bytes` to the run's standard input, uninterrupted, behind what was
    /// sent before; returns once that is accepted. `Done` tells whether all of
    /// it was written.
    ///
    /// # Errors
    /// See [`ShimError`].
    pub async fn steer(&self, id: Ulid, run: u32, bytes: Vec<u8>) -> Result<(), ShimError> {
        self.command(id, &Command::Steer { run, bytes }).await
    }

    /// Writes keystrokes to the run's terminal (or standard input), and closes it
    /// behind them when `close`; returns once they are written. Nothing of this
    /// is in the spool.
    ///
    /// # Errors
    /// See [`ShimError`].
    pub async fn input(&self, run: u32, bytes: &[u8], close: bool) -> Result<(), ShimError> {
        let mut given = self.0.input.lock().await;
        let given = given.entry(run).or_default();
        let mut pieces = bytes.chunks(wire::CHUNK_MAX).peekable();
        loop {
            let piece = pieces.next().unwrap_or_default();
            let last = pieces.peek().is_none();
            let position = *given;
            *given += piece.len() as u64;
            let refused = self
                .request(|request| {
                    Out::Frame(Request::Input {
                        request,
                        run,
                        position,
                        close: close && last,
                        bytes: piece.to_vec(),
                    })
                })
                .await;
            if let Err(error) = refused {
                *given = position;
                return Err(error);
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Tells the run's terminal its size.
    ///
    /// # Errors
    /// See [`ShimError`].
    pub async fn resize(&self, run: u32, rows: u16, columns: u16) -> Result<(), ShimError> {
        self.request(|request| {
            Out::Frame(Request::Resize {
                request,
                run,
                rows,
                columns,
            })
        })
        .await
    }

    /// Completes when the spool is longer than `beyond`, with its length.
    ///
    /// # Errors
    /// When the connection ends before that.
    pub async fn written(&self, beyond: u64) -> Result<u64, ShimError> {
        let mut state = self.0.state.clone();
        loop {
            let State { written, gone } = *state.borrow_and_update();
            if written > beyond {
                return Ok(written);
            }
            if let Some(gone) = gone {
                return Err(gone.into());
            }
            self.send(Out::Frame(Request::Watch { beyond })).await?;
            state.changed().await.map_err(|_| ShimError::Closed)?;
        }
    }

    /// Tells the shim that everything before `upto` is safe.
    ///
    /// # Errors
    /// See [`ShimError`].
    pub async fn trim(&self, upto: u64) -> Result<(), ShimError> {
        self.request(|request| Out::Frame(Request::Trim { request, upto }))
            .await
    }

    async fn command(&self, id: Ulid, command: &Command) -> Result<(), ShimError> {
        let body = command.encode();
        if body.len() as u64 > wire::BODY_MAX {
            return Err(ShimError::Refused {
                message: format!(
                    "it is {} bytes long, which is more than the {} that can be sent",
                    body.len(),
                    wire::BODY_MAX
                ),
            });
        }
        self.request(|request| Out::Body { request, id, body })
            .await
    }

    async fn request(&self, make: impl FnOnce(u32) -> Out) -> Result<(), ShimError> {
        let request = self.0.request.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.0.pending).insert(request, answer);
        // Entered first and looked at then: the reader clears what is entered
        // when it ends, and nothing can be entered behind its back.
        let gone = self.0.state.borrow().gone;
        if let Some(gone) = gone {
            lock(&self.0.pending).remove(&request);
            return Err(gone.into());
        }
        self.send(make(request)).await?;
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(message)) => Err(ShimError::Refused { message }),
            Err(_) => Err(self.gone()),
        }
    }

    async fn send(&self, out: Out) -> Result<(), ShimError> {
        self.0.out.send(out).await.map_err(|_| self.gone())
    }

    fn gone(&self) -> ShimError {
        let gone = self.0.state.borrow().gone;
        gone.map_or(ShimError::Closed, ShimError::from)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that panics is done while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what is queued until nobody can queue any more or the shim is gone;
/// then the reader learns the end from the socket.
async fn write_all(mut queue: mpsc::Receiver<Out>, mut socket: OwnedWriteHalf) {
    while let Some(out) = queue.recv().await {
        let written = match out {
            Out::Frame(request) => socket.write_all(&wire::frame(&request.encode())).await,
            Out::Body { request, id, body } => write_body(&mut socket, request, id, &body).await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn write_body(
    socket: &mut OwnedWriteHalf,
    request: u32,
    id: Ulid,
    body: &[u8],
) -> io::Result<()> {
    let begin = Request::Begin {
        request,
        id: id.0,
        total: body.len() as u64,
        hash: Sha256::digest(body).into(),
    };
    socket.write_all(&wire::frame(&begin.encode())).await?;
    let mut position = 0;
    for piece in body.chunks(wire::CHUNK_MAX) {
        let chunk = Request::Chunk {
            id: id.0,
            position,
            bytes: piece.to_vec(),
        };
        socket.write_all(&wire::frame(&chunk.encode())).await?;
        position += piece.len() as u64;
    }
    Ok(())
}

async fn read_all(
    mut socket: OwnedReadHalf,
    mut buffer: Vec<u8>,
    tell: watch::Sender<State>,
    pending: Pending,
) {
    let gone = loop {
        match next_answer(&mut buffer) {
            Err(bad) => break Gone::Protocol(bad),
            Ok(Some(Answer::Reply {
                request,
                ok,
                message,
            })) => {
                if let Some(waiting) = lock(&pending).remove(&request) {
                    // Who asked may have stopped waiting.
                    let _ = waiting.send(if ok { Ok(()) } else { Err(message) });
                }
            }
            Ok(Some(Answer::Written { length })) => {
                tell.send_modify(|state| state.written = state.written.max(length));
            }
            Ok(Some(Answer::Displaced { generation })) => break Gone::Displaced(generation),
            Ok(Some(_)) => break Gone::Protocol(Bad("an answer is out of order")),
            Ok(None) => match socket.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break Gone::Closed,
                Ok(_) => {}
            },
        }
    };
    tell.send_modify(|state| state.gone = Some(gone));
    lock(&pending).clear();
}
