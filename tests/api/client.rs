//! The smallest HTTP client over a Unix socket: nothing of the product's own.

use crate::support::{TestEnv, WATCHDOG};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Of the header `content-type`, without parameters.
    pub kind: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body as one JSON document for each line.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8_lossy(&self.body);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks the daemon of `env`, and reads the answer to its end.
#[track_caller]
pub fn ask(env: &TestEnv, method: &str, target: &str, body: Option<&Value>) -> Answer {
    ask_as(env, method, target, body, "*/*")
}

/// The same, with what is accepted.
#[track_caller]
pub fn ask_as(
    env: &TestEnv,
    method: &str,
    target: &str,
    body: Option<&Value>,
    accept: &str,
) -> Answer {
    let mut stream = UnixStream::connect(env.home().join("run/cldpd.sock"))
        .expect("the daemon of this test listens");
    stream
        .set_read_timeout(Some(WATCHDOG))
        .expect("a socket has a timeout");
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: cldpd\r\naccept: {accept}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .write_all(request.as_bytes())
        .expect("the daemon reads requests");
    read(stream)
}

fn read(stream: UnixStream) -> Answer {
    let mut reader = BufReader::new(stream);
    let line = |reader: &mut BufReader<UnixStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    };
    let first = line(&mut reader);
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no status: {first:?}"));
    let (mut kind, mut chunked) = (String::new(), false);
    loop {
        let header = line(&mut reader).to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-type:") {
            value
                .split(';')
                .next()
                .unwrap_or("")
                .trim()
                .clone_into(&mut kind);
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = Vec::new();
    if !chunked {
        reader.read_to_end(&mut body).expect("a body");
        return Answer { status, kind, body };
    }
    loop {
        let size = line(&mut reader);
        let size = u64::from_str_radix(&size, 16).unwrap_or_else(|e| panic!("{e}: {size:?}"));
        let taken = reader.by_ref().take(size).read_to_end(&mut body);
        taken.expect("a chunk");
        line(&mut reader);
        if size == 0 {
            return Answer { status, kind, body };
        }
    }
}
