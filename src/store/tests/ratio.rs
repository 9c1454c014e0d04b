//! What recorded output takes on disk, on what agents really say.

use super::super::space::allocated;
use super::*;

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
                .map(|_| char::from_digit(dice.roll(16) as u32, 16).unwrap())
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
struct Library {
    sources: Vec<String>,
    paragraphs: Vec<String>,
    names: Vec<String>,
}

impl Library {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |dir: &str, kind: &str| -> Vec<String> {
            let entries = std::fs::read_dir(root.join(dir)).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.retain(|path| path.extension().is_some_and(|found| found == kind));
            paths.sort();
            let texts = paths
                .iter()
                .map(|path| std::fs::read_to_string(path).unwrap());
            texts.collect()
        };
        let mut sources = read("src/store", "rs");
        sources.extend(read("src/actors", "rs"));
        sources.extend(read("src/model", "rs"));
        let guide = read("docs/guide", "md").join("\n\n");
        let names = sources.iter().flat_map(|text| text.lines());
        let names = names.filter_map(|line| line.trim().strip_prefix("fn ")?.split('(').next());
        Self {
            names: names.map(str::to_owned).collect(),
            paragraphs: guide.split("\n\n").map(str::to_owned).collect(),
            sources,
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// What Claude Code writes with `--output-format stream-json`: texts, uses of
/// tools, and what they gave, which it writes twice.
fn agent_stream(library: &Library, seed: u64, bytes: usize) -> Vec<String> {
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
fn plain_lines(library: &Library, seed: u64, bytes: usize) -> Vec<String> {
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

/// Records each session's lines, so many a commit, one session after the
/// other by turns. Returns how much was said, what the rows hold of it in the
/// end, and what part of it is on disk: live, and after compaction.
fn ratios(sessions: &[Vec<String>], a_commit: usize) -> (f64, f64, (f64, f64)) {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let ulids: Vec<Ulid> = (1..=sessions.len() as u128)
        .map(|n| Ulid(n << 64))
        .collect();
    let claims: Vec<_> = ulids
        .iter()
        .map(|ulid| journal.claim(*ulid).unwrap())
        .collect();
    let longest = sessions.iter().map(Vec::len).max().unwrap();
    let (mut raw, mut ticks) = (0, 0i64);
    for from in (0..longest).step_by(a_commit) {
        for ((ulid, claim), lines) in ulids.iter().zip(&claims).zip(sessions) {
            let some = lines.iter().enumerate().skip(from).take(a_commit);
            let events: Vec<Event> = some
                .map(|(nth, line)| {
                    raw += line.len() + 1;
                    ticks += 1_234_567 + (ticks % 977) * 331;
                    Event {
                        seq: nth as u64 + 1,
                        run: 0,
                        time: Timestamp(NOW.0 + ticks),
                        kind: output(line.as_str()),
                    }
                })
                .collect();
            if events.is_empty() {
                continue;
            }
            let row = Append {
                cursors: vec![(cursor_key(0, 1), cursor(raw as u64))],
                ..append(*ulid, claim.generation, events)
            };
            commit_one(&mut journal, row);
        }
    }
    let database = |journal: &Journal| allocated(journal.database()).unwrap() as f64 / raw as f64;
    let live = database(&journal);
    for ((ulid, claim), lines) in ulids.iter().zip(&claims).zip(sessions) {
        let row = Append {
            record: Some(record(*ulid, false, 200)),
            ..append(
                *ulid,
                claim.generation,
                vec![event(lines.len() as u64 + 1, output("end"))],
            )
        };
        commit_one(&mut journal, row);
    }
    let mut compaction = journal.begin_compaction().unwrap();
    compaction.copy(&|| false).unwrap();
    let compacted = journal.finish_compaction(&mut compaction).unwrap().unwrap();
    compacted.old.discard().unwrap();
    let needed = journal.space().needed() as f64 / raw as f64;
    let compacted = database(&journal);
    eprintln!("{raw} raw: {live:.3} live, {compacted:.3} compacted, {needed:.3} needed");
    let space = journal.space();
    let stored = (space.stored + space.other) as f64;
    (raw as f64, stored, (live, compacted))
}

/// Whether so much more is on disk than the rows hold: sled begins with some
/// segments, and what it writes around rows is an eighth.
fn little_more(raw: f64, (_, compacted): (f64, f64), stored: f64) {
    let most = stored * 1.25 + 2_500_000.0;
    assert!(
        compacted * raw <= most,
        "{compacted} of {raw}, {stored} stored"
    );
}

#[test]
fn what_agents_say_is_small_on_disk() {
    let library = Library::new();
    let streams: Vec<_> = (1..=2)
        .map(|n| agent_stream(&library, n, 3_000_000))
        .collect();
    let (raw, stored, ratios) = ratios(&streams, 64);
    assert!(stored <= raw / 4.0, "{stored} of {raw}");
    little_more(raw, ratios, stored);
}

#[test]
fn plain_lines_are_small_on_disk() {
    let library = Library::new();
    let streams: Vec<_> = (1..=2)
        .map(|n| plain_lines(&library, n, 3_000_000))
        .collect();
    let (raw, stored, ratios) = ratios(&streams, 256);
    assert!(stored <= raw / 3.0, "{stored} of {raw}");
    little_more(raw, ratios, stored);
}

#[test]
fn a_trickle_is_small_on_disk() {
    let library = Library::new();
    let streams: Vec<_> = (1..=50)
        .map(|n| {
            let stream = agent_stream(&library, n, 300_000);
            stream.into_iter().take(100).collect()
        })
        .collect();
    let (raw, stored, ratios) = ratios(&streams, 1);
    assert!(stored <= raw / 4.0, "{stored} of {raw}");
    little_more(raw, ratios, stored);
}
