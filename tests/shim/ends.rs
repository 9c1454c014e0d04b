//! How runs end, and what is left of them: nothing.

use super::support::*;
use cldpd::runtime::shim::{Control, RunBody};
use std::time::{Duration, Instant};

#[tokio::test]
async fn exit_codes_and_signals_are_kept() {
    assert_eq!(
        exit_of(&run_to_end(&sh("exit 0")).await, 0),
        Some((0, None))
    );
    assert_eq!(
        exit_of(&run_to_end(&sh("exit 7")).await, 0),
        Some((7, None))
    );
    assert_eq!(
        exit_of(&run_to_end(&sh("exit 255")).await, 0),
        Some((255, None))
    );
    let killed = run_to_end(&sh("kill -SEGV $$")).await;
    assert_eq!(exit_of(&killed, 0), Some((139, Some(11))));
}

async fn not_run(body: RunBody) -> (u8, String) {
    let records = run_to_end(&body).await;
    let controls = controls(&records);
    assert!(
        !controls
            .iter()
            .any(|c| matches!(c, Control::Started { .. } | Control::Exited { .. }))
    );
    assert!(
        matches!(&controls[2], Control::Done { ok: false, .. }),
        "{controls:?}"
    );
    match &controls[1] {
        Control::NotRun {
            run: 0,
            code,
            message,
        } => (*code, message.clone()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_executed_is_126_or_127_with_the_reason() {
    let (code, message) = not_run(program(&["no-such-program-here"])).await;
    assert_eq!(
        (code, message.as_str()),
        (127, "no-such-program-here was not found in PATH")
    );
    let (code, message) = not_run(program(&["/no/such/program"])).await;
    assert_eq!(
        (code, message.as_str()),
        (127, "/no/such/program was not found")
    );
    assert_eq!(not_run(program(&["/etc/passwd/x"])).await.0, 127);
    let (code, message) = not_run(program(&["/etc"])).await;
    assert_eq!(
        (code, message.as_str()),
        (126, "cannot execute /etc: permission denied")
    );
    let mut lost = sh("true");
    lost.cwd = Some(b"/no/such/directory".to_vec());
    let (code, message) = not_run(lost).await;
    assert_eq!(code, 127);
    assert!(message.contains("/no/such/directory"), "{message}");
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("script");
    std::fs::write(&script, "#!/no/interpreter\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (code, message) = not_run(program(&[script.to_str().unwrap()])).await;
    assert_eq!(code, 127);
    assert!(message.contains("interpreter"), "{message}");
}

#[tokio::test]
async fn a_stop_kills_at_its_deadline_what_ignores_term_and_what_it_left() {
    let place = Place::new();
    let shim = place.connect(1).await;
    // The grandchild is in a session of its own, and holds the pipes.
    let script = "trap 'echo got' TERM; setsid sh -c 'trap \"\" TERM; echo child $$; \
                  while :; do sleep 1000; done' & \
                  echo ready; while :; do wait; done";
    shim.run(&sh(script)).await.unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "ready\n").await;
    reader.until_output(0, "child ").await;
    let stop = id();
    let began = Instant::now();
    shim.stop(stop, 0, Duration::from_millis(300))
        .await
        .unwrap();
    reader.until_output(0, "got\n").await;
    let done = reader
        .until_control(|c| matches!(c, Control::Done { id, .. } if *id == stop))
        .await;
    assert!(matches!(done, Control::Done { ok: true, .. }));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(began.elapsed() < Duration::from_secs(20));
    let records = reader.end().await;
    assert_eq!(exit_of(&records, 0), Some((137, Some(9))));
    let said = text(&records, 0);
    let child = said.split("child ").nth(1).unwrap().lines().next().unwrap();
    gone(child.parse().unwrap()).await;
}

#[tokio::test]
async fn a_second_stop_shortens_the_time() {
    let place = Place::new();
    let shim = place.connect(1).await;
    shim.run(&sh(
        "trap '' TERM; echo ready; while :; do sleep 1000; done",
    ))
    .await
    .unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "ready\n").await;
    let (first, second) = (id(), id());
    shim.stop(first, 0, Duration::from_secs(100_000))
        .await
        .unwrap();
    shim.stop(second, 0, Duration::ZERO).await.unwrap();
    let records = reader.end().await;
    assert_eq!(exit_of(&records, 0), Some((137, Some(9))));
    let done = |wanted| {
        let is = |c: &Control| matches!(c, Control::Done { id, ok: true, .. } if *id == wanted);
        controls(&records).iter().any(is)
    };
    assert!(done(first) && done(second));
}

#[tokio::test]
async fn a_stop_that_is_heeded_needs_no_kill() {
    let place = Place::new();
    let shim = place.connect(1).await;
    shim.run(&sh(
        "trap 'exit 5' TERM; echo ready; while :; do sleep 1000 & wait; done",
    ))
    .await
    .unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "ready\n").await;
    shim.stop(id(), 0, Duration::from_secs(1000)).await.unwrap();
    assert_eq!(exit_of(&reader.end().await, 0), Some((5, None)));
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_when_it_ends() {
    let place = Place::new();
    let shim = place.connect(1).await;
    let script = "setsid sleep 1000 & echo $!; (setsid sh -c 'echo $$; exec sleep 1000' &); exit 4";
    shim.run(&sh(script)).await.unwrap();
    let began = Instant::now();
    let records = place.follow(&shim).end().await;
    assert_eq!(exit_of(&records, 0), Some((4, None)));
    for child in text(&records, 0).lines() {
        gone(child.parse().unwrap()).await;
    }
    // Nobody holds the pipes any more, so nothing is waited for.
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn term_from_outside_reaches_the_run_and_is_no_stop() {
    let place = Place::new();
    let shim = place.connect(1).await;
    shim.run(&sh(
        "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 1000 & wait; done",
    ))
    .await
    .unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "ready\n").await;
    let pid = rustix::process::Pid::from_raw(place.pid()).unwrap();
    for signal in [
        rustix::process::Signal::USR1,
        rustix::process::Signal::ALARM,
        rustix::process::Signal::TERM,
    ] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    let records = reader.end().await;
    assert_eq!(exit_of(&records, 0), Some((9, None)));
    assert_eq!(text(&records, 0), "ready\ngot\n");
}

#[tokio::test]
async fn when_the_shim_is_killed_its_keepers_kill_their_trees() {
    let place = Place::new();
    let shim = place.connect(1).await;
    shim.run(&sh("setsid sleep 1000 & echo $!; echo $$; exec sleep 1000"))
        .await
        .unwrap();
    let mut reader = place.follow(&shim);
    while text(&reader.records, 0).lines().count() < 2 {
        assert!(reader.more().await);
    }
    place.kill_shim();
    for process in text(&reader.records, 0).lines() {
        gone(process.parse().unwrap()).await;
    }
}

#[tokio::test]
async fn a_killed_keeper_makes_its_run_killed() {
    let place = Place::new();
    let shim = place.connect(1).await;
    shim.run(&sh(
        "setsid sleep 1000 & echo $!; echo $$; echo ready; wait",
    ))
    .await
    .unwrap();
    let mut reader = place.follow(&shim);
    reader.until_output(0, "ready\n").await;
    let keepers = std::fs::read_to_string(place.dir.path().join("keepers")).unwrap();
    let keeper = keepers.split(' ').nth(1).unwrap();
    kill(keeper.parse().unwrap());
    let records = reader.end().await;
    assert_eq!(exit_of(&records, 0), Some((137, Some(9))));
    for process in text(&records, 0).lines().take(2) {
        gone(process.parse().unwrap()).await;
    }
}

#[tokio::test]
async fn the_shim_ends_with_its_primary_run_and_the_others_first() {
    let place = Place::with(&["--grace", "200"]);
    let shim = place.connect(1).await;
    let mut main = sh("echo main; read x; exit 6");
    main.keep_stdin_open = true;
    shim.run(&main).await.unwrap();
    let beside = |run, script: &str| RunBody {
        run,
        primary: false,
        ..sh(script)
    };
    shim.run(&beside(
        1,
        "trap 'exit 3' TERM; echo one; while :; do sleep 1000 & wait; done",
    ))
    .await
    .unwrap();
    shim.run(&beside(
        2,
        "trap '' TERM; echo two; while :; do sleep 1000; done",
    ))
    .await
    .unwrap();
    shim.run(&beside(3, "echo three; exit 8")).await.unwrap();
    let mut reader = place.follow(&shim);
    for (run, text) in [(0, "main\n"), (1, "one\n"), (2, "two\n"), (3, "three\n")] {
        reader.until_output(run, text).await;
    }
    reader
        .until_control(|c| matches!(c, Control::Exited { run: 3, .. }))
        .await;
    shim.input(0, b"\n", false).await.unwrap();
    let pid = place.pid();
    let records = reader.end().await;
    assert_eq!(exit_of(&records, 0), Some((6, None)));
    assert_eq!(exit_of(&records, 1), Some((3, None)));
    assert_eq!(exit_of(&records, 2), Some((137, Some(9))));
    assert_eq!(exit_of(&records, 3), Some((8, None)));
    assert_eq!(controls(&records).last(), Some(&Control::Finished));
    gone(pid).await;
    let exit = std::fs::read_to_string(place.dir.path().join("exit")).unwrap();
    assert!(exit.starts_with("6 "), "{exit}");
}
