use super::*;
use crate::model::api::SearchPlace;
use crate::model::{Blob, Bounds, Pattern};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

const S: Ulid = Ulid(7);

fn wanted(text: &str) -> Wanted {
    Wanted {
        pattern: Pattern::new(text, false, false).unwrap(),
        place: None,
        count: false,
    }
}

/// What is found in a session, and how many stretches it had.
fn search(reader: &Reader, wanted: &Wanted, least: u64, end: u64) -> (Vec<Found>, usize) {
    let stop = AtomicBool::new(false);
    let (mut found, mut stretches) = (Vec::new(), 0);
    let mut before = end;
    while let Some(stretch) = reader.stretch(S, least, before).unwrap() {
        before = stretch.first();
        stretches += 1;
        let findings = reader.search(S, &stretch, wanted, &stop).unwrap();
        assert!(findings.damage.is_empty(), "{:?}", findings.damage);
        let counting = Wanted {
            count: true,
            ..wanted.clone()
        };
        let counted = reader.search(S, &stretch, &counting, &stop).unwrap();
        assert_eq!(counted.count, findings.lines.len() as u64);
        assert_eq!(findings.count, findings.lines.len() as u64);
        found.extend(findings.lines);
    }
    (found, stretches)
}

fn search_all(journal: &Journal, wanted: &Wanted) -> Vec<Found> {
    let reader = journal.reader();
    let last = reader.last_seq(S).unwrap();
    search(&reader, wanted, 1, last + 1).0
}

/// The lines of events, one event after the other: first event, run, place, text.
fn lines_of(events: &[Event], apart: u64) -> Vec<(u64, u32, SearchPlace, Vec<u8>)> {
    let mut lines = Vec::new();
    // By run and place: first event, last event, text.
    let mut open: BTreeMap<(u32, bool), (u64, u64, Vec<u8>)> = BTreeMap::new();
    for event in events {
        match &event.kind {
            EventKind::Queued { prompt, .. } => {
                let text = prompt.lossy();
                for line in text.strip_suffix('\n').unwrap_or(&text).split('\n') {
                    lines.push((event.seq, event.run, SearchPlace::Prompt, line.into()));
                }
            }
            EventKind::Output(output) => {
                let is_err = output.stream == Stream::Stderr;
                let place = [SearchPlace::Stdout, SearchPlace::Stderr][usize::from(is_err)];
                let key = (event.run, is_err);
                if let Some((first, last, text)) = open.get(&key)
                    && event.seq - last > apart
                {
                    lines.push((*first, event.run, place, text.clone()));
                    open.remove(&key);
                }
                let line = open.entry(key).or_insert((event.seq, 0, Vec::new()));
                line.1 = event.seq;
                line.2.extend_from_slice(&output.data);
                if !output.continued {
                    let (first, _, text) = open.remove(&key).unwrap();
                    lines.push((first, event.run, place, text));
                }
            }
            _ => {}
        }
    }
    for ((run, is_err), (first, _, text)) in open {
        let place = [SearchPlace::Stdout, SearchPlace::Stderr][usize::from(is_err)];
        lines.push((first, run, place, text));
    }
    lines
}

fn piece(stream: Stream, continued: bool, data: &str) -> EventKind {
    EventKind::Output(Output {
        stream,
        data: data.into(),
        continued,
    })
}

fn queued(prompt: &str) -> EventKind {
    EventKind::Queued {
        how: How::New,
        prompt: Blob::from(prompt),
        task: None,
        env: Vec::new(),
        fresh: None,
        branch: None,
        bounds: Bounds::default(),
        task_at: 0,
        retry: None,
        position: None,
        reason: None,
    }
}

