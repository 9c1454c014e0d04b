//! One build: the context goes in, lines and an image come out.
//!
//! BuildKit asks over the build's session for what is secret; the classic
//! builder is told in a header what registries want to know, and knows no
//! build secrets.

use super::context::Context;
use super::credentials;
use super::engine::{Engine, Failure};
use super::flight::Log;
use super::image::Images;
use super::labels;
use super::progress::Progress;
use super::session::Session;
use crate::model::HomeId;
use crate::model::ids::PodName;
use crate::runtime::shim::redact::Redactor;
use crate::runtime::{Result, RuntimeError};
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// The archive travels in pieces of this size, at most [`IN_FLIGHT`] at once:
/// what a build holds of its context in memory is half a megabyte.
const PIECE: usize = 64 * 1024;
const IN_FLIGHT: usize = 8;
/// How much of the output a failure quotes.
const QUOTED_LINES: usize = 20;
/// Shorter secrets would be found everywhere, and are left as they are.
const REDACT_MIN: usize = 8;
/// How often the classic builder may stumble over images that go meanwhile.
const STUMBLES: usize = 8;

/// What is to be built.
pub(super) struct Order {
    pub tag: String,
    pub digest: String,
    pub home: HomeId,
    pub pod: PodName,
    pub build_args: BTreeMap<String, String>,
    /// Known to every builder, and part of no image and no cache.
    pub proxy: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub no_cache: bool,
    pub pull: bool,
    pub context: Arc<Context>,
}

/// Builds, and returns the image's id. The engine stops when `cancel` says so.
pub(super) async fn run(
    engine: &Engine,
    images: &Images,
    order: Order,
    log: &Log,
    cancel: CancellationToken,
) -> Result<String> {
    let tag = order.tag.clone();
    let failed = |cause: String| RuntimeError::Build { tag, cause };
    let buildkit = engine.buildkit && !images.classic;
    if let Some(name) = order.secrets.keys().next()
        && !buildkit
    {
        let why = match images.classic {
            true => "DOCKER_BUILDKIT of the daemon's environment turns it off",
            false => "this engine has none",
        };
        return Err(failed(format!(
            "the build secret \"{name}\" needs BuildKit, and {why}"
        )));
    }
    // Dropping what is under way is what ends it: the connections are closed.
    tokio::select! {
        () = cancel.cancelled() => Err(failed("it was cancelled".to_owned())),
        result = persist(engine, images, &order, buildkit, log) => result,
    }
}

/// Builds, again where the classic builder broke off because of an image that is
/// not this build's: it looks for what it has in its cache among all images, and
/// gives up when one of them is removed while it looks.
async fn persist(
    engine: &Engine,
    images: &Images,
    order: &Order,
    buildkit: bool,
    log: &Log,
) -> Result<String> {
    let mut left = STUMBLES;
    loop {
        let result = build(engine, images, order, buildkit, log).await;
        let stumbled = !buildkit && result.as_ref().is_err_and(of_a_vanished_image);
        if !stumbled || left == 0 {
            return result;
        }
        left -= 1;
        let line = b"an image went while the builder looked at it: once more".to_vec();
        log.write(line).await;
    }
}

fn of_a_vanished_image(error: &RuntimeError) -> bool {
    // What a Dockerfile names is never an id that the builder found by itself.
    matches!(error, RuntimeError::Build { cause, .. } if cause.starts_with("unable to find image \"sha256:"))
}

