//! Small servers on Unix sockets that answer every request with the same thing:
//! engines that are too old, daemons of another version, strangers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

/// A server that runs as long as the test process.
pub struct CannedServer;

impl CannedServer {
    /// Listens at `path` and answers with what `answer` makes of a request line.
    pub fn new(path: &Path, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("the socket can be bound");
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(&stream, &*answer));
            }
        });
        Self
    }
}

/// One HTTP answer that closes the connection.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ));
    text
}

fn serve(mut stream: &UnixStream, answer: &dyn Fn(&str) -> String) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        if first.is_empty() {
            line.trim_end().clone_into(&mut first);
        }
        line.clear();
    }
    if first.is_empty() {
        return;
    }
    // A client that does not wait for the answer is its own affair.
    let _ = stream.write_all(answer(&first).as_bytes());
}