fn kind() -> impl Strategy<Value = EventKind> {
    let text = || "[ab é]{0,3}";
    prop_oneof![
        8 => (any::<bool>(), prop::bool::weighted(0.4), text()).prop_map(|(err, continued, text)| {
            let stream = if err { Stream::Stderr } else { Stream::Stdout };
            piece(stream, continued, &text)
        }),
        1 => "[ab\n\"é]{0,6}".prop_map(|text| queued(&text)),
        1 => Just(EventKind::Note { code: "ab".into(), message: "aabb".into() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 48 } else { 256 }))]

    #[test]
    fn a_search_finds_what_a_look_at_every_line_finds(
        kinds in prop::collection::vec((kind(), 0u32..2), 1..200),
        commits in prop::collection::vec(1usize..9, 1..40),
        pattern in prop::sample::select(vec![
            "a", "ab", "^a", "b$", "^$", "a.b", "b|é", r"\ba", "a+ *b", "[^b]", "(?i)AB", "^(a|b)+$",
            "a.*b$|é",
        ]),
        place in prop::sample::select(vec![None, Some(SearchPlace::Stdout), Some(SearchPlace::Stderr), Some(SearchPlace::Prompt)]),
        ends: bool,
        least in 1u64..40,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        let claim = journal.claim(S).unwrap();
        let mut run = 0;
        let events: Vec<Event> = kinds.into_iter().zip(1..).map(|((kind, more), seq)| {
            run += u32::from(more == 1 && seq % 16 == 0);
            Event { run, ..event(seq, kind) }
        }).collect();
        let mut rest = events.as_slice();
        for size in commits.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            let record = (ends && later.is_empty()).then(|| record(S, false, 1));
            commit_one(&mut journal, Append { record, ..append(S, claim.generation, now.to_vec()) });
            rest = later;
            if rest.is_empty() { break; }
        }
        let wanted = Wanted { place, ..wanted(pattern) };
        let last = events.len() as u64;
        let least = least.min(last);
        let mut expected: Vec<_> = lines_of(&events, 1024)
            .into_iter()
            .filter(|(seq, _, at, line)| {
                *seq >= least && place.is_none_or(|place| place == *at) && wanted.pattern.matches(line)
            })
            .collect();
        let mut found: Vec<_> = search(&journal.reader(), &wanted, least, last + 1).0;
        prop_assert!(found.is_sorted_by(|a, b| a.seq >= b.seq));
        for line in &found {
            prop_assert_eq!(line.time, at(line.seq as i64));
            prop_assert_eq!(&line.places, &wanted.pattern.places(&line.line, 64));
        }
        let mut found: Vec<_> = found.drain(..).map(|f| (f.seq, f.run, f.place, f.line)).collect();
        // Lines of one prompt have one number.
        expected.sort_by(|a, b| (a.0, a.2.name(), &a.3).cmp(&(b.0, b.2.name(), &b.3)));
        found.sort_by(|a, b| (a.0, a.2.name(), &a.3).cmp(&(b.0, b.2.name(), &b.3)));
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_match_across_pieces_and_stretches_is_found_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    // A line of 1,000 pieces of 1 KiB with its match in the middle of two.
    let mut events = Vec::new();
    for seq in 1..=1_000 {
        let data = match seq {
            400 => format!("{}need", "x".repeat(1020)),
            401 => format!("le{}", "x".repeat(1022)),
            _ => "x".repeat(1024),
        };
        events.push(event(seq, piece(Stream::Stdout, seq < 1_000, &data)));
    }
    for some in events.chunks(7) {
        commit_one(&mut journal, append(S, claim.generation, some.to_vec()));
    }
    let reader = journal.reader();
    let (found, stretches) = search(&reader, &wanted("need?le"), 1, 1_001);
    assert!(stretches > 3, "{stretches}");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].seq, found[0].cut), (1, true));
    let place = found[0].places[0].clone();
    assert_eq!(&found[0].line[place], b"needle");
    assert!(found[0].line.len() <= 64 * 1024);
    // It is one line, whose every piece has an x.
    assert_eq!(search(&reader, &wanted("x"), 1, 1_001).0.len(), 1);
    assert_eq!(search(&reader, &wanted("^x+$"), 1, 1_001).0.len(), 0);
}

#[test]
fn pieces_too_far_apart_are_lines_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let mut events = vec![event(1, piece(Stream::Stderr, true, "one"))];
    events.extend((2..=1_024).map(|seq| event(seq, output("between"))));
    events.push(event(1_025, piece(Stream::Stderr, true, "two")));
    events.extend((1_026..=2_050).map(|seq| event(seq, output("between"))));
    events.push(event(2_051, piece(Stream::Stderr, false, "three")));
    for some in events.chunks(300) {
        commit_one(&mut journal, append(S, claim.generation, some.to_vec()));
    }
    let found = search_all(&journal, &wanted("o|three"));
    let lines: Vec<_> = found
        .iter()
        .map(|found| (found.seq, String::from_utf8_lossy(&found.line).into_owned()))
        .collect();
    assert_eq!(
        lines,
        [(2_051, "three".to_owned()), (1, "onetwo".to_owned())]
    );
}

#[test]
fn damage_is_told_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    for first in [1, 11, 21] {
        commit_one(&mut journal, append(S, claim.generation, lines(first, 10)));
    }
    let db = journal.reader().shared.read().db.clone().unwrap();
    let key = keys::with_part(&keys::block(S, 11), 0);
    let mut row = db.get(&key).unwrap().unwrap().to_vec();
    *row.last_mut().unwrap() ^= 1;
    db.insert(key, row).unwrap();
    let reader = journal.reader();
    let stretch = reader.stretch(S, 1, 31).unwrap().unwrap();
    let stop = AtomicBool::new(false);
    let findings = reader.search(S, &stretch, &wanted("line"), &stop).unwrap();
    let seqs: Vec<u64> = findings.lines.iter().map(|line| line.seq).collect();
    assert_eq!(seqs, (1..=10).chain(21..=30).rev().collect::<Vec<_>>());
    assert!(matches!(
        findings.damage[..],
        [StoreError::Block { seq: 11, .. }]
    ));
    stop.store(true, Ordering::Relaxed);
    let findings = reader.search(S, &stretch, &wanted("line"), &stop).unwrap();
    assert_eq!(findings.count, 0);
}

#[test]
fn a_search_misses_nothing_while_blocks_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let done = AtomicBool::new(false);
    let reader = journal.reader();
    std::thread::scope(|scope| {
        let searching = scope.spawn(|| {
            let wanted = wanted("line");
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                let last = reader.last_seq(S).unwrap();
                let (found, _) = search(&reader, &wanted, 1, last + 1);
                let seqs: Vec<u64> = found.iter().map(|found| found.seq).collect();
                assert_eq!(seqs, (1..=last).rev().collect::<Vec<_>>());
                rounds += 1;
            }
            rounds
        });
        for seq in 1..=1_500 {
            commit_one(&mut journal, append(S, claim.generation, lines(seq, 1)));
        }
        done.store(true, Ordering::Relaxed);
        assert!(searching.join().unwrap() > 0);
    });
}
