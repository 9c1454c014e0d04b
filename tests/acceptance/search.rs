//! Searching what all sessions said.

use crate::support::TestEnv;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// Sessions and lines of what `cldpd search` prints.
fn hits(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(|line| {
        let (session, rest) = line.split_once("  ").expect("a session");
        (session.to_owned(), rest.to_owned())
    });
    lines.collect()
}

#[test]
fn search_goes_through_all_history_newest_first() {
    let env = TestEnv::new();
    let web = env.local_pod("web").plain().make();
    let other = env.local_pod("other").plain().make();
    let first = env.start(&[
        &web,
        "--label",
        "team=a",
        "--prompt",
        "find the needle\n[[print a needle here]][[print nothing]][[err needle on stderr]][[exit 3]]",
    ]);
    assert_eq!(env.wait(&first), 3);
    env.cldpd(["rm", &first]).run().ok();
    let second = env.start(&[&other, "--prompt", "[[print Needle (two)]][[lines 2000]]"]);
    assert_eq!(env.wait(&second), 0);
    // What lives is searched too, and so is what the daemon before this recorded.
    env.kill_daemon();
    let third = env.start(&[&web, "--prompt", "[[print needle three]][[sleep 600000]]"]);
    env.await_line(&third, "needle three");

    let found = hits(&env.cldpd(["search", "^[a ]*needle"]).run().ok());
    let sessions: Vec<&str> = found.iter().map(|(session, _)| session.as_str()).collect();
    assert_eq!(sessions, [&third, &first, &first]);
    let ends = [
        "stdout  needle three",
        "stderr  needle on stderr",
        "stdout  a needle here",
    ];
    for ((_, rest), end) in found.iter().zip(ends) {
        let (time, line) = rest.split_once("  ").expect("a time");
        assert_eq!(line, end);
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
    }

    let ids = |args: &[&str]| {
        let all: Vec<&str> = ["search", "-l"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        let text = env.cldpd(all).run().ok();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["-i", "needle"]), [&*third, &*second, &*first]);
    assert_eq!(ids(&["-F", "Needle (two)"]), [&*second]);
    assert_eq!(ids(&["needle", "--pod", &web]), [&*third, &*first]);
    assert_eq!(ids(&["needle", "--state", "running"]), [&*third]);
    assert_eq!(ids(&["needle", "--label", "team=a"]), [&*first]);
    assert_eq!(ids(&["needle", "--stream", "stderr"]), [&*first]);
    assert_eq!(ids(&["find the", "--stream", "prompt"]), [&*first]);
    assert_eq!(ids(&["-i", "needle", "--limit", "2"]), [&*third, &*second]);
    assert_eq!(ids(&["needle", "--since", "1h"]), [&*third, &*first]);
    env.cldpd(["search", "needle", "--until", "1h"])
        .run()
        .code(1);

    let counts = env
        .cldpd(["search", "-c", "needle", "--stream", "stdout"])
        .run()
        .ok();
    assert_eq!(counts, format!("{third}  1\n{first}  1\n"));
    let all = env
        .cldpd(["search", "-c", "", "--stream", "stdout", "--pod", &other])
        .run()
        .ok();
    assert_eq!(all, format!("{second}  2001\n"));

    let text = env.cldpd(["search", "--json", "Needle .two"]).run();
    let items = text.jsonl();
    // The prompt has it too, and was recorded before.
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["kind"], "line");
    assert_eq!(items[0]["session"], Value::from(second.as_str()));
    assert_eq!(items[0]["line"], "Needle (two)");
    assert_eq!(items[0]["place"], "stdout");
    assert_eq!(items[0]["matches"], serde_json::json!([[0, 11]]));
    assert_eq!(items[1]["place"], "prompt");

    let coloured = env
        .cldpd(["search", "--color", "always", "e three$"])
        .run()
        .ok();
    assert!(
        coloured.ends_with("needl\x1b[31me three\x1b[0m\n"),
        "{coloured:?}"
    );
}

#[test]
fn search_exits_as_grep_does() {
    let env = TestEnv::new();
    let pod = env.local_pod("grep").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[lines 5000]]"]);
    assert_eq!(env.wait(&id), 0);
    let quiet = env.cldpd(["search", "-q", "line"]).run();
    assert_eq!(quiet.code(0).text(), "");
    assert_eq!(
        env.cldpd(["search", "no such line"]).run().code(1).text(),
        ""
    );
    let bad = env.cldpd(["search", "a(b"]).run().code(2);
    let said = bad.stderr;
    assert_eq!(
        said,
        "error: the pattern is not understood at character 2, \"(b\": unclosed group\n\
         hint: -F looks for the text as it is\n"
    );
    // A reader that has seen enough ends it.
    let script = "cldpd search . | head -n 1; echo ${PIPESTATUS[0]}";
    let path = std::path::Path::new(crate::support::env::BINARY);
    let dir = path.parent().expect("a directory").display().to_string();
    let output = crate::support::process::Cmd::new(&env, "/bin/bash", ["-c", script])
        .env("PATH", format!("{dir}:/usr/bin:/bin"))
        .run()
        .ok();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((lines.len(), lines[1]), (2, "0"), "{output}");
}

#[test]
fn searches_that_nobody_reads_hold_back_no_session() {
    let env = TestEnv::new();
    let pod = env.local_pod("many").plain().make();
    // What is found is many times what is buffered on its way.
    let id = env.start(&[&pod, "--prompt", "[[lines 100000]]"]);
    assert_eq!(env.wait(&id), 0);
    let socket = env.home().join("run/cldpd.sock");
    let stalled: Vec<UnixStream> = (0..16)
        .map(|_| {
            let mut stream = UnixStream::connect(&socket).expect("the daemon's socket");
            let request = "GET /v1/search?pattern=. HTTP/1.1\r\nHost: cldpd\r\n\r\n";
            stream.write_all(request.as_bytes()).expect("a request");
            // What is found begins to come; then nobody reads.
            let mut first = [0; 12];
            stream.read_exact(&mut first).expect("an answer");
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let refused = env.cldpd(["search", "line"]).run().code(75);
    assert_eq!(
        refused.stderr,
        "error: 16 searches are under way already\nhint: try again when one has ended\n"
    );
    let next = env.start(&[&pod, "--prompt", "[[lines 20000]]"]);
    assert_eq!(env.wait(&next), 0);
    drop(stalled);
}
