//! As much of HTTP/1.1 as the agents use.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

/// A request longer than this is none of an agent's.
const BODY_MAX: u64 = 256 << 20;

/// A request.
pub struct Request {
    pub method: String,
    /// With what follows a question mark.
    pub target: String,
    pub body: Vec<u8>,
}

/// A client's connection.
pub struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let writer = stream.try_clone()?;
        Ok(Self {
            reader: BufReader::new(stream),
            writer,
        })
    }

    /// The next request; none when the client has left.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let (mut length, mut chunked) = (0, false);
        loop {
            let mut header = String::new();
            self.reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else {
                break;
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    length = value.parse().map_err(|_| bad("a content length"))?;
                }
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "expect" => self.writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
                _ => {}
            }
        }
        let body = if chunked {
            self.chunks()?
        } else {
            self.exactly(length)?
        };
        Ok(Some(Request {
            method,
            target,
            body,
        }))
    }

    fn exactly(&mut self, length: u64) -> io::Result<Vec<u8>> {
        if length > BODY_MAX {
            return Err(bad("a body of that size"));
        }
        let mut body = Vec::new();
        (&mut self.reader).take(length).read_to_end(&mut body)?;
        Ok(body)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(|_| bad("a chunk"))?;
            body.extend(self.exactly(size)?);
            self.reader.read_line(&mut String::new())?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// A whole answer.
    pub fn answer(&mut self, status: u16, kind: &str, body: &str) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status} As Scripted\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.writer.write_all(format!("{head}{body}").as_bytes())
    }

    /// Begins an answer that comes in events.
    pub fn begin_events(&mut self) -> io::Result<()> {
        self.writer.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
              transfer-encoding: chunked\r\n\r\n",
        )
    }

    /// One event.
    pub fn event(&mut self, name: Option<&str>, data: &str) -> io::Result<()> {
        let name = name
            .map(|name| format!("event: {name}\n"))
            .unwrap_or_default();
        let event = format!("{name}data: {data}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        self.writer.write_all(chunk.as_bytes())
    }

    /// No events will follow.
    pub fn end_events(&mut self) -> io::Result<()> {
        self.writer.write_all(b"0\r\n\r\n")
    }

    /// Holds until the client leaves.
    pub fn hold(&mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink()).map(|_| ())
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{what} cannot be read"))
}
