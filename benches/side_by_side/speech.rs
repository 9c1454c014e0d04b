//! Texts as agents and programs write them, the same each time, of any length.
//! What the journal makes of them on disk is looked at in tests, too.

use std::io;
use std::path::Path;

/// A stream of numbers, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Characters that nothing can be known of.
    fn id(&mut self, len: usize) -> String {
        const DIGITS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        (0..len)
            .map(|_| char::from(DIGITS[self.roll(DIGITS.len() as u64) as usize]))
            .collect()
    }

    fn uuid(&mut self) -> String {
        let hex = |dice: &mut Self, len| -> String {
            (0..len)
                .map(|_| char::from(b"0123456789abcdef"[dice.roll(16) as usize]))
                .collect()
        };
        [8, 4, 4, 4, 12].map(|len| hex(self, len)).join("-")
    }

    fn pick<'a>(&mut self, of: &'a [String]) -> &'a str {
        &of[self.roll(of.len() as u64) as usize]
    }
}

/// What there is to be read and said: our own sources, and what is written
/// about them.
pub struct Library {
    sources: Vec<String>,
    paragraphs: Vec<String>,
    names: Vec<String>,
}

impl Library {
    pub fn new() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |dir: &str, kind: &str| -> io::Result<Vec<String>> {
            let entries = std::fs::read_dir(root.join(dir))?;
            let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
            let mut paths = paths?;
            paths.retain(|path| path.extension().is_some_and(|found| found == kind));
            paths.sort();
            paths.iter().map(std::fs::read_to_string).collect()
        };
        let mut sources = read("src/store", "rs")?;
        sources.extend(read("src/actors", "rs")?);
        sources.extend(read("src/model", "rs")?);
        let guide = read("docs/guide", "md")?.join("\n\n");
        let names = sources.iter().flat_map(|text| text.lines());
        let names = names.filter_map(|line| line.trim().strip_prefix("fn ")?.split('(').next());
        Ok(Self {
            names: names.map(str::to_owned).collect(),
            paragraphs: guide.split("\n\n").map(str::to_owned).collect(),
            sources,
        })
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What Claude Code writes with `--output-format stream-json`: texts, uses of
/// tools, and what they gave, which it writes twice.
pub fn agent_stream(library: &Library, seed: u64, bytes: usize) -> Vec<String> {
    let dice = &mut Dice(seed);
    let session = dice.uuid();
    let tail = |dice: &mut Dice| {
        format!(
            "\"parent_tool_use_id\":null,\"session_id\":\"{session}\",\"uuid\":\"{}\",\
             \"timestamp\":\"2026-01-01T{:02}:{:02}:{:02}.{:03}Z\",\"request_id\":\"req_{}\"}}",
            dice.uuid(),
            dice.roll(24),
            dice.roll(60),
            dice.roll(60),
            dice.roll(1000),
            dice.id(24),
        )
    };
    let mut lines = Vec::new();
    let mut written = 0;
    while written < bytes {
        let message = dice.id(24);
        let usage = format!(
            "\"usage\":{{\"input_tokens\":{},\"cache_creation_input_tokens\":{},\
             \"cache_read_input_tokens\":{},\"output_tokens\":{},\"service_tier\":\"standard\"}}",
            dice.roll(10),
            dice.roll(5000),
            dice.roll(90_000),
            dice.roll(900),
        );
        let said = |content: String| {
            format!(
                "{{\"type\":\"assistant\",\"message\":{{\"id\":\"msg_{message}\",\"type\":\"message\",\
                 \"role\":\"assistant\",\"model\":\"claude-opus-5-5\",\"content\":[{content}],\
                 \"stop_reason\":null,\"stop_sequence\":null,{usage}}},"
            )
        };
        let text = quoted(dice.pick(&library.paragraphs));
        lines.push(said(format!("{{\"type\":\"text\",\"text\":{text}}}")) + &tail(dice));
        let tool = dice.id(24);
        let source: Vec<&str> = dice.pick(&library.sources).lines().collect();
        let count = (10 + dice.roll(70) as usize).min(source.len());
        let from = dice.roll((source.len() - count + 1) as u64) as usize;
        lines.push(
            said(format!(
                "{{\"type\":\"tool_use\",\"id\":\"toolu_{tool}\",\"name\":\"Read\",\"input\":\
                 {{\"file_path\":\"/workspace/src/store/{}.rs\",\"offset\":{from},\"limit\":{count}}}}}",
                dice.pick(&library.names)
            )) + &tail(dice),
        );
        let shown = source[from..from + count].join("\n");
        let numbered = source[from..from + count].iter().zip(from + 1..);
        let numbered: String = numbered
            .map(|(line, n)| format!("{n:6}\t{line}\n"))
            .collect();
        lines.push(format!(
            "{{\"type\":\"user\",\"message\":{{\"role\":\"user\",\"content\":[{{\"tool_use_id\":\
             \"toolu_{tool}\",\"type\":\"tool_result\",\"content\":{}}}]}},\"tool_use_result\":\
             {{\"type\":\"text\",\"file\":{{\"content\":{},\"numLines\":{count}}}}},{}",
            quoted(&numbered),
            quoted(&shown),
            tail(dice)
        ));
        written += lines.iter().rev().take(3).map(String::len).sum::<usize>();
    }
    lines
}

/// What a run of tests prints.
pub fn plain_lines(library: &Library, seed: u64, bytes: usize) -> Vec<String> {
    let dice = &mut Dice(seed);
    let mut lines = Vec::new();
    let mut written = 0;
    while written < bytes {
        let name = dice.pick(&library.names);
        let (whole, part) = (dice.roll(3), dice.roll(1000));
        let line = format!("test store::tests::{name} ... ok <{whole}.{part:03}s>");
        written += line.len() + 1;
        lines.push(line);
    }
    lines
}
