//! What comes out of a run is what the program wrote, byte for byte.

use super::support::*;
use cldpd::model::Stream;
use cldpd::runtime::shim::{Control, RecordBody, SpoolError};
use std::os::unix::fs::FileExt;

#[tokio::test]
async fn binary_output_and_both_streams_are_exact() {
    let mut body = sh("cat; printf 'e\\0\\377r\\n' >&2");
    body.stdin = (0..3_000_000u32).flat_map(|n| n.to_be_bytes()).collect();
    let records = run_to_end(&body).await;
    assert!(output(&records, 0, Stream::Stdout) == body.stdin);
    assert_eq!(output(&records, 0, Stream::Stderr), b"e\0\xffr\n");
    assert_eq!(exit_of(&records, 0), Some((0, None)));
    let controls = controls(&records);
    assert_eq!(controls.first(), Some(&Control::Accepted { id: body.id }));
    assert!(matches!(controls[1], Control::Started { run: 0, pid } if pid > 0));
    assert!(matches!(&controls[2], Control::Done { id, ok: true, .. } if *id == body.id));
    assert!(matches!(
        controls[controls.len() - 2],
        Control::Exited { run: 0, .. }
    ));
    assert_eq!(controls.last(), Some(&Control::Finished));
}

#[tokio::test]
async fn lines_of_two_mebibytes_come_whole() {
    let script = "head -c 2097152 /dev/zero | tr '\\0' x; echo; echo end";
    let records = run_to_end(&sh(script)).await;
    let mut whole = vec![b'x'; 2 << 20];
    whole.extend_from_slice(b"\nend\n");
    assert!(output(&records, 0, Stream::Stdout) == whole);
}

#[tokio::test]
async fn the_environment_and_directory_are_the_runs() {
    let mut body = sh("pwd; echo $WHO; echo \"[$NOT_SET]\"; umask");
    body.cwd = Some(b"/usr".to_vec());
    body.env = vec![(b"WHO".to_vec(), b"me = you".to_vec())];
    assert_eq!(
        text(&run_to_end(&body).await, 0),
        "/usr\nme = you\n[]\n0022\n"
    );
}

#[tokio::test]
async fn secrets_are_replaced_across_chunk_edges_and_in_held_back_tails() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let mut body = sh(
        "printf 'a top-sec'; read x; printf 'ret-value b top-secret-val'; read x; \
         printf '\\nc\\n'; printf 'top-secret-value!' >&2; printf 'top-secret'; read x; exit 3",
    );
    body.keep_stdin_open = true;
    body.secrets = vec![("TOKEN".to_owned(), b"top-secret-value".to_vec())];
    shim.run(&body).await.unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "a ").await;
    // What could be the beginning of a secret is held back.
    assert_eq!(text(&reader.records, 0), "a ");
    shim.input(0, b"\n", false).await.unwrap();
    reader.until_output(0, "a [redacted:TOKEN] b ").await;
    shim.input(0, b"\n", false).await.unwrap();
    reader.until_output(0, "top-secret-val\nc\n").await;
    shim.input(0, b"\n", false).await.unwrap();
    let records = reader.end().await;
    assert_eq!(
        text(&records, 0),
        "a [redacted:TOKEN] b top-secret-val\nc\ntop-secret"
    );
    assert_eq!(output(&records, 0, Stream::Stderr), b"[redacted:TOKEN]!");
    let marked = |record: &&cldpd::runtime::shim::Record| {
        matches!(record.body, RecordBody::Output { redacted: true, .. })
    };
    assert_eq!(records.iter().filter(marked).count(), 2);
    for entry in std::fs::read_dir(place.dir.path()).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let found = bytes.windows(16).any(|w| w == b"top-secret-value");
            assert!(!found, "{:?}", entry.path());
        }
    }
}

#[tokio::test]
async fn the_bound_makes_the_agent_wait_and_trimming_lets_it_go_on() {
    const BOUND: u64 = 1 << 20;
    let place = Place::with(&["--spool-max", "1048576"]);
    let shim = place.connect(1).await;
    let total = 40 << 20;
    let body = sh("head -c 41943040 /dev/zero | tr '\\0' y; echo done >&2");
    shim.run(&body).await.unwrap();
    // Nobody trims: it comes to a rest at the bound.
    let mut reader = place.follow(&shim);
    let mut bytes = 0;
    while bytes < BOUND {
        assert!(reader.more().await);
        bytes = reader.spool.position();
    }
    assert!(spool_size(&place) <= BOUND + (512 << 10));
    assert_eq!(exit_of(&reader.records, 0), None);
    let mut length = 0u64;
    loop {
        for record in std::mem::take(&mut reader.records) {
            match record.body {
                RecordBody::Output {
                    bytes,
                    stream: Stream::Stdout,
                    position,
                    ..
                } => {
                    assert_eq!(position, length);
                    assert!(bytes.iter().all(|b| *b == b'y'));
                    length += bytes.len() as u64;
                }
                RecordBody::Output { bytes, .. } => assert_eq!(bytes, b"done\n"),
                RecordBody::Control { .. } => {}
            }
        }
        // The shim may have ended: then nobody has to be told.
        let _ = shim.trim(reader.spool.position()).await;
        assert!(spool_size(&place) <= BOUND + (4 << 20));
        if !reader.more().await {
            break;
        }
    }
    assert_eq!(length, total);
}

