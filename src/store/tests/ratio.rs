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

    /// A word; some are said more often than others, as they are.
    fn word(&mut self) -> String {
        let rank = self.roll(3000) * self.roll(3000) / 3000;
        let mut own = Dice(rank.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let len = 2 + own.roll(4) + own.roll(4);
        (0..len)
            .map(|_| char::from(b"etaoinshrdlcumwfgypbvk"[(own.roll(22)) as usize]))
            .collect()
    }

    fn text(&mut self, words: u64) -> String {
        let words: Vec<_> = (0..words).map(|_| self.word()).collect();
        words.join(" ")
    }

    /// Lines as of a program's text.
    fn code(&mut self, lines: u64) -> String {
        let line = |dice: &mut Self| match dice.roll(4) {
            0 => format!(
                "    let {} = self.{}({});\\n",
                dice.word(),
                dice.word(),
                dice.word()
            ),
            1 => format!("        if {} != {} {{\\n", dice.word(), dice.word()),
            2 => "    }\\n".to_owned(),
            _ => format!("    // {}\\n", dice.text(6)),
        };
        (0..lines).map(|_| line(self)).collect()
    }
}

/// What Claude Code writes with `--output-format stream-json`: texts, uses of
/// tools, and their results, which it writes twice.
fn agent_stream(seed: u64, bytes: usize) -> Vec<String> {
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
        let words = 10 + dice.roll(120);
        let text = dice.text(words);
        lines.push(said(format!("{{\"type\":\"text\",\"text\":\"{text}\"}}")) + &tail(dice));
        let tool = dice.id(24);
        let command = format!(
            "cd /workspace && rg -n {} src/{}.rs",
            dice.word(),
            dice.word()
        );
        lines.push(
            said(format!(
                "{{\"type\":\"tool_use\",\"id\":\"toolu_{tool}\",\"name\":\"Bash\",\
                 \"input\":{{\"command\":\"{command}\",\"description\":\"{}\"}}}}",
                dice.text(6)
            )) + &tail(dice),
        );
        let count = 3 + dice.roll(60);
        let result = dice.code(count);
        lines.push(format!(
            "{{\"type\":\"user\",\"message\":{{\"role\":\"user\",\"content\":[{{\"tool_use_id\":\
             \"toolu_{tool}\",\"type\":\"tool_result\",\"content\":\"{result}\",\"is_error\":false}}]}},\
             \"tool_use_result\":{{\"stdout\":\"{result}\",\"stderr\":\"\",\"interrupted\":false,\
             \"isImage\":false}},{}",
            tail(dice)
        ));
        written += lines.iter().rev().take(3).map(String::len).sum::<usize>();
    }
    lines
}

/// What builds and test runs print.
fn plain_lines(seed: u64, bytes: usize) -> Vec<String> {
    let dice = &mut Dice(seed);
    let mut lines = Vec::new();
    let mut written = 0;
    while written < bytes {
        let line = match dice.roll(3) {
            0 => format!(
                "   Compiling {} v{}.{}.{}",
                dice.word(),
                dice.roll(9),
                dice.roll(20),
                dice.roll(9)
            ),
            1 => format!(
                "test {}::{} ... ok ({} ms)",
                dice.word(),
                dice.word(),
                dice.roll(900)
            ),
            _ => format!(
                "[{}] INFO {}: {}",
                dice.roll(99_999),
                dice.word(),
                dice.text(7)
            ),
        };
        written += line.len() + 1;
        lines.push(line);
    }
    lines
}

/// Records each session's lines, so many a commit, one session after the
/// other by turns. Returns what it takes of what was said: live, and after
/// compaction.
fn ratios(sessions: &[Vec<String>], a_commit: usize) -> (f64, f64) {
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
    eprintln!(
        "{raw} bytes raw: {live:.3} live, {:.3} compacted, {needed:.3} thought to be needed",
        database(&journal)
    );
    (live, database(&journal))
}

#[test]
fn what_agents_say_takes_a_fifth() {
    let streams: Vec<_> = (1..=4).map(|n| agent_stream(n, 3_000_000)).collect();
    let (_, compacted) = ratios(&streams, 64);
    assert!(compacted <= 0.2, "{compacted}");
}

#[test]
fn plain_lines_take_a_fifth() {
    let streams: Vec<_> = (1..=4).map(|n| plain_lines(n, 3_000_000)).collect();
    let (_, compacted) = ratios(&streams, 256);
    assert!(compacted <= 0.2, "{compacted}");
}

#[test]
fn a_trickle_takes_a_fifth() {
    let streams: Vec<_> = (1..=50)
        .map(|n| agent_stream(n, 600_000).into_iter().take(200).collect())
        .collect();
    let (_, compacted) = ratios(&streams, 1);
    assert!(compacted <= 0.2, "{compacted}");
}
