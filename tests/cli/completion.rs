//! What shells offer: asked as they ask.

use crate::support::TestEnv;
use crate::support::env::BINARY;
use crate::support::process::Cmd;

/// What bash offers for these words, of which the last is being written.
pub fn bash(env: &TestEnv, words: &[&str]) -> Vec<String> {
    let bin = env.bin().join("cldpd");
    if !bin.exists() {
        std::os::unix::fs::symlink(BINARY, &bin).expect("the directory is ours");
    }
    let path = format!("{}:/usr/bin:/bin", env.bin().display());
    // As bash does it: = is a word of its own, and what is replaced is empty then.
    let script = r#"
        source <(cldpd completion bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        COMP_LINE="${*}"; COMP_LINE="${COMP_LINE// = /=}"; COMP_LINE="${COMP_LINE/% =/=}"
        COMP_POINT=${#COMP_LINE}
        word="${COMP_WORDS[COMP_CWORD]}"
        [[ $word == = ]] && word=
        _cldpd cldpd "$word" "${COMP_WORDS[COMP_CWORD - 1]}"
        ((${#COMPREPLY[@]})) && printf '%s\n' "${COMPREPLY[@]}"
        exit 0
    "#;
    let mut args = vec!["--norc", "-c", script, "bash", "cldpd"];
    args.extend(words);
    let text = Cmd::new(env, "/bin/bash", args)
        .env("PATH", path)
        .run()
        .ok();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_takes_words_apart_and_gets_what_fits() {
    let env = TestEnv::new();
    let pod = env.fake_pod("web").plain().make();
    env.fake_pod("well").plain().make();
    assert_eq!(
        bash(&env, &["start", ""]),
        ["web", "well"],
        "without a daemon"
    );
    assert_eq!(bash(&env, &["stop", ""]), [""; 0]);
    assert!(!env.home().join("run").exists(), "none was started");

    let id = env.start(&[
        &pod,
        "-l",
        "team=a b",
        "-l",
        "team=ac",
        "--prompt",
        "[[exit 0]]",
    ]);
    env.wait(&id);
    let other = env.start(&[&pod, "-l", "team=ab", "--prompt", "[[exit 0]]"]);
    env.wait(&other);
    let labels = |words: &[&str]| {
        let all: Vec<&str> = ["sessions", "--label"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        bash(&env, &all)
    };
    assert_eq!(labels(&["te"]), ["team=ab", "team=ac"]);
    assert_eq!(labels(&["team", "="]), ["ab", "ac"]);
    assert_eq!(labels(&["team", "=", "ab"]), ["ab"]);
    assert_eq!(
        bash(&env, &["sessions", "--format", "=", "json"]),
        ["json", "jsonl"]
    );
    assert_eq!(bash(&env, &["start", "we", "--iss"]), ["--issue"]);
    assert_eq!(bash(&env, &["sessions", "--state", "fai"]), ["failed"]);
    // What stands there already is not offered again.
    assert_eq!(bash(&env, &["rm", &id, ""]), [other.as_str()]);
}

#[test]
fn zsh_and_fish_are_told_what_each_is() {
    let env = TestEnv::new();
    let pod = env.fake_pod("web").plain().make();
    let id = env.start(&[
        &pod,
        "--name",
        "mine",
        "--prompt",
        "[[print up]][[sleep 600000]]",
    ]);
    env.await_line(&id, "up");
    for shell in ["zsh", "fish"] {
        let text = env
            .cldpd(["__complete", shell, "--", "cldpd", "stop", ""])
            .run()
            .ok();
        let mut lines = text.lines();
        let first = lines.next().expect("the session");
        let (value, about) = first.split_once('\t').expect("with a description");
        assert_eq!(value, id);
        assert!(
            about.starts_with("running ") && about.contains("[[print up]]"),
            "{about}"
        );
        assert_eq!(lines.next(), Some(format!("mine\t{id}").as_str()));
        assert_eq!(lines.next(), None);
        let script = env.cldpd(["completion", shell]).run().ok();
        assert!(script.contains("__complete"), "{script}");
    }
}
