//! What command lines mean.

use super::{Command, run_async};
use crate::block::stream::control;
use crate::cli::Context;
use crate::cli::args::Cli;
use crate::cli::error::Failure;
use crate::client::testing::{Answer, Server, block, event};
use crate::model::api::StartRequest;
use crate::model::{Error, ErrorCode};
use clap::{CommandFactory as _, Parser as _};

fn parse(line: &[&str]) -> Result<Command, String> {
    let cli = Cli::try_parse_from(std::iter::once("cldpd").chain(line.iter().copied()));
    cli.map(|cli| cli.command).map_err(|e| e.to_string())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a001_flags_and_positions_come_in_any_order() -> Result<(), String> {
    let url = "https://github.com/org/repo/issues/42";
    let orders: [&[&str]; 5] = [
        &[
            "start", "myrepo", "-d", "--issue", url, "--env", "A=b", "--count", "2",
        ],
        &[
            "start",
            "--issue",
            url,
            "--count=2",
            "-d",
            "--env",
            "A=b",
            "myrepo",
        ],
        &[
            "start",
            "--env=A=b",
            "myrepo",
            "--issue",
            url,
            "--detach",
            "--count",
            "2",
        ],
        &[
            "start", "-d", "--count", "2", "myrepo", "--issue", url, "-e", "A=b",
        ],
        &[
            "--color", "auto", "start", "-de", "A=b", "--count", "2", "-i", url, "--", "myrepo",
        ],
    ];
    let shown = |line: &[&str]| parse(line).map(|command| format!("{command:?}"));
    let first = shown(orders[0])?;
    assert!(first.contains("myrepo") && first.contains(url), "{first}");
    for order in orders {
        assert_eq!(shown(order)?, first, "{order:?}");
    }
    let orders: [&[&str]; 3] = [
        &["resume", "-d", "s", "--prompt", "more"],
        &["resume", "--prompt", "more", "-d", "s"],
        &["resume", "s", "--prompt=more", "--detach"],
    ];
    let first = shown(orders[0])?;
    for order in orders {
        assert_eq!(shown(order)?, first, "{order:?}");
    }
    Ok(())
}

#[test]
fn global_flags_stand_anywhere() -> Result<(), clap::Error> {
    for line in ["cldpd --home /h sessions -a", "cldpd sessions -a --home /h"] {
        let cli = Cli::try_parse_from(line.split(' '))?;
        assert_eq!(cli.global.home.as_deref(), Some(std::path::Path::new("/h")));
    }
    Ok(())
}

#[test]
fn a_prompt_may_begin_with_a_dash() -> Result<(), String> {
    let shown = format!("{:?}", parse(&["start", "p", "--prompt", "--force -x"])?);
    assert!(shown.contains("--force -x"), "{shown}");
    Ok(())
}

#[test]
fn names_that_others_use_are_known() -> Result<(), String> {
    for alias in ["ps", "ls"] {
        assert!(matches!(parse(&[alias, "-a"])?, Command::Sessions(_)));
    }
    assert!(parse(&["logs", "-f", "-n", "all", "-t", "s", "--stream", "stderr"]).is_ok());
    assert!(parse(&["stop", "--all"]).is_ok() && parse(&["rm", "--older-than", "7d"]).is_ok());
    Ok(())
}

#[test]
fn forms_that_exclude_each_other_are_refused() {
    let lines: [&[&str]; 5] = [
        &["start", "p", "--issue", "u", "--prompt", "x"],
        &["logs", "s", "--raw", "--format", "jsonl"],
        &["sessions", "-q", "--json"],
        &["stop", "--all", "s"],
        &["stop"],
    ];
    for line in lines {
        assert!(parse(line).is_err(), "{line:?}");
    }
}

const ID: &str = "mypod-00000001";
const ULID: &str = "00000000000000000000000001";

fn inspection() -> serde_json::Value {
    let pod = serde_json::json!({ "name": "mypod", "dir": "/p", "image": "cldpd-mypod", "dockerfile": true });
    serde_json::json!({
        "id": ID, "ulid": ULID, "pod": "mypod", "runtime": "docker", "agent": "command",
        "state": "running", "runs": 1, "run": 0, "created": "2026-01-01T00:00:00Z",
        "prompt": "do it",
        "spec": { "runtime": "docker", "agent": "command", "pod": pod },
        "record": {
            "ulid": ULID, "id": ID, "pod": "mypod", "runtime": "docker", "agent": "command",
            "created": "2026-01-01T00:00:00Z", "keep": { "days": 7 }, "runs": [],
        },
        "last_seq": 1, "argv": [], "directory": "/d",
    })
}

/// A daemon with one pod and one session, whose agent exits with 7.
fn daemon() -> Result<Server, Error> {
    Server::answering(|request| {
        let (method, path) = request.split_once(' ').unwrap_or_default();
        let value = match (method, path.split('?').next().unwrap_or_default()) {
            ("GET", "/v1/pods/mypod") => serde_json::json!({
                "name": "mypod", "dir": "/p", "inherit_env": ["PATH", "CLDPD_TEST_NOT_SET"],
            }),
            ("POST", "/v1/sessions") => serde_json::json!({
                "sessions": [{ "id": ID, "ulid": ULID }], "notes": ["be careful"],
            }),
            ("GET", "/v1/sessions") => serde_json::json!([]),
            (_, path) if path.ends_with("/events") => {
                return Answer::stream(&[&event(1), &event(2), "{\"end\":true}\n"]);
            }
            (_, path) if path.ends_with("/blocks") => {
                let begin = control(&serde_json::json!({ "session": ULID, "after": 0 }));
                let end = control(&serde_json::json!({ "end": true }));
                return Answer::bytes(&[&begin, &block(1..=2), &end]);
            }
            (_, path) if path.ends_with("/wait") => serde_json::json!({
                "id": ID, "run": 0, "outcome": "failed", "code": 7, "exit_code": 7,
            }),
            ("POST", path) if path.ends_with("/stop") => {
                serde_json::json!({ "id": ID, "was_live": false })
            }
            ("GET", "/v1/sessions/mypod") => inspection(),
            _ => {
                let error = Error::new(ErrorCode::SessionNotFound, format!("no session: {path}"));
                return Answer::error(404, &error);
            }
        };
        Answer::json(&value)
    })
}

/// Runs a command line: its exit code, standard output and standard error.
async fn ran(server: &Server, line: &[&str]) -> Result<(u8, String, String), Failure> {
    let (mut context, out, err) = Context::captured(server.home());
    let command = parse(line).map_err(|e| Error::new(ErrorCode::Usage, e))?;
    let code = run_async(&mut context, command).await?;
    context.ui.flush()?;
    Ok((code, out.text(), err.text()))
}

#[tokio::test(flavor = "current_thread")]
async fn start_streams_and_exits_with_the_agents_code() -> Result<(), Failure> {
    let server = daemon()?;
    let line = ["start", "mypod", "--prompt", "do it", "--env", "A=b"];
    let (code, out, err) = ran(&server, &line).await?;
    assert_eq!((code, out.as_str()), (7, "line 1\nline 2\n"));
    assert!(
        err.contains(ID) && err.contains("note: be careful"),
        "{err}"
    );
    let body = server.bodies("POST /v1/sessions").concat();
    let request: StartRequest =
        serde_json::from_str(&body).map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
    assert_eq!(request.env.get("A").map(String::as_str), Some("b"));
    let inherited: Vec<&String> = request.inherited.keys().collect();
    assert_eq!(inherited, ["PATH"], "what is set here");
    Ok(())
}

#[tokio::test(flavor = "current_thread")]
async fn start_in_the_background_prints_ids_only() -> Result<(), Failure> {
    let server = daemon()?;
    let line = [
        "start",
        "-d",
        "mypod",
        "--issue",
        "https://github.com/o/r/issues/1",
    ];
    let (code, out, _) = ran(&server, &line).await?;
    assert_eq!((code, out.as_str()), (0, "mypod-00000001\n"));
    assert!(!server.requests().iter().any(|r| r.contains("/events")));
    Ok(())
}

#[tokio::test(flavor = "current_thread")]
async fn a002_what_is_missing_is_named_and_nobody_is_asked() -> Result<(), Failure> {
    let server = daemon()?;
    let cases: [(&[&str], &str); 6] = [
        (&["start"], "<POD>"),
        (&["start", "--issue", "u"], "<POD>"),
        (
            &["start", "mypod"],
            "--issue <URL>, --prompt <TEXT> or --prompt-file <FILE>",
        ),
        (&["start", "mypod", "--prompt", " "], "the prompt is empty"),
        (
            &["start", "mypod", "--prompt-file", "/nonexistent"],
            "/nonexistent",
        ),
        (&["resume", "mypod"], "missing the prompt"),
    ];
    for (line, missing) in cases {
        match ran(&server, line).await {
            Err(Failure::Error(error)) => {
                assert_eq!(error.code, ErrorCode::Usage);
                assert!(error.message.contains(missing), "{line:?}: {error}");
                assert_eq!(error.message.lines().count(), 1);
            }
            other => assert!(other.is_err(), "{line:?}: {other:?}"),
        }
    }
    for line in [
        ["logs", "../x"],
        ["wait", "a/b"],
        ["stop", "."],
        ["rm", ".."],
        ["inspect", ""],
    ] {
        let refused = ran(&server, &line).await;
        assert!(
            matches!(refused, Err(Failure::Error(e)) if e.message.contains("invalid session id"))
        );
    }
    assert_eq!(server.requests(), [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "current_thread")]
async fn logs_that_follow_end_with_the_sessions_code() -> Result<(), Failure> {
    let server = daemon()?;
    let (code, out, _) = ran(&server, &["logs", "mypod"]).await?;
    assert_eq!((code, out.as_str()), (0, "line 1\nline 2\n"));
    let (code, out, _) = ran(&server, &["logs", "-f", "-t", "mypod"]).await?;
    assert_eq!(code, 7);
    assert!(
        out.starts_with("2026-01-01T00:00:00.000000000Z line 1\n"),
        "{out}"
    );
    let (_, out, _) = ran(&server, &["logs", "--format", "jsonl", "mypod"]).await?;
    assert!(out.starts_with("{\"session\":\"mypod-00000001\""), "{out}");
    let (code, ..) = ran(&server, &["attach", "mypod"]).await?;
    assert_eq!(code, 7);
    Ok(())
}

#[tokio::test(flavor = "current_thread")]
async fn an_empty_list_has_its_titles() -> Result<(), Failure> {
    let server = daemon()?;
    let (_, out, _) = ran(&server, &["sessions"]).await?;
    assert_eq!(
        out,
        "SESSION  POD  STATE  RUNS  COST  TOKENS  STARTED  PROMPT\n"
    );
    let (_, out, _) = ran(&server, &["ps", "-a", "--json", "--limit", "3"]).await?;
    assert_eq!(out, "[]\n");
    assert!(
        server
            .requests()
            .iter()
            .any(|r| r == "GET /v1/sessions?all=true&limit=3")
    );
    Ok(())
}

#[tokio::test(flavor = "current_thread")]
async fn several_sessions_fail_each_for_itself() -> Result<(), Failure> {
    let server = daemon()?;
    let (code, out, err) = ran(&server, &["stop", "mypod"]).await?;
    assert_eq!((code, out.as_str()), (0, "mypod-00000001\n"));
    assert!(err.contains("has ended already"), "{err}");
    let (code, out, err) = ran(&server, &["inspect", "nope", "mypod"]).await?;
    assert_eq!(code, 3);
    assert!(out.contains(ULID) && err.contains("nope"), "{out}{err}");
    let (code, out, _) = ran(&server, &["wait", "mypod", "mypod"]).await?;
    assert_eq!((code, out.as_str()), (7, "7\n7\n"));
    Ok(())
}
