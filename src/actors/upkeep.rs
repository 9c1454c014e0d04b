//! Looking after the journal while work goes on.

use super::handle::{Handle, blocking, detached};
use super::search::give_way;
use crate::model::api::{Imported, VerifyEvent};
use crate::model::{Error, ErrorCode, Result, Timestamp, Ulid};
use crate::store::{Head, Import};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use tokio::sync::{mpsc, oneshot};

/// Findings waiting for a slow reader; the one who looks waits beyond.
const FINDINGS: usize = 64;
/// Pieces of an export waiting for a slow reader.
const PIECES: usize = 4;
/// A piece of an export has so many bytes, or one line more.
const PIECE: usize = 64 * 1024;

/// A look through the journal. Dropping it ends it.
pub struct Verification {
    found: mpsc::Receiver<Result<VerifyEvent>>,
}

/// The pieces of an export. Dropping it ends it.
pub type Chunks = mpsc::Receiver<io::Result<Vec<u8>>>;

impl Handle {
    /// Looks through the whole journal, on a thread of its own.
    ///
    /// # Errors
    /// `try_later` while somebody else does.
    pub fn verify_journal(&self) -> Result<Verification> {
        let turn = self.looks.clone().try_lock_owned().map_err(|_| {
            let message = "somebody looks through the journal already";
            Error::new(ErrorCode::TryLater, message).hint("try again when that has ended")
        })?;
        let (sender, found) = mpsc::channel(FINDINGS);
        let reader = self.shared.reader.clone();
        aside(move || {
            let _turn = turn;
            let gone = || sender.is_closed();
            let done = reader.verify(&gone, &mut |event| match sender.blocking_send(Ok(event)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            if let Err(error) = done {
                // Whoever asked may be gone.
                let _ = sender.blocking_send(Err(Error::from(error)));
            }
        })?;
        Ok(Verification { found })
    }

    /// Writes sessions down, those that are named or all, on a thread of its own.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`.
    pub fn export_journal(&self, named: &[String]) -> Result<Chunks> {
        let of: Vec<Ulid> = named
            .iter()
            .map(|name| match name.parse::<Ulid>() {
                // A damaged one has no other name.
                Ok(ulid) => Ok(ulid),
                Err(_) => self.shared.directory.resolve(name),
            })
            .collect::<Result<_>>()?;
        let of = (!named.is_empty()).then_some(of);
        let (sender, chunks) = mpsc::channel(PIECES);
        let reader = self.shared.reader.clone();
        let head = Head::new(self.shared.home, Timestamp::now());
        tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            let done = reader.export(&head, of.as_deref(), &mut |line| {
                piece.extend_from_slice(line);
                if piece.len() < PIECE {
                    return ControlFlow::Continue(());
                }
                match sender.blocking_send(Ok(std::mem::take(&mut piece))) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            });
            let last = done.map(|_| piece).map_err(io::Error::other);
            // Whoever asked may be gone.
            let _ = sender.blocking_send(last);
        });
        Ok(chunks)
    }

    /// Takes in the sessions of an export. Goes on if the caller leaves.
    ///
    /// # Errors
    /// `journal_damaged`, with the line, for what is no whole export; `refused`
    /// when a session is here already and differs. Nothing is recorded then.
    pub async fn import_journal(&self, file: File) -> Result<Imported> {
        let this = self.clone();
        detached(async move { this.import_now(file).await }).await
    }

    async fn import_now(&self, file: File) -> Result<Imported> {
        // One at a time: what is here is looked at before.
        let _turn = self.imports.lock().await;
        let (reader, home) = (self.shared.reader.clone(), self.shared.home);
        let (sender, checked) = oneshot::channel();
        aside(move || {
            // The daemon may be leaving.
            let _ = sender.send(Import::check(file, &reader, home));
        })?;
        let mut import = checked.await.map_err(|_| broken())??;
        loop {
            let read = blocking(move || import.batch().map(|batch| (batch, import)));
            let (batch, rest) = read.await?;
            import = rest;
            let Some(batch) = batch else {
                return Ok(import.report);
            };
            let record = batch.record().cloned();
            self.shared.journal.import(batch).await?;
            if let Some(record) = record {
                self.shared.directory.put(&record);
            }
        }
    }
}

/// Does `work` on a thread of its own, which gives way to others.
fn aside(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("upkeep".to_owned());
    let spawned = thread.spawn(move || {
        give_way();
        work();
    });
    spawned.map(drop).map_err(|error| {
        let message = format!("cannot make a thread: {error}");
        Error::new(ErrorCode::Internal, message)
    })
}

fn broken() -> Error {
    Error::new(ErrorCode::Internal, "the look at the export broke off")
}

impl Verification {
    /// What is found next; none at the end, which [`VerifyEvent::Verified`] told.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn next(&mut self) -> Result<Option<VerifyEvent>> {
        self.found.recv().await.transpose()
    }
}
