use super::*;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

const S: Ulid = Ulid(7);
const T: Ulid = Ulid(8);

/// Where the child of the next test writes.
const DIR: &str = "CLDPD_TEST_JOURNAL";

/// Commits for ever, and says what is on disk. Only with [`DIR`] set.
#[test]
fn child_that_commits() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let mut journal = Journal::open(Path::new(&dir), options()).unwrap().journal;
    let claims = [S, T].map(|session| (session, journal.claim(session).unwrap()));
    let mut next = claims.each_ref().map(|(_, claim)| claim.next_seq);
    let mut out = std::io::stdout();
    loop {
        let appends = [0, 1].map(|i| Append {
            cursors: vec![(cursor_key(0, 1), cursor(next[i] + 2))],
            record: Some(record(claims[i].0, true, next[i] as usize % 9_000)),
            ..append(
                claims[i].0,
                claims[i].1.generation,
                lines(next[i], 3 + i as u64),
            )
        });
        journal.commit(appends.into()).unwrap();
        next = [next[0] + 3, next[1] + 4];
        writeln!(out, "\nacknowledged {} {}", next[0] - 1, next[1] - 1).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = [0, 0];
    for round in 1..=6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::crash::child_that_commits",
                "--nocapture",
            ])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut reported = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(numbers) = line.strip_prefix("acknowledged ") {
                let (s, t) = numbers.split_once(' ').unwrap();
                acknowledged = [s.parse().unwrap(), t.parse().unwrap()];
                reported += 1;
            }
            if reported == 20 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(reported >= 20 * round);
        let mut journal = open(dir.path());
        for (session, at_least) in [S, T].into_iter().zip(acknowledged) {
            let last = journal.reader().last_seq(session).unwrap();
            assert!(last >= at_least);
            assert_eq!(
                read_all(&journal.reader(), session).unwrap(),
                lines(1, last)
            );
            // Everything of a commit is there, or nothing.
            let claim = journal.claim(session).unwrap();
            assert_eq!(claim.next_seq, last + 1);
            let in_last_commit = if session == S { 3 } else { 4 };
            let written = cursor(last - in_last_commit + 3);
            assert_eq!(claim.cursors[&cursor_key(0, 1)], written);
            assert!(journal.reader().session(session).unwrap().is_some());
        }
        let lasts = [S, T].map(|session| journal.reader().last_seq(session).unwrap());
        assert_eq!(lasts[0] / 3, lasts[1] / 4);
        assert_eq!(
            firehose(&journal.reader(), 100).unwrap().len() as u64,
            lasts[0] + lasts[1]
        );
    }
}

/// A journal of a few segments, with merged blocks and several commits.
fn make(dir: &Path) -> u64 {
    let mut journal = open(dir);
    let claim = journal.claim(S).unwrap();
    let mut state = 1u64;
    let mut next = 1;
    for _ in 0..60 {
        let events: Vec<Event> = (next..next + 5)
            .map(|seq| {
                let data: Vec<u8> = (0..6_000)
                    .map(|_| {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        (state >> 33) as u8
                    })
                    .collect();
                event(seq, output(data))
            })
            .collect();
        next += 5;
        let row = Append {
            record: Some(record(S, true, 100)),
            ..append(S, claim.generation, events)
        };
        commit_one(&mut journal, row);
    }
    next - 1
}

/// Whether every event is there. An error is fine: it tells. The projection is
/// not looked at: it is derived, and can be made again.
fn everything(journal: &Journal, last: u64) -> Result<bool, StoreError> {
    let reader = journal.reader();
    let events = read_all(&reader, S)?;
    let all = firehose(&reader, 1000)?;
    Ok(events.len() as u64 == last && all.len() as u64 == last)
}

/// Whether opening and reading a damaged copy either finds all or says so.
fn is_whole_or_told(dir: &Path, last: u64) -> bool {
    match Journal::open(dir, options()) {
        Err(error) => error.is_damage(),
        Ok(opened) => {
            // An error while reading tells as well.
            !opened.warnings.is_empty() || everything(&opened.journal, last).unwrap_or(true)
        }
    }
}

#[test]
fn a_file_cut_short_is_whole_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let last = make(dir.path());
    let db = Path::new("0001").join("db");
    let len = fs::metadata(dir.path().join(&db)).unwrap().len();
    assert!(len > 1_000_000, "{len}");
    let cuts = [
        1,
        100,
        5_000,
        70_000,
        300_000,
        600_000,
        1_100_000,
        len - 4_096,
        len - 1,
        len,
    ];
    for cut in cuts {
        let copy = tempfile::tempdir().unwrap();
        let to = copy.path().join("journal");
        files::back_up(dir.path(), &to).unwrap();
        let file = fs::File::options().write(true).open(to.join(&db)).unwrap();
        file.set_len(len - cut).unwrap();
        drop(file);
        let told = is_whole_or_told(&to, last);
        assert!(told, "{cut} bytes cut off went unnoticed");
    }
}

#[test]
fn flipped_bytes_are_told_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let last = make(dir.path());
    let db = Path::new("0001").join("db");
    let bytes = fs::read(dir.path().join(&db)).unwrap();
    for place in 1..12 {
        let copy = tempfile::tempdir().unwrap();
        let to = copy.path().join("journal");
        files::back_up(dir.path(), &to).unwrap();
        let mut changed = bytes.clone();
        let from = bytes.len() * place / 12;
        for byte in &mut changed[from..from + 64] {
            *byte = !*byte;
        }
        fs::write(to.join(&db), changed).unwrap();
        let told = is_whole_or_told(&to, last);
        assert!(told, "64 bytes changed at {from} went unnoticed");
    }
}