async fn build(
    engine: &Engine,
    images: &Images,
    order: &Order,
    buildkit: bool,
    log: &Log,
) -> Result<String> {
    let tag = order.tag.clone();
    let failed = |cause: String| RuntimeError::Build {
        tag: tag.clone(),
        cause,
    };
    let mut options = options(order);
    let redactor = redactor(order);
    let mut session = None;
    let mut header = None;
    if buildkit {
        let credentials = images.credentials.clone();
        let opened = Session::open(engine, order.secrets.clone(), credentials).await;
        let opened = opened.map_err(|failure| match failure {
            Failure::Refused { message, .. } => failed(message),
            Failure::Unreachable(error) => error,
        })?;
        options.session = Some(opened.id().to_owned());
        session = Some(opened);
    } else {
        let known = images.credentials.all().await;
        header = (!known.is_empty()).then(|| credentials::header(&known));
    }
    let client = client(engine, buildkit, header);
    let (pieces, body) = mpsc::channel::<io::Result<Vec<u8>>>(IN_FLIGHT);
    let context = Arc::clone(&order.context);
    let archive = tokio::task::spawn_blocking(move || send_archive(&context, &pieces));
    let body = ReceiverStream::new(body).map(|piece| piece.map(Into::into));
    let mut messages = client.build_image(options, None, Some(bollard::body_try_stream(body)));
    let mut made = Made {
        images,
        pod: &order.pod,
        progress: Progress::new(redactor),
    };
    let mut end = Ok(());
    while let Some(message) = messages.next().await {
        match message {
            Ok(message) => {
                for line in made.progress.read(message) {
                    log.write(line).await;
                }
            }
            Err(error) => {
                end = Err(engine.failure(&error));
                break;
            }
        }
    }
    for line in made.progress.finish() {
        log.write(line).await;
    }
    drop(session);
    match end {
        Ok(()) => Ok(made.progress.image().map_or(tag, str::to_owned)),
        Err(Failure::Refused { message, .. }) => {
            Err(failed(with_tail(made.progress.harmless(&message), log)))
        }
        Err(Failure::Unreachable(error)) => {
            // Closes the archive's channel, so that its thread ends.
            drop(messages);
            match archive.await {
                Ok(Err(cause)) => Err(failed(cause.to_string())),
                Ok(Ok(())) | Err(_) => Err(error),
            }
        }
    }
}

/// Sees to it that what a builder made on its way is known, also of a build that
/// was given up.
struct Made<'a> {
    images: &'a Images,
    pod: &'a PodName,
    progress: Progress,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let made = self.progress.take_made();
        self.images.ledger.add_steps(self.pod, made);
    }
}

/// What must not be seen in the output.
fn redactor(order: &Order) -> Redactor {
    let mut redactor = Redactor::default();
    let mut hide = |name: &str, value: &[u8]| {
        if value.len() >= REDACT_MIN {
            redactor.add(name.as_bytes(), value);
        }
    };
    for (name, value) in &order.secrets {
        // Without the line's end that a file has: a shell drops it.
        hide(name, value.trim_ascii_end());
    }
    for (name, url) in &order.proxy {
        let user = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let password = user
            .rsplit_once('@')
            .and_then(|(user, _)| user.split_once(':'));
        if let Some((_, password)) = password {
            hide(name, password.as_bytes());
        }
    }
    redactor
}

/// A client for this build.
///
/// The version of the builder and the credentials are put into the request
/// here: asked for BuildKit, bollard would open a session of its own, and
/// credentials it encodes in a way that the engine does not always read.
fn client(engine: &Engine, buildkit: bool, header: Option<String>) -> bollard::Docker {
    engine
        .client
        .clone()
        .with_request_modifier(move |mut request| {
            let uri = request.uri().to_string();
            if buildkit && let Ok(uri) = uri.replacen("version=1", "version=2", 1).parse() {
                *request.uri_mut() = uri;
            }
            if let Some(Ok(value)) = header.as_ref().map(|header| header.parse()) {
                request.headers_mut().insert("x-registry-config", value);
            }
            request
        })
}

fn options(order: &Order) -> BuildImageOptions {
    let labels = HashMap::from(
        [
            (labels::CONTEXT, order.digest.clone()),
            (labels::HOME, order.home.to_string()),
            (labels::POD, order.pod.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    // What the pod says goes before what the caller's environment says.
    let mut args: HashMap<_, _> = order.proxy.clone().into_iter().collect();
    args.extend(order.build_args.clone());
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
    // A proxy of this machine's own has that name in containers, in those of builds too.
    let own = |url: &String| url.contains("host.docker.internal");
    options.extrahosts = order
        .proxy
        .values()
        .any(own)
        .then(|| "host.docker.internal:host-gateway".to_owned());
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
