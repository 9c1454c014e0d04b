//! What a builder says, as lines of text.
//!
//! Both builders are read: the classic one sends text in pieces, BuildKit the
//! states and output of its steps. Lines come out whole, without colours and
//! without the build's secrets, and never longer than [`LONGEST`].

use super::pull::Layers;
use crate::runtime::shim::redact::Redactor;
use bollard::moby::buildkit::v1::{StatusResponse, Vertex};
use bollard::models::{BuildInfo, BuildInfoAux};
use std::collections::{HashMap, HashSet};

/// Longer lines are cut into pieces.
const LONGEST: usize = 64 * 1024;

/// Reads a builder's messages.
#[derive(Default)]
pub(super) struct Progress {
    image: Option<String>,
    text: LineBuffer,
    /// BuildKit's steps, by digest.
    steps: HashMap<String, Step>,
    /// Downloads and the like that were said to be finished.
    finished: HashSet<String>,
    layers: Layers,
    redactor: Redactor,
    classic: Classic,
}

struct Step {
    number: usize,
    announced: bool,
    ended: bool,
    output: [LineBuffer; 2],
}

impl Progress {
    /// Replaces what `redactor` knows.
    pub(super) fn new(redactor: Redactor) -> Self {
        Self {
            redactor,
            ..Self::default()
        }
    }

    /// A text of the builder's without secrets.
    pub(super) fn harmless(&self, text: &str) -> String {
        self.redactor.text(text)
    }

    /// The images that the classic builder made on its way, the last one too.
    pub(super) fn take_made(&mut self) -> Vec<String> {
        std::mem::take(&mut self.classic.made)
    }

    /// The image that was built, once the builder has said so.
    pub(super) fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// The lines that a message completes.
    pub(super) fn read(&mut self, message: BuildInfo) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        if let Some(text) = &message.stream {
            let from = lines.len();
            self.text.push(&self.redactor, text.as_bytes(), &mut lines);
            lines[from..]
                .iter()
                .for_each(|line| self.classic.read(line));
        }
        if let Some(status) = &message.status {
            let line = self.layers.line(message.id.as_deref(), status);
            lines.extend(line.map(String::into_bytes));
        }
        match message.aux {
            Some(BuildInfoAux::Default(image)) => self.image = image.id.or(self.image.take()),
            Some(BuildInfoAux::BuildKit(status)) => self.buildkit(status, &mut lines),
            None => {}
        }
        lines
    }

    /// What is left when the builder has ended.
    pub(super) fn finish(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        self.text.finish(&self.redactor, &mut lines);
        let mut steps: Vec<_> = self.steps.values_mut().collect();
        steps.sort_by_key(|step| step.number);
        for step in steps {
            step.finish(&self.redactor, &mut lines);
        }
        lines
    }

    fn buildkit(&mut self, status: StatusResponse, lines: &mut Vec<Vec<u8>>) {
        // A step's output may come with the message that ends it.
        let (ended, begun): (Vec<_>, Vec<_>) = status
            .vertexes
            .into_iter()
            .partition(|vertex| vertex.completed.is_some());
        for vertex in begun.iter().chain(&ended) {
            if vertex.started.is_some() || vertex.completed.is_some() {
                self.announce(vertex, lines);
            }
        }
        for log in status.logs {
            let step = step(&mut self.steps, &log.vertex);
            let prefix = format!("#{} ", step.number);
            let mut whole = Vec::new();
            let output = &mut step.output[usize::from(log.stream == 2)];
            output.push(&self.redactor, &log.msg, &mut whole);
            lines.extend(whole.into_iter().map(|line| prefixed(&prefix, &line)));
        }
        for item in status.statuses {
            if item.completed.is_some() && self.finished.insert(item.id.clone()) {
                let number = step(&mut self.steps, &item.vertex).number;
                lines.push(format!("#{number} {} done", item.id).into_bytes());
            }
        }
        for vertex in &ended {
            self.end(vertex, lines);
        }
    }

    fn announce(&mut self, vertex: &Vertex, lines: &mut Vec<Vec<u8>>) {
        let step = step(&mut self.steps, &vertex.digest);
        if !step.announced {
            step.announced = true;
            let name = self.redactor.text(&vertex.name);
            lines.push(format!("#{} {name}", step.number).into_bytes());
        }
    }

    fn end(&mut self, vertex: &Vertex, lines: &mut Vec<Vec<u8>>) {
        let step = step(&mut self.steps, &vertex.digest);
        if step.ended {
            return;
        }
        step.ended = true;
        step.finish(&self.redactor, lines);
        let number = step.number;
        let line = if !vertex.error.is_empty() {
            format!("#{number} ERROR: {}", self.redactor.text(&vertex.error))
        } else if vertex.cached {
            format!("#{number} CACHED")
        } else {
            format!("#{number} DONE {:.1}s", seconds(vertex))
        };
        lines.push(line.into_bytes());
    }
}

