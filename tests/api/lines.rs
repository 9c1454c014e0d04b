//! A stream of the daemon's, read as it comes, and left when one likes.

use crate::support::{TestEnv, WATCHDOG};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// The lines of an answer that comes in chunks.
pub struct Lines(std::io::Lines<BufReader<Chunks>>);

/// How events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON document a line.
    Ndjson,
    /// Server-sent events.
    Sse,
}

struct Chunks {
    inner: BufReader<UnixStream>,
    left: u64,
    over: bool,
}

impl Lines {
    /// Asks; `last` is the id of the last server-sent event that was seen.
    #[track_caller]
    pub fn open(env: &TestEnv, target: &str, form: Form, last: Option<&str>) -> Self {
        let mut stream = UnixStream::connect(env.home().join("run/cldpd.sock"))
            .expect("the daemon of this test listens");
        stream
            .set_read_timeout(Some(WATCHDOG))
            .expect("a socket has a timeout");
        let accept = match form {
            Form::Ndjson => "application/x-ndjson",
            Form::Sse => "text/event-stream",
        };
        let last = last.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: cldpd\r\naccept: {accept}\r\n{last}connection: close\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .expect("the daemon reads requests");
        let mut inner = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = inner.read_line(&mut head).expect("an answer");
            assert!(read > 0, "cut short: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.to_lowercase().contains("transfer-encoding: chunked"),
            "{head}"
        );
        let chunks = Chunks {
            inner,
            left: 0,
            over: false,
        };
        Self(BufReader::new(chunks).lines())
    }

    /// The next event; none after the proper end.
    #[track_caller]
    pub fn event(&mut self) -> Option<Value> {
        let event = self.said();
        assert!(
            event["error"].is_null() || !event["seq"].is_null(),
            "{event}"
        );
        (event["end"] != true).then_some(event)
    }

    /// What comes next, whatever it is.
    #[track_caller]
    pub fn said(&mut self) -> Value {
        loop {
            let line = self.0.next().expect("a proper end").expect("lines of text");
            let document = line.strip_prefix("data: ").unwrap_or(&line);
            if !document.starts_with('{') {
                // What else server-sent events consist of.
                assert!(
                    line.is_empty() || line.starts_with("id: ") || line.starts_with("event: "),
                    "{line}"
                );
                continue;
            }
            return serde_json::from_str(document).expect("JSON");
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 && !self.over {
            let mut size = String::new();
            self.inner.read_line(&mut size)?;
            // The end of the chunk before.
            if size == "\r\n" {
                continue;
            }
            self.left = u64::from_str_radix(size.trim(), 16)
                .map_err(|_| std::io::Error::other(format!("no chunk: {size:?}")))?;
            self.over = self.left == 0;
        }
        let read = self.inner.by_ref().take(self.left).read(buf)?;
        self.left -= read as u64;
        Ok(read)
    }
}
