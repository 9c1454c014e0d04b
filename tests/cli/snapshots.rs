//! What people see, held by files: every help, every command with no daemon and
//! with a dead engine, every list with no, one and ten thousand rows.
//!
//! `CLDPD_SNAPSHOTS=write cargo test --test it snapshots` writes the files anew.

use crate::support::{TestEnv, procfs};
use std::path::Path;

/// Compares `text` with the file of that name, or writes it.
#[track_caller]
fn held(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli/snapshots")
        .join(format!("{name}.txt"));
    if std::env::var("CLDPD_SNAPSHOTS").is_ok_and(|wanted| wanted == "write") {
        std::fs::write(&file, text).expect("the sources can be written");
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    if expected == text {
        return;
    }
    let (mut old, mut new) = (expected.lines(), text.lines());
    let mut line = 0;
    let (old, new) = loop {
        line += 1;
        match (old.next(), new.next()) {
            (a, b) if a == b && a.is_some() => {}
            (a, b) => break (a, b),
        }
    };
    panic!(
        "{}:{line} differs\n  was: {old:?}\n  is:  {new:?}\n\
         if that is meant: CLDPD_SNAPSHOTS=write cargo test --test it snapshots",
        file.display()
    );
}

/// A command's name, its help, and the same of all below it.
fn helps(env: &TestEnv, command: &[String], found: &mut Vec<(String, String, String)>) {
    let help = |flag: &str| {
        let args = command.iter().map(String::as_str).chain([flag]);
        env.cldpd(args).env("COLUMNS", "100").run().ok()
    };
    let (short, long) = (help("-h"), help("--help"));
    let commands = short
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let below: Vec<String> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    let name = command.join(" ");
    found.push((name, short, long));
    for name in below {
        let mut command = command.to_vec();
        command.push(name);
        helps(env, &command, found);
    }
}

/// Commands whose flags say all there is to say.
const PLAIN: [&str; 3] = ["doctor", "pod show", "pod check"];

#[test]
fn snapshots_of_every_help() {
    let env = TestEnv::new();
    let mut found = Vec::new();
    helps(&env, &[], &mut found);
    assert!(found.len() > 30, "{}", found.len());
    for (name, short, long) in &found {
        let group = short.contains("\nCommands:\n");
        let examples = long.lines().skip_while(|line| *line != "Examples:").skip(1);
        let examples = examples.filter(|line| line.contains("cldpd")).count();
        assert!(
            group || PLAIN.contains(&name.as_str()) || (1..=6).contains(&examples),
            "`cldpd {name} --help` has {examples} examples"
        );
        let file = match name.as_str() {
            "" => "help".to_owned(),
            name => format!("help-{}", name.replace(' ', "-")),
        };
        let text = format!("$ cldpd {name} -h\n{short}\n$ cldpd {name} --help\n{long}");
        held(&file, &text);
    }
    let codes = env.cldpd(["help", "exit-codes"]).run().ok();
    held("help-exit-codes", &codes);
}

/// What a command says, without what differs from run to run.
fn said(env: &TestEnv, args: &[&str], ids: &[&str]) -> String {
    let output = env.cldpd(args).env("COLUMNS", "100").run();
    let mut text = format!("$ cldpd {}\n", args.join(" "));
    text.push_str(&output.text());
    for line in output.stderr.lines() {
        text.push_str(&format!("! {line}\n"));
    }
    text.push_str(&format!("exit {}\n\n", output.code));
    steady(env, &text, ids)
}

fn steady(env: &TestEnv, text: &str, ids: &[&str]) -> String {
    let mut text = env.redact(text);
    for (index, id) in ids.iter().enumerate() {
        text = text.replace(id, &format!("SESSION-{index:0>4}"));
    }
    let mut out = String::new();
    for line in text.lines() {
        out.push_str(&steady_line(line));
        out.push('\n');
    }
    out
}

/// Without ages, image ids and how wide columns are: those are tables' own tests'.
fn steady_line(line: &str) -> String {
    let number = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
    let steady = |word: &str| {
        let age = word.strip_suffix(['s', 'm', 'h']).is_some_and(number);
        match age {
            true => "AGE".to_owned(),
            false if word.starts_with("fake:") => "IMAGE-ID".to_owned(),
            false => word.to_owned(),
        }
    };
    let mut out = String::new();
    let mut blanks = 0;
    for word in line.split(' ') {
        if word.is_empty() {
            blanks += 1;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if blanks > 0 { "  " } else { " " });
        }
        blanks = 0;
        out.push_str(&steady(word));
    }
    out
}

