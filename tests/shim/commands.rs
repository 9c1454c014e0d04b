//! Commands: accepted once, from the right side, whoever asks again.

use super::support::*;
use cldpd::model::{Stream, Ulid};
use cldpd::runtime::shim::wire::Standing;
use cldpd::runtime::shim::{Control, Peer, RunBody, Shim, ShimError};
use std::time::Duration;

fn waiting(script: &str) -> RunBody {
    RunBody {
        keep_stdin_open: true,
        ..sh(script)
    }
}

#[tokio::test]
async fn the_same_run_is_never_run_twice() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let body = waiting("echo once; read x");
    shim.run(&body).await.unwrap();
    shim.run(&body).await.unwrap();
    // Another body under the same id, and another id for the same run.
    let other = RunBody {
        argv: vec![b"true".to_vec()],
        ..body.clone()
    };
    assert!(matches!(
        shim.run(&other).await,
        Err(ShimError::Refused { .. })
    ));
    let other = RunBody {
        id: id(),
        ..body.clone()
    };
    assert!(matches!(
        shim.run(&other).await,
        Err(ShimError::Refused { .. })
    ));
    let mut reader = place.follow(&shim);
    reader.until_output(0, "once\n").await;
    drop(shim);
    let shim = place.connect(2).await;
    assert!(shim.hello().knows(body.id));
    assert_eq!(shim.hello().known, [(body.id, Standing::Done)]);
    assert!(!shim.hello().knows(other.id));
    shim.run(&body).await.unwrap();
    shim.input(0, b"\n", false).await.unwrap();
    reader.shim = shim;
    let records = reader.end().await;
    assert_eq!(text(&records, 0), "once\n");
    let accepted = controls(&records);
    let accepted = accepted
        .iter()
        .filter(|c| matches!(c, Control::Accepted { .. }));
    assert_eq!(accepted.count(), 1);
}

#[tokio::test]
async fn nothing_is_lost_while_nobody_is_connected() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let body = sh("for i in 1 2 3; do echo $i; done; exit 2");
    shim.run(&body).await.unwrap();
    let pid = place.pid();
    drop(shim);
    gone(pid).await;
    assert!(matches!(
        place.try_connect(2).await,
        Err(ShimError::Dead { .. })
    ));
    let records = place.spool().unwrap().read(None, usize::MAX).unwrap();
    assert_eq!(text(&records, 0), "1\n2\n3\n");
    assert_eq!(exit_of(&records, 0), Some((2, None)));
}

#[tokio::test]
async fn a_newer_owner_displaces_and_an_older_one_is_refused() {
    let place = Place::new();
    let old = place.connect(5).await;
    old.run(&waiting("read x; exit 1")).await.unwrap();
    let new = place.connect(6).await;
    let (hello, old_hello) = (new.hello(), old.hello());
    assert_eq!(
        (hello.session, hello.run, hello.attempt),
        (place.dir.session.session(), 0, 1)
    );
    assert_eq!(hello.boot, old_hello.boot);
    assert!(hello.written > 0);
    let lost = old.written(u64::MAX).await.unwrap_err();
    assert!(
        matches!(lost, ShimError::Displaced { generation: 6 }),
        "{lost}"
    );
    let lost = old.stop(id(), 0, Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(lost, ShimError::Displaced { .. } | ShimError::Closed),
        "{lost}"
    );
    let refused = place.try_connect(5).await.unwrap_err();
    assert!(
        matches!(refused, ShimError::Displaced { generation: 6 }),
        "{refused}"
    );
    new.input(0, b"\n", false).await.unwrap();
    let records = place.follow(&new).end().await;
    assert_eq!(exit_of(&records, 0), Some((1, None)));
}

