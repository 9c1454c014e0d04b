//! A daemon that answers what a test tells it to, in order.

use super::{Client, Home, Launcher, VERSION};
use crate::block::{Encoder, event_ref};
use crate::model::api::VERSION_HEADER;
use crate::model::{Error, ErrorCode, Event, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// What a request is met with.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The connection is closed.
    Break,
    /// An answer with a body.
    Body {
        status: u16,
        version: Option<&'static str>,
        body: Vec<u8>,
    },
}

impl Answer {
    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        Self::body(200, serde_json::to_string(value).unwrap_or_default())
    }

    pub(crate) fn error(status: u16, error: &Error) -> Self {
        Self::body(status, serde_json::to_string(error).unwrap_or_default())
    }

    pub(crate) fn stream(parts: &[&str]) -> Self {
        Self::body(200, parts.concat())
    }

    pub(crate) fn bytes(parts: &[&[u8]]) -> Self {
        Self::body(200, parts.concat())
    }

    fn body(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::Body {
            status,
            version: Some(VERSION),
            body,
        }
    }

    pub(crate) fn version(mut self, other: &'static str) -> Self {
        if let Self::Body { version, .. } = &mut self {
            *version = Some(other);
        }
        self
    }

    pub(crate) fn no_version(mut self) -> Self {
        if let Self::Body { version, .. } = &mut self {
            *version = None;
        }
        self
    }
}

/// A line of an event stream.
pub(crate) fn event(seq: u64) -> String {
    format!(
        "{{\"session\":\"mypod-00000001\",\"ulid\":\"00000000000000000000000001\",\"seq\":{seq},\
         \"run\":0,\"time\":\"2026-01-01T00:00:00Z\",\"kind\":\"output\",\
         \"stream\":\"stdout\",\"data\":\"line {seq}\"}}\n"
    )
}

/// One block, with the events that [`event`] has under these numbers.
pub(crate) fn block(seqs: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for event in seqs.filter_map(|seq| serde_json::from_str::<Event>(&event(seq)).ok()) {
        encoder.push(event_ref(&event, b""));
    }
    encoder.finish().remove(0).bytes
}

pub(crate) fn runtime_error(e: std::io::Error) -> Error {
    Error::new(ErrorCode::Internal, e.to_string())
}

/// A request that came: its first line without the protocol, and its body.
type Seen = Vec<(String, String)>;

/// A running one; it ends with its runtime.
pub(crate) struct Server {
    home: Home,
    seen: Arc<Mutex<Seen>>,
    _dir: TempDir,
}

impl Server {
    /// Gives these answers, in order, and then none.
    pub(crate) fn start(answers: impl IntoIterator<Item = Answer>) -> Result<Self> {
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        Self::answering(move |_| answers.pop_front().unwrap_or(Answer::Break))
    }

    /// Answers each request as `answer` says.
    pub(crate) fn answering(
        mut answer: impl FnMut(&str) -> Answer + Send + 'static,
    ) -> Result<Self> {
        let dir = tempfile::tempdir().map_err(runtime_error)?;
        let home = Home::new(dir.path())?;
        std::fs::create_dir_all(home.run()).map_err(runtime_error)?;
        let listener = UnixListener::bind(home.socket()).map_err(runtime_error)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A connection that is only looked at gets no answer.
                let _ = serve(stream, &mut answer, &log).await;
            }
        });
        Ok(Self {
            home,
            seen,
            _dir: dir,
        })
    }

    /// Its home.
    pub(crate) const fn home(&self) -> &Home {
        &self.home
    }

    /// A client that starts no daemon.
    pub(crate) fn client(&self) -> Client {
        Client::unchecked(&self.home, None)
    }

    /// A client that may start one.
    pub(crate) fn launching(&self, launcher: Launcher) -> Client {
        Client::unchecked(&self.home, Some(launcher))
    }

    /// The first lines of the requests that came, without the protocol.
    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(line, _)| line.clone()).collect()
    }

    /// The bodies of the requests whose first line ends with `end`.
    pub(crate) fn bodies(&self, end: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = seen.iter().filter(|(line, _)| line.ends_with(end));
        wanted.map(|(_, body)| body.clone()).collect()
    }
}

async fn serve(
    stream: UnixStream,
    answer: &mut impl FnMut(&str) -> Answer,
    log: &Mutex<Seen>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(());
    }
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let request = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((request.clone(), String::from_utf8_lossy(&body).into_owned()));
    let Answer::Body {
        status,
        version,
        body,
    } = answer(&request)
    else {
        return Ok(());
    };
    let version = version.map_or(String::new(), |v| format!("{VERSION_HEADER}: {v}\r\n"));
    let head = format!(
        "HTTP/1.1 {status} Status\r\n{version}transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if !body.is_empty() {
        let length = format!("{:x}\r\n", body.len());
        let chunk = [length.as_bytes(), &body, b"\r\n"].concat();
        stream.write_all(&chunk).await?;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    stream.shutdown().await
}
