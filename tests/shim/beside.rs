//! Programs beside the agent, over connections of their own.

use super::support::*;
use cldpd::model::exec::{Input, Output, WINDOW};
use cldpd::runtime::shim::channel::Beside;
use cldpd::runtime::shim::{Channel, ExecError, Peer, RunBody, ShimError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn script(text: &str) -> Beside {
    Beside {
        argv: ["/bin/sh", "-c", text]
            .map(|arg| arg.as_bytes().to_vec())
            .into(),
        ..Beside::default()
    }
}

async fn open(place: &Place, beside: &Beside) -> Result<Channel, ExecError> {
    Channel::open(&place.dir, Peer::Local, beside).await
}

/// The next frame; nothing when the connection is closed.
async fn next(channel: &mut Channel) -> Option<Output> {
    loop {
        if let Some(output) = Output::take(&mut channel.early).unwrap() {
            return Some(output);
        }
        let read = channel.stream.read_buf(&mut channel.early);
        match tokio::time::timeout(PATIENCE, read).await.unwrap() {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Everything up to the end: standard output and the exit code.
async fn rest(channel: &mut Channel) -> (Vec<u8>, Option<u8>) {
    let mut out = Vec::new();
    loop {
        match next(channel).await {
            Some(Output::Stdout(bytes)) => out.extend(bytes),
            Some(Output::Stderr(_) | Output::Taken(_)) => {}
            Some(Output::Exited { code, .. }) => return (out, Some(code)),
            None => return (out, None),
        }
    }
}

/// A shim with an agent that reads.
async fn working(options: &[&str]) -> (Place, cldpd::runtime::shim::Shim) {
    let place = Place::with(options);
    let shim = place.connect(5).await;
    let mut agent = RunBody {
        keep_stdin_open: true,
        ..sh("read x; echo agent $x")
    };
    agent.env = vec![(b"OF".to_vec(), b"agent".to_vec())];
    shim.run(&agent).await.unwrap();
    place
        .follow(&shim)
        .until_control(|c| matches!(c, cldpd::runtime::shim::Control::Started { .. }))
        .await;
    (place, shim)
}

#[tokio::test]
async fn a_program_beside_disturbs_nobody() {
    let (place, shim) = working(&[]).await;
    let mut channel = open(&place, &script("echo of $OF; cat; exit 3"))
        .await
        .unwrap();
    let said = [Input::Bytes(b"in\n").frame(), Input::End.frame()].concat();
    channel.stream.write_all(&said).await.unwrap();
    assert_eq!(
        rest(&mut channel).await,
        (b"of agent\nin\n".to_vec(), Some(3))
    );
    assert!(next(&mut channel).await.is_none());
    // The owner is the owner still, and nothing of it is in the spool.
    shim.input(0, b"end\n", false).await.unwrap();
    let records = place.follow(&shim).end().await;
    assert_eq!(text(&records, 0), "agent end\n");
    assert!(
        controls(&records)
            .iter()
            .all(|c| !format!("{c:?}").contains("run: 4294967295"))
    );
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_told_so() {
    let (place, _shim) = working(&[]).await;
    let missing = Beside {
        argv: vec![b"no-such-program".to_vec()],
        ..Beside::default()
    };
    let error = open(&place, &missing).await.unwrap_err();
    assert!(
        matches!(error, ExecError::NotRun { code: 127, .. }),
        "{error}"
    );
    let elsewhere = Beside {
        cwd: Some(b"/nowhere".to_vec()),
        ..script("true")
    };
    let error = open(&place, &elsewhere).await.unwrap_err();
    assert!(
        matches!(error, ExecError::NotRun { code: 127, .. }),
        "{error}"
    );
    let nothing = Beside::default();
    let error = open(&place, &nothing).await.unwrap_err();
    assert!(
        matches!(error, ExecError::NotRun { code: 125, .. }),
        "{error}"
    );
    let long = Beside {
        argv: vec![vec![b'x'; 300 * 1024]],
        ..Beside::default()
    };
    let error = open(&place, &long).await.unwrap_err();
    assert!(
        matches!(error, ExecError::Shim(ShimError::Refused { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_signal_comes_through_although_input_waits() {
    let (place, _shim) = working(&[]).await;
    let script = script("trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done");
    let mut channel = open(&place, &script).await.unwrap();
    assert_eq!(
        next(&mut channel).await,
        Some(Output::Stdout(b"up\n".to_vec()))
    );
    let piece = vec![b'x'; WINDOW / 8];
    for _ in 0..8 {
        channel
            .stream
            .write_all(&Input::Bytes(&piece).frame())
            .await
            .unwrap();
    }
    channel
        .stream
        .write_all(&Input::Signal(10).frame())
        .await
        .unwrap();
    assert_eq!(rest(&mut channel).await.1, Some(9));
}

#[tokio::test]
async fn who_sends_more_than_the_window_is_cut_off() {
    let (place, shim) = working(&["--grace", "50"]).await;
    let mut channel = open(&place, &script("echo up; exec sleep 600"))
        .await
        .unwrap();
    assert_eq!(
        next(&mut channel).await,
        Some(Output::Stdout(b"up\n".to_vec()))
    );
    let piece = vec![b'x'; WINDOW / 4];
    for _ in 0..7 {
        if channel
            .stream
            .write_all(&Input::Bytes(&piece).frame())
            .await
            .is_err()
        {
            break;
        }
    }
    assert_eq!(rest(&mut channel).await.1, None);
    shim.input(0, b"end\n", false).await.unwrap();
    assert_eq!(text(&place.follow(&shim).end().await, 0), "agent end\n");
}

#[tokio::test]
async fn a_closed_connection_ends_the_whole_tree() {
    let (place, _shim) = working(&["--grace", "50"]).await;
    // It ignores TERM, and has a child in a session of its own.
    let script = script("trap '' TERM; setsid sleep 600 & echo $! $$; wait");
    let mut channel = open(&place, &script).await.unwrap();
    let Some(Output::Stdout(said)) = next(&mut channel).await else {
        panic!("it says who they are");
    };
    let said = String::from_utf8(said).unwrap();
    let pids: Vec<i32> = said
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    drop(channel);
    for pid in pids {
        gone(pid).await;
    }
}

#[tokio::test]
async fn the_agents_end_waits_for_no_reader() {
    let (place, shim) = working(&["--grace", "50"]).await;
    let mut channel = open(&place, &script("exec yes")).await.unwrap();
    assert!(matches!(next(&mut channel).await, Some(Output::Stdout(_))));
    // Nobody reads on.
    let pid = place.pid();
    shim.input(0, b"end\n", false).await.unwrap();
    let records = place.follow(&shim).end().await;
    assert_eq!(exit_of(&records, 0), Some((0, None)));
    gone(pid).await;
}