fn step<'a>(steps: &'a mut HashMap<String, Step>, digest: &str) -> &'a mut Step {
    let number = steps.len() + 1;
    steps.entry(digest.to_owned()).or_insert_with(|| Step {
        number,
        announced: false,
        ended: false,
        output: Default::default(),
    })
}

impl Step {
    fn finish(&mut self, redactor: &Redactor, lines: &mut Vec<Vec<u8>>) {
        let prefix = format!("#{} ", self.number);
        let mut rest = Vec::new();
        for output in &mut self.output {
            output.finish(redactor, &mut rest);
        }
        lines.extend(rest.into_iter().map(|line| prefixed(&prefix, &line)));
    }
}

fn prefixed(prefix: &str, line: &[u8]) -> Vec<u8> {
    [prefix.as_bytes(), line].concat()
}

fn seconds(vertex: &Vertex) -> f64 {
    let (Some(from), Some(to)) = (&vertex.started, &vertex.completed) else {
        return 0.0;
    };
    let whole = i32::try_from(to.seconds - from.seconds).unwrap_or(0);
    (f64::from(whole) + f64::from(to.nanos - from.nanos) / 1e9).max(0.0)
}

/// What the classic builder says of the images that it makes, step by step.
#[derive(Default)]
struct Classic {
    made: Vec<String>,
    /// This step's image was there before.
    found: bool,
}

impl Classic {
    fn read(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        if let Some(step) = line.strip_prefix("Step ") {
            let instruction = step.split(" : ").nth(1).unwrap_or_default();
            let word = instruction.split_whitespace().next().unwrap_or_default();
            self.found = word.eq_ignore_ascii_case("from");
        }
        let Some(result) = line.strip_prefix(" ---> ") else {
            return;
        };
        if result == "Using cache" {
            self.found = true;
        }
        let id = result.len() == 12 && result.bytes().all(|b| b.is_ascii_hexdigit());
        if id && !self.found {
            self.made.push(result.to_owned());
        }
    }
}

/// Puts lines together from pieces.
#[derive(Default)]
struct LineBuffer {
    open: Vec<u8>,
    /// What may yet turn out to be a secret.
    held: Vec<u8>,
}

impl LineBuffer {
    fn push(&mut self, redactor: &Redactor, bytes: &[u8], lines: &mut Vec<Vec<u8>>) {
        let mut harmless = Vec::new();
        redactor.feed(&mut self.held, bytes, false, &mut harmless);
        self.split(&harmless, lines);
    }

    fn finish(&mut self, redactor: &Redactor, lines: &mut Vec<Vec<u8>>) {
        let mut harmless = Vec::new();
        redactor.feed(&mut self.held, &[], true, &mut harmless);
        self.split(&harmless, lines);
        self.flush(lines);
    }

    fn split(&mut self, bytes: &[u8], lines: &mut Vec<Vec<u8>>) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.open.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.open.len() >= LONGEST {
                self.flush(lines);
            }
        }
    }

    fn flush(&mut self, lines: &mut Vec<Vec<u8>>) {
        if self.open.is_empty() {
            return;
        }
        let mut line = plain(&std::mem::take(&mut self.open));
        if line.is_empty() {
            return; // Colours, and nothing coloured.
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        if line.len() <= LONGEST {
            lines.push(line);
            return;
        }
        lines.extend(line.chunks(LONGEST).map(<[u8]>::to_vec));
    }
}

