//! What recorded output takes on disk, on what agents really say.

#[path = "../../../benches/side_by_side/speech.rs"]
mod speech;

use super::super::space::allocated;
use super::*;
use speech::{Library, agent_stream, plain_lines};

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
    let library = Library::new().unwrap();
    let streams: Vec<_> = (1..=2)
        .map(|n| agent_stream(&library, n, 3_000_000))
        .collect();
    let (raw, stored, ratios) = ratios(&streams, 64);
    assert!(stored <= raw / 4.0, "{stored} of {raw}");
    little_more(raw, ratios, stored);
}

#[test]
fn plain_lines_are_small_on_disk() {
    let library = Library::new().unwrap();
    let streams: Vec<_> = (1..=2)
        .map(|n| plain_lines(&library, n, 3_000_000))
        .collect();
    let (raw, stored, ratios) = ratios(&streams, 256);
    assert!(stored <= raw / 3.0, "{stored} of {raw}");
    little_more(raw, ratios, stored);
}

#[test]
fn a_trickle_is_small_on_disk() {
    let library = Library::new().unwrap();
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