#[test]
fn snapshots_of_commands_without_a_daemon() {
    let env = TestEnv::new();
    env.fake_pod("pod").plain().make();
    let mut text = String::new();
    for args in [
        &["sessions"][..],
        &["sessions", "-a", "--json"],
        &["pods"],
        &["events"],
        &["stats"],
        &["stats", "--by", "nothing"],
        &["search", "nope"],
        &["search", "no(pe"],
        &["logs", "nope"],
        &["attach", "nope"],
        &["wait", "nope"],
        &["stop", "nope"],
        &["stop", "--all"],
        &["stop", "--all", "--yes"],
        &["kill", "nope"],
        &["inspect", "nope"],
        &["rm", "nope"],
        &["rm", "--older-than", "7d", "--yes"],
        &["resume", "nope", "--prompt", "x"],
        &["start", "nope", "--prompt", "x"],
        &["pod", "check"],
        &["pod", "check", "nope"],
        &["daemon", "status"],
        &["daemon", "stop"],
        &["version", "--daemon"],
        &["man", "nope"],
        &["help", "nope"],
    ] {
        text.push_str(&said(&env, args, &[]));
        // The next one finds none either.
        if env.home().join("run/cldpd.sock").exists() {
            env.stop_daemon();
        }
    }
    held("no-daemon", &text);
}

#[test]
fn snapshots_of_commands_with_a_dead_engine() {
    let env = TestEnv::new();
    let config = format!(
        "[docker]\nhost = \"unix://{}/no.sock\"\n",
        env.root().display()
    );
    env.config(&config);
    let dir = env.pod("dead").dockerfile("FROM scratch\n").dir();
    std::fs::create_dir_all(&dir).expect("the home is ours");
    std::fs::write(dir.join("Dockerfile"), "FROM scratch\n").expect("the home is ours");
    let mut text = String::new();
    for args in [
        &["start", "dead", "--prompt", "x"][..],
        &["start", "-d", "dead", "--prompt", "x"],
        &["sessions", "-a"],
        &["pods"],
        &["pods", "-q"],
        &["pod", "check"],
        &["events"],
        &["stop", "dead"],
        &["rm", "dead"],
    ] {
        text.push_str(&said(&env, args, &[]));
    }
    held("dead-engine", &text);
}

/// The lists, as they are to be seen.
const LISTS: [&[&str]; 6] = [
    &["sessions"],
    &["sessions", "-a"],
    &["sessions", "-a", "-o", "wide"],
    &["sessions", "-q"],
    &["sessions", "--format", "jsonl"],
    &["pods"],
];

#[test]
fn snapshots_of_lists_with_no_and_one_row() {
    let env = TestEnv::new();
    let mut text = String::new();
    for args in LISTS {
        text.push_str(&said(&env, args, &[]));
    }
    held("lists-0", &text);

    let pod = env.fake_pod("pod").plain().make();
    let id = env.start(&[
        &pod,
        "--name",
        "named",
        "-l",
        "team=web",
        "--prompt",
        "[[print ready]][[sleep 600000]] \u{1b}[31m言葉 👩\u{200d}🔬\u{1b}[0m",
    ]);
    env.await_line(&id, "ready");
    let mut text = String::new();
    for args in LISTS.iter().filter(|args| !args.contains(&"jsonl")) {
        text.push_str(&said(&env, args, &[&id]));
    }
    held("lists-1", &text);
}

#[test]
fn snapshots_of_lists_with_ten_thousand_rows() {
    let env = TestEnv::new();
    env.config("[limits]\nmax_parallel = 1\n");
    let pod = env.fake_pod("pod").plain().make();
    let holder = env.start(&[&pod, "--prompt", "[[print ready]][[sleep 600000]] hold"]);
    env.await_line(&holder, "ready");
    for batch in 0..10 {
        let count = if batch == 9 { "999" } else { "1000" };
        let prompt = format!("batch {batch}");
        let ids = env.start_many(&[&pod, "--count", count, "--prompt", &prompt]);
        assert_eq!(ids.len().to_string(), count);
    }
    let mut text = String::new();
    for args in LISTS {
        if args.contains(&"pods") {
            continue;
        }
        let output = env.cldpd(args).env("COLUMNS", "100").run().ok();
        let lines: Vec<&str> = output.lines().collect();
        // The newest, the oldest and how many: in the order of their dispatch.
        text.push_str(&format!(
            "$ cldpd {}: {} lines\n",
            args.join(" "),
            lines.len()
        ));
        let widest = lines.iter().map(|line| line.chars().count()).max();
        if args.contains(&"jsonl") || args.contains(&"-q") {
            continue;
        }
        for line in lines[..3].iter().chain(&lines[lines.len() - 2..]) {
            let cells: Vec<&str> = line.split("  ").map(str::trim).collect();
            let cells: Vec<&str> = cells.into_iter().filter(|cell| !cell.is_empty()).collect();
            let (first, last) = (cells.get(2), cells.last());
            text.push_str(&format!(
                "{} | {}\n",
                first.unwrap_or(&""),
                last.unwrap_or(&"")
            ));
        }
        assert!(widest.is_some());
    }
    held("lists-10000", &steady(&env, &text, &[]));
    // Ten thousand sessions need no goodbye each: their daemon goes, and what it held.
    env.kill_daemon();
    procfs::kill_all_of(env.root());
    std::fs::remove_dir_all(env.home().join("run")).expect("the home is ours");
}