/// Without terminal escapes: the classic builder colours what went to standard error.
fn plain(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != 0x1b {
            out.push(byte);
            continue;
        }
        if rest.next_if_eq(&b'[').is_some() {
            // Parameters up to the final byte.
            for byte in rest.by_ref() {
                if (0x40..=0x7e).contains(&byte) {
                    break;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::moby::buildkit::v1::VertexLog;
    use bollard::models::ImageId;

    fn text(lines: Vec<Vec<u8>>) -> Vec<String> {
        lines
            .into_iter()
            .map(|line| String::from_utf8(line).unwrap())
            .collect()
    }

    fn stream(text: &str) -> BuildInfo {
        BuildInfo {
            stream: Some(text.to_owned()),
            ..BuildInfo::default()
        }
    }

    #[test]
    fn the_classic_builders_pieces_become_lines() {
        let mut progress = Progress::default();
        let mut all = progress.read(stream("Step 1/2 : FROM scratch"));
        assert!(all.is_empty());
        all.extend(progress.read(stream("\n")));
        all.extend(progress.read(stream("\u{1b}[91moops\n\u{1b}[0m")));
        all.extend(progress.read(stream("out\nopen")));
        all.extend(progress.finish());
        assert_eq!(
            text(all),
            ["Step 1/2 : FROM scratch", "oops", "out", "open"]
        );
        progress.read(BuildInfo {
            aux: Some(BuildInfoAux::Default(ImageId {
                id: Some("sha256:1".to_owned()),
            })),
            ..BuildInfo::default()
        });
        assert_eq!(progress.image(), Some("sha256:1"));
    }

    #[test]
    fn buildkits_steps_are_numbered_and_end_once() {
        let vertex = |started: bool, completed: bool| {
            let mut vertex = Vertex {
                digest: "d".to_owned(),
                name: "[1/1] RUN it".to_owned(),
                ..Vertex::default()
            };
            vertex.started = started.then(Default::default);
            vertex.completed = completed.then(Default::default);
            vertex
        };
        let trace = |vertex: Option<Vertex>, log: Option<&str>| BuildInfo {
            aux: Some(BuildInfoAux::BuildKit(StatusResponse {
                vertexes: vertex.into_iter().collect(),
                logs: log
                    .map(|text| VertexLog {
                        vertex: "d".to_owned(),
                        stream: 1,
                        msg: text.as_bytes().to_vec(),
                        ..VertexLog::default()
                    })
                    .into_iter()
                    .collect(),
                ..StatusResponse::default()
            })),
            ..BuildInfo::default()
        };
        let mut progress = Progress::default();
        let mut all = progress.read(trace(Some(vertex(false, false)), None));
        assert!(all.is_empty());
        all.extend(progress.read(trace(Some(vertex(true, false)), None)));
        all.extend(progress.read(trace(None, Some("one\ntw"))));
        all.extend(progress.read(trace(None, Some("o"))));
        all.extend(progress.read(trace(Some(vertex(true, true)), None)));
        all.extend(progress.read(trace(Some(vertex(true, true)), None)));
        assert_eq!(
            text(all),
            ["#1 [1/1] RUN it", "#1 one", "#1 two", "#1 DONE 0.0s"]
        );
    }

    #[test]
    fn a_secret_is_replaced_however_it_comes() {
        let mut redactor = Redactor::default();
        redactor.add(b"NPM", b"hunter2-hunter2");
        let mut progress = Progress::new(redactor);
        let mut all = progress.read(stream("a hunter2-"));
        all.extend(progress.read(stream("hunter2 b\nhunter2-hunt")));
        all.extend(progress.finish());
        assert_eq!(text(all), ["a [redacted:NPM] b", "hunter2-hunt"]);
    }

    #[test]
    fn what_the_classic_builder_makes_is_told_from_what_it_finds() {
        let mut progress = Progress::default();
        progress.read(stream(
            "Step 1/4 : FROM base\n ---> aaaaaaaaaaaa\n\
             Step 2/4 : RUN x\n ---> Using cache\n ---> bbbbbbbbbbbb\n\
             Step 3/4 : RUN y\n ---> Running in cccccccccccc\n ---> dddddddddddd\n\
             Step 4/4 : from other\n ---> eeeeeeeeeeee\n",
        ));
        assert_eq!(progress.take_made(), ["dddddddddddd"]);
    }
}
