//! One build: the context goes in, lines and an image come out.
//!
//! Each build has a thread and a small tokio runtime of its own. The client
//! serves BuildKit's session in a task that it never ends, and so keeps a
//! connection for each build ever made (seen with bollard 0.21: one descriptor
//! each); those tasks end with the runtime, and so does a build that is
//! cancelled.

use super::context::Context;
use super::engine::{Engine, Failure};
use super::flight::Log;
use super::labels;
use super::progress::Progress;
use crate::model::HomeId;
use crate::model::ids::{PodName, Ulid};
use crate::runtime::{Result, RuntimeError};
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// The archive travels in pieces of this size, at most [`IN_FLIGHT`] at once:
/// what a build holds of its context in memory is half a megabyte.
const PIECE: usize = 64 * 1024;
const IN_FLIGHT: usize = 8;
/// How much of the output a failure quotes.
const QUOTED_LINES: usize = 20;

/// What is to be built.
pub(super) struct Order {
    pub tag: String,
    pub digest: String,
    pub home: HomeId,
    pub pod: PodName,
    pub build_args: BTreeMap<String, String>,
    pub no_cache: bool,
    pub pull: bool,
    pub context: Context,
}

/// Builds, and returns the image's id. The engine stops when `cancel` says so.
pub(super) async fn run(
    engine: &Arc<Engine>,
    order: Order,
    log: &Arc<Log>,
    cancel: CancellationToken,
) -> Result<String> {
    let (done, result) = oneshot::channel();
    let tag = order.tag.clone();
    let spawned = std::thread::Builder::new()
        .name("cldpd-build".to_owned())
        .spawn({
            let engine = Arc::clone(engine);
            let log = Arc::clone(log);
            move || {
                // Nobody listens any more when the build was given up.
                let _ = done.send(on_this_thread(&engine, order, &log, &cancel));
            }
        });
    let failed = |cause: String| RuntimeError::Build { tag, cause };
    if let Err(error) = spawned {
        return Err(failed(format!("cannot start a thread for it: {error}")));
    }
    match result.await {
        Ok(result) => result,
        Err(_) => Err(failed("its thread ended without a result".to_owned())),
    }
}

fn on_this_thread(
    engine: &Engine,
    order: Order,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<String> {
    let failed = |cause: String| RuntimeError::Build {
        tag: order.tag.clone(),
        cause,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot start a runtime for it: {error}")))?;
    let cancelled = failed("it was cancelled".to_owned());
    let result = runtime.block_on(async {
        tokio::select! {
            () = cancel.cancelled() => Err(cancelled),
            result = build(engine, order, log) => result,
        }
    });
    runtime.shutdown_background();
    result
}

async fn build(engine: &Engine, order: Order, log: &Log) -> Result<String> {
    let tag = order.tag.clone();
    let options = options(engine, &order);
    let (pieces, body) = mpsc::channel::<io::Result<Vec<u8>>>(IN_FLIGHT);
    let archive = tokio::task::spawn_blocking(move || send_archive(&order.context, &pieces));
    let body = ReceiverStream::new(body).map(|piece| piece.map(Into::into));
    let mut messages =
        engine
            .client
            .build_image(options, None, Some(bollard::body_try_stream(body)));
    let mut progress = Progress::default();
    let mut end = Ok(());
    while let Some(message) = messages.next().await {
        match message {
            Ok(message) => {
                for line in progress.read(message) {
                    log.write(line).await;
                }
            }
            Err(error) => {
                end = Err(engine.failure(&error));
                break;
            }
        }
    }
    for line in progress.finish() {
        log.write(line).await;
    }
    match end {
        Ok(()) => Ok(progress.image().map_or(tag, str::to_owned)),
        Err(Failure::Refused { message, .. }) => Err(RuntimeError::Build {
            tag,
            cause: with_tail(message, log),
        }),
        Err(Failure::Unreachable(error)) => {
            // Closes the archive's channel, so that its thread ends.
            drop(messages);
            match archive.await {
                Ok(Err(cause)) => Err(RuntimeError::Build {
                    tag,
                    cause: cause.to_string(),
                }),
                Ok(Ok(())) | Err(_) => Err(error),
            }
        }
    }
}

fn options(engine: &Engine, order: &Order) -> BuildImageOptions {
    let labels = HashMap::from(
        [
            (labels::CONTEXT, order.digest.clone()),
            (labels::HOME, order.home.to_string()),
            (labels::POD, order.pod.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let args: HashMap<_, _> = order.build_args.clone().into_iter().collect();
    let mut options = BuildImageOptionsBuilder::new()
        .dockerfile("Dockerfile")
        .t(&order.tag)
        .buildargs(&args)
        .labels(&labels)
        .nocache(order.no_cache)
        .rm(true)
        .forcerm(true)
        .build();
    options.pull = order.pull.then(|| "1".to_owned());
    if engine.buildkit {
        options.version = BuilderVersion::BuilderBuildKit;
        options.session = Some(format!("cldpd-{}", Ulid::generate()));
    }
    options
}

/// What the builder said, and the end of its output: that is where the reason is.
fn with_tail(message: String, log: &Log) -> String {
    let mut text = message;
    for line in log.tail(QUOTED_LINES) {
        text.push_str("\n  ");
        text.push_str(&String::from_utf8_lossy(&line));
    }
    text
}

/// Sends the archive. Only what the context is to blame for is an error.
fn send_archive(context: &Context, pieces: &mpsc::Sender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let out = io::BufWriter::with_capacity(PIECE, Pieces { pieces });
    let Err(error) = context.archive(out) else {
        return Ok(());
    };
    // Breaks the request off: half an archive must not be taken for a whole one.
    let aborted = io::Error::from(io::ErrorKind::Interrupted);
    match pieces.blocking_send(Err(aborted)) {
        Ok(()) => Err(error),
        Err(_) => Ok(()),
    }
}

struct Pieces<'a> {
    pieces: &'a mpsc::Sender<io::Result<Vec<u8>>>,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes[..bytes.len().min(PIECE)].to_vec();
        let sent = piece.len();
        self.pieces
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