#[tokio::test]
async fn trimmed_segments_are_removed_and_reading_begins_behind_them() {
    let place = Place::with(&["--spool-max", "8388608"]);
    let shim = place.connect(1).await;
    let mut body = sh("head -c 5000000 /dev/zero; read x");
    body.keep_stdin_open = true;
    shim.run(&body).await.unwrap();
    let mut reader = place.follow(&shim);
    while output(&reader.records, 0, Stream::Stdout).len() < 5_000_000 {
        assert!(reader.more().await);
    }
    let middle = reader
        .records
        .iter()
        .map(|r| r.end)
        .find(|end| *end > 3_000_000);
    let middle = middle.unwrap();
    shim.trim(middle).await.unwrap();
    let mut later = place.spool().unwrap();
    assert!(later.position() > 0 && later.position() <= middle);
    let begin = later.position();
    let again = place.connect(1).await;
    assert_eq!(again.hello().base, begin);
    let written = again.hello().written;
    let rest = later.read(Some(written), usize::MAX).unwrap();
    let known: Vec<_> = reader.records.iter().filter(|r| r.start >= begin).collect();
    assert!(known.iter().zip(&rest).all(|(a, b)| **a == *b));
    assert!(rest.len() >= known.len());
    again.trim(u64::MAX).await.unwrap();
    assert!(spool_size(&place) <= (1 << 20) + 4096);
    again
        .stop(id(), 0, std::time::Duration::ZERO)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_spool_of_a_dead_shim_is_read_to_the_end() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let mut body = sh("echo one; echo two; read x");
    body.keep_stdin_open = true;
    shim.run(&body).await.unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "two\n").await;
    let pid = place.pid();
    place.kill_shim();
    gone(pid).await;
    let mut spool = place.spool().unwrap();
    let records = spool.read(None, usize::MAX).unwrap();
    assert_eq!(text(&records, 0), "one\ntwo\n");
    assert_eq!(spool.read(None, usize::MAX).unwrap(), []);
    assert!(!controls(&records).contains(&Control::Finished));
    // A torn last frame is its end, and no error.
    let path = place.dir.path().join("spool.0000");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    let mut spool = place.spool().unwrap();
    let fewer = spool.read(None, usize::MAX).unwrap();
    assert_eq!(fewer[..], records[..records.len() - 1]);
}

#[tokio::test]
async fn a_spool_that_was_tampered_with_is_told_after_the_good_records() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let mut body = sh("echo one; read x; echo two; read x");
    body.keep_stdin_open = true;
    shim.run(&body).await.unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "one\n").await;
    let good = reader.spool.position();
    shim.input(0, b"\n", false).await.unwrap();
    let written = shim.written(good).await.unwrap();
    let path = place.dir.path().join("spool.0000");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_at(b"evil", 96 + good + 32).unwrap();
    let mut spool = place.spool().unwrap();
    let records = spool.read(Some(written), usize::MAX).unwrap();
    assert_eq!(records.last().map(|r| r.end), Some(good));
    for _ in 0..2 {
        let error = spool.read(Some(written), usize::MAX).unwrap_err();
        assert!(
            matches!(error, SpoolError::Damaged { at, .. } if at == good),
            "{error}"
        );
    }
    // Shorter than the shim said.
    file.set_len(96 + good).unwrap();
    let mut spool = place.spool().unwrap();
    assert!(!spool.read(Some(written), usize::MAX).unwrap().is_empty());
    assert!(spool.read(Some(written), usize::MAX).is_err());
    // A pipe or a link in its place is neither followed nor waited for.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(place.spool(), Err(SpoolError::Damaged { .. })));
    std::fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(place.spool(), Err(SpoolError::Damaged { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(place.spool(), Err(SpoolError::Missing { .. })));
    shim.stop(id(), 0, std::time::Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_makes_the_agent_wait_until_there_is_room() {
    const LIMIT: u64 = 2 << 20;
    let place = Place::empty();
    // A limit on the size of files stands for the full disk.
    let script = format!("ulimit -S -f {} && exec \"$@\"", LIMIT / 512);
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", &script, "sh"])
        .arg(place.dir.session.shim())
        .args(cldpd::runtime::shim::local_arguments(&place.dir))
        .status()
        .unwrap();
    assert!(status.success());
    let shim = place.connect(1).await;
    shim.run(&sh("head -c 9000000 /dev/zero | tr '\\0' z"))
        .await
        .unwrap();
    let mut reader = place.follow(&shim);
    let rest = std::time::Duration::from_secs(2);
    loop {
        let more = tokio::time::timeout(rest, reader.more()).await;
        if more.is_err() && reader.spool.position() > LIMIT - (600 << 10) {
            break;
        }
    }
    assert!(spool_size(&place) <= LIMIT);
    // It still takes commands, and says so.
    let signal = id();
    shim.signal(signal, 0, 18).await.unwrap();
    let done = |c: &Control| matches!(c, Control::Done { id, ok: true, .. } if *id == signal);
    reader.until_control(done).await;
    let none = rustix::process::Rlimit {
        current: None,
        maximum: None,
    };
    let pid = rustix::process::Pid::from_raw(place.pid());
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, none).unwrap();
    let records = reader.end().await;
    assert!(output(&records, 0, Stream::Stdout) == vec![b'z'; 9_000_000]);
    assert_eq!(exit_of(&records, 0), Some((0, None)));
    let noted = |c: &Control| matches!(c, Control::Note { code, .. } if code == "slow_disk");
    assert!(controls(&records).iter().any(noted));
}

#[tokio::test]
async fn the_agent_dies_before_its_witness_when_memory_is_short() {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let own: i32 = own.trim().parse().unwrap();
    let records = run_to_end(&program(&["cat", "/proc/self/oom_score_adj"])).await;
    let score: i32 = text(&records, 0).trim().parse().unwrap();
    assert_eq!(score, (own + 500).min(1000));
}