#[tokio::test]
async fn connecting_waits_for_a_shim_and_tells_a_dead_one() {
    let place = Place::empty();
    assert!(matches!(
        place.try_connect(1).await,
        Err(ShimError::Dead { .. })
    ));
    let dir = place.dir.clone();
    let connecting =
        tokio::spawn(async move { Shim::connect(&dir, Peer::Local, 1, PATIENCE).await });
    let short = Duration::from_millis(1);
    let late = Shim::connect(&place.dir, Peer::Local, 1, short)
        .await
        .unwrap_err();
    assert!(matches!(late, ShimError::Timeout { .. }), "{late}");
    assert!(place.start(&[]).status.success());
    let shim = connecting.await.unwrap().unwrap();
    // A second one is not born in the same directory, and does the first no harm.
    let second = place.start(&[]);
    assert_eq!(second.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&second.stderr).contains("cannot be born"));
    shim.run(&sh("exit 0")).await.unwrap();
    assert_eq!(
        exit_of(&place.follow(&shim).end().await, 0),
        Some((0, None))
    );
}

#[tokio::test]
async fn a_shim_that_cannot_begin_says_why() {
    let place = Place::empty();
    std::fs::create_dir(place.dir.path().join("spool.0000")).unwrap();
    let output = place.start(&[]);
    assert_eq!(output.status.code(), Some(125));
    let failed = Shim::connect(&place.dir, Peer::Local, 1, PATIENCE)
        .await
        .unwrap_err();
    assert!(
        matches!(&failed, ShimError::Failed { message, .. } if message.contains("spool")),
        "{failed}"
    );
}

#[tokio::test]
async fn an_impostor_is_told_apart_before_anything_is_said() {
    let place = Place::new();
    let pid = u32::try_from(place.pid()).unwrap();
    let peer = Peer::Container {
        pid: Some(pid + 1_000_000),
    };
    let error = Shim::connect(&place.dir, peer, 1, Duration::ZERO)
        .await
        .unwrap_err();
    assert!(matches!(error, ShimError::Impostor { .. }), "{error}");
    // Neither a link nor a file is taken for a socket.
    let socket = place.dir.socket();
    std::fs::rename(&socket, place.dir.path().join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", &socket).unwrap();
    assert!(place.try_connect(1).await.is_err());
    place.kill_shim();
}

#[tokio::test]
async fn steering_is_written_in_order_and_told_when_it_was() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let mut body = waiting("read a; echo \"1 $a\"; read b; echo \"2 $b\"; wc -c");
    body.stdin = b"prompt\n".to_vec();
    shim.run(&body).await.unwrap();
    let (first, second, third) = (id(), id(), id());
    shim.steer(first, 0, b"more\n".to_vec()).await.unwrap();
    shim.steer(first, 0, b"more\n".to_vec()).await.unwrap();
    let long = vec![b'z'; 3 << 20];
    shim.steer(second, 0, long).await.unwrap();
    let mut reader = place.follow(&shim);
    let done = |wanted: Ulid| move |c: &Control| matches!(c, Control::Done { id, ok: true, .. } if *id == wanted);
    reader.until_control(done(first)).await;
    reader.until_control(done(second)).await;
    shim.input(0, b"", true).await.unwrap();
    let closed = shim.steer(third, 0, b"late".to_vec()).await.unwrap_err();
    // Refused, unless the run was so quick that the shim is gone.
    assert!(
        matches!(closed, ShimError::Refused { .. } | ShimError::Closed),
        "{closed}"
    );
    let records = reader.end().await;
    assert_eq!(text(&records, 0), "1 prompt\n2 more\n3145728\n");
}

#[tokio::test]
async fn steering_that_is_not_written_when_the_run_ends_is_told_so() {
    let place = Place::new();
    let shim = place.connect(1).await;
    shim.run(&waiting("echo ready; sleep 1000")).await.unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "ready").await;
    let steer = id();
    shim.steer(steer, 0, vec![b'z'; 1 << 20]).await.unwrap();
    shim.stop(id(), 0, Duration::ZERO).await.unwrap();
    reader
        .until_control(|c| matches!(c, Control::Done { id, ok: false, .. } if *id == steer))
        .await;
}

