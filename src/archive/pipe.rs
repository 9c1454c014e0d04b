//! Between blocking readers and writers, and asynchronous streams.
//!
//! A few chunks are on their way at most; who is faster waits.

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use std::io::{self, BufWriter, Read, Write};
use tokio::sync::mpsc;
use tokio_util::bytes::{Buf as _, Bytes};

/// Bytes on their way. An error is the last item.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Bytes of one chunk.
const CHUNK: usize = 64 * 1024;
/// Chunks on their way.
const UNDERWAY: usize = 4;

/// Runs `work` on a thread of its own, and gives what it writes. When nobody
/// wants that any more its writes fail.
pub fn produce(work: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Chunks {
    let (sender, receiver) = mpsc::channel(UNDERWAY);
    tokio::task::spawn_blocking(move || {
        let mut writer = BufWriter::with_capacity(CHUNK, Sender(sender.clone()));
        let done = work(&mut writer).and_then(|()| writer.flush());
        // What is left is of a failed archive, or there is nobody to take it.
        let _ = writer.into_parts();
        if let Err(error) = done {
            let _ = sender.blocking_send(Err(error));
        }
    });
    stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    })
    .boxed()
}

/// Passes a stream through `work`, on a thread of its own.
pub fn transform(
    chunks: Chunks,
    work: impl FnOnce(&mut dyn Read, &mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Chunks {
    let (sender, receiver) = mpsc::channel(UNDERWAY);
    tokio::spawn(feed(chunks, sender));
    produce(move |to| {
        let mut from = Receiver {
            receiver,
            rest: Bytes::new(),
        };
        work(&mut from, to)
    })
}

async fn feed(mut chunks: Chunks, sender: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(chunk) = chunks.next().await {
        if sender.send(chunk).await.is_err() {
            // It has what it wants, or has failed.
            return;
        }
    }
}

/// Runs `work` on a thread of its own, which reads what comes.
///
/// # Errors
/// What `work` says; it is told of an error of the stream's by its reader.
pub async fn consume<T: Send + 'static>(
    chunks: Chunks,
    work: impl FnOnce(&mut dyn Read) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel(UNDERWAY);
    let working = tokio::task::spawn_blocking(move || {
        work(&mut Receiver {
            receiver,
            rest: Bytes::new(),
        })
    });
    feed(chunks, sender).await;
    working.await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

struct Sender(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Receiver {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