#[tokio::test]
async fn a_second_program_runs_beside_the_first_and_ends_alone() {
    let place = Place::new();
    let shim = place.connect(1).await;
    shim.run(&waiting("echo main; read x; echo still here"))
        .await
        .unwrap();
    let beside = RunBody {
        run: 1,
        primary: false,
        ..sh("echo beside; sleep 1000")
    };
    shim.run(&beside).await.unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(1, "beside\n").await;
    reader.until_output(0, "main\n").await;
    // TERM, which dash does not catch: it may lose an INT that comes while it forks.
    shim.signal(id(), 1, 15).await.unwrap();
    let exited = reader
        .until_control(|c| matches!(c, Control::Exited { run: 1, .. }))
        .await;
    assert_eq!(
        exited,
        Control::Exited {
            run: 1,
            code: 143,
            signal: Some(15)
        }
    );
    shim.input(0, b"\n", false).await.unwrap();
    let records = reader.end().await;
    assert_eq!(text(&records, 0), "main\nstill here\n");
    assert_eq!(exit_of(&records, 0), Some((0, None)));
}

#[tokio::test]
async fn a_terminal_has_a_size_that_can_be_changed() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let mut body = waiting(
        "trap 'stty size; exit 3' WINCH; stty size; test -t 0 && test -t 2 && echo tty >&2; while :; do sleep 1000 & wait; done",
    );
    body.tty = Some((24, 81));
    shim.run(&body).await.unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "24 81\r\n").await;
    reader.until_output(0, "tty\r\n").await;
    shim.resize(0, 50, 132).await.unwrap();
    let records = reader.end().await;
    assert!(text(&records, 0).ends_with("50 132\r\n"));
    assert_eq!(exit_of(&records, 0), Some((3, None)));
    let ends = controls(&records);
    let ends: Vec<_> = ends
        .iter()
        .filter(|c| matches!(c, Control::Eof { .. }))
        .collect();
    assert_eq!(
        ends,
        [&Control::Eof {
            run: 0,
            stream: Stream::Stdout
        }]
    );
}

#[tokio::test]
async fn a_terminals_input_is_echoed_and_ends() {
    let mut body = program(&["cat"]);
    body.tty = Some((24, 80));
    body.stdin = b"typed\n".to_vec();
    let records = run_to_end(&body).await;
    assert_eq!(text(&records, 0).matches("typed\r\n").count(), 2);
    assert_eq!(exit_of(&records, 0), Some((0, None)));
}

#[tokio::test]
async fn commands_that_make_no_sense_are_refused() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let refused = |result: Result<(), ShimError>| matches!(result, Err(ShimError::Refused { .. }));
    assert!(refused(shim.stop(id(), 3, Duration::ZERO).await));
    assert!(refused(shim.signal(id(), 0, 15).await));
    assert!(refused(shim.steer(id(), 0, b"x".to_vec()).await));
    assert!(refused(shim.resize(0, 1, 1).await));
    assert!(refused(shim.input(0, b"x", false).await));
    assert!(refused(shim.run(&program(&[])).await));
    let mut zero = sh("true");
    zero.env = vec![(b"A".to_vec(), b"\0".to_vec())];
    assert!(refused(shim.run(&zero).await));
    assert_eq!(place.spool().unwrap().read(Some(0), 1).unwrap(), []);
    let mut body = waiting("read x");
    body.primary = true;
    shim.run(&body).await.unwrap();
    assert!(refused(shim.resize(0, 1, 1).await));
    assert!(refused(shim.signal(id(), 0, 99).await));
    shim.stop(id(), 0, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn what_does_not_keep_to_the_protocol_is_dropped_and_does_no_harm() {
    use std::io::{Read, Write};
    let place = Place::new();
    let shim = place.connect(1).await;
    let short = tempfile::tempdir().unwrap();
    let link = short.path().join("s");
    std::os::unix::fs::symlink(place.dir.socket(), &link).unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[1, 0, 0, 0, 9],
        &[5, 0, 0, 0, 4, 0, 0, 0, 0],
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(&link).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    shim.run(&sh("exit 0")).await.unwrap();
    assert_eq!(
        exit_of(&place.follow(&shim).end().await, 0),
        Some((0, None))
    );
}

#[test]
fn a_shim_dies_at_a_fail_point_only_in_a_build_that_has_some() {
    let place = Place::empty();
    let armed = place.dir.session.bin().join("failpoints");
    std::fs::write(armed, "shim.listens=kill").unwrap();
    let began = place.start(&[]).status.success();
    assert_eq!(began, !cfg!(feature = "failpoints"));
}
