//! The commands of each page, run as they stand there.

use super::block::{Block, blocks, guide};
use super::messages::general;
use crate::support::TestEnv;
use crate::support::env::BINARY;
use crate::support::process::{Cmd, Output};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;

/// Between what two blocks print.
const MARK: char = '\u{1e}';
/// Values that are compared by the letter; of others the kind has to fit.
const LITERAL: [&str; 10] = [
    "kind",
    "outcome",
    "stream",
    "data",
    "code",
    "exit_code",
    "message",
    "hint",
    "end",
    "run",
];

/// Runs the commands of a page; `between` has further ones, to be run before the
/// block of that number. Gives what each block printed.
#[track_caller]
fn run(env: &TestEnv, page: &str, between: &[(usize, String)]) -> Vec<(Block, String)> {
    let path = env.root().join("path");
    std::fs::create_dir_all(&path).expect("ours");
    let _ = symlink(BINARY, path.join("cldpd"));
    let _ = symlink(env.home(), env.user_home().join(".cldpd"));
    let blocks = blocks(page);
    check_tools(&blocks);
    let mut script = String::new();
    let commands = || blocks.iter().filter(|block| is_shell(block));
    for (number, block) in commands().enumerate() {
        for (_, text) in between.iter().filter(|(before, _)| *before == number) {
            script.push_str(&format!("{{ {text}; }} >&2\n"));
        }
        // The last line that was begun is in the message when it fails.
        script.push_str(&format!("echo '{}' >&2\nprintf '{MARK}'\n", block.place));
        script.push_str(&block.text);
    }
    let path = format!("{}:/usr/bin:/bin", path.display());
    let output: Output = Cmd::new(env, "/bin/bash", ["-e", "-c", &script])
        .env("PATH", path)
        .env("COLUMNS", "80")
        .run()
        .code(0);
    let text = output.text();
    let printed: Vec<&str> = text.split(MARK).skip(1).collect();
    assert_eq!(printed.len(), commands().count(), "{text}");
    let mut printed = printed.into_iter();
    let mut all: Vec<(Block, String)> = Vec::new();
    for block in blocks {
        if is_shell(&block) {
            let said = printed.next().expect("as many as there are");
            all.push((block, said.to_owned()));
        } else if block.info.ends_with(" output") {
            let (_, said) = all.last().expect("something printed it");
            match block.info.as_str() {
                "json output" => fits(&block, said),
                _ => assert_eq!(general(&block.text), general(said), "{}", block.place),
            }
        }
    }
    all
}

fn is_shell(block: &Block) -> bool {
    matches!(block.info.as_str(), "sh" | "sh engine")
}

/// What is missing is said before anything fails for it.
fn check_tools(blocks: &[Block]) {
    let uses_curl = blocks.iter().any(|block| block.text.contains("curl "));
    let has_curl = ["/usr/bin/curl", "/bin/curl"]
        .iter()
        .any(|path| std::path::Path::new(path).exists());
    assert!(
        has_curl || !uses_curl,
        "curl is not installed: scripts/engine.sh installs it on Debian, as root"
    );
}

/// What is shown has the form of what was printed, line by line.
#[track_caller]
fn fits(block: &Block, said: &str) {
    let read = |line: &str| -> Value {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", block.place))
    };
    let shown: Vec<Value> = block.text.lines().map(read).collect();
    let said: Vec<Value> = said.lines().map(read).collect();
    assert_eq!(shown.len(), said.len(), "{}: {said:#?}", block.place);
    for (shown, said) in shown.iter().zip(&said) {
        same_form(block, "", shown, said);
    }
}

#[track_caller]
fn same_form(block: &Block, key: &str, shown: &Value, said: &Value) {
    let wrong = || panic!("{}: {key}: shown {shown}, printed {said}", block.place);
    match (shown, said) {
        (Value::Object(shown), Value::Object(said)) => {
            let keys: Vec<&String> = shown.keys().collect();
            assert_eq!(keys, said.keys().collect::<Vec<_>>(), "{}", block.place);
            for (key, value) in shown {
                same_form(block, key, value, &said[key]);
            }
        }
        (Value::Array(shown), Value::Array(said)) => {
            for (shown, said) in shown.iter().zip(said) {
                same_form(block, key, shown, said);
            }
        }
        (Value::Null, _) | (_, Value::Null) if !LITERAL.contains(&key) => {}
        _ if LITERAL.contains(&key) => {
            if shown != said {
                wrong();
            }
        }
        _ => {
            let kind = std::mem::discriminant::<Value>;
            if kind(shown) != kind(said) {
                wrong();
            }
        }
    }
}

#[test]
fn the_quick_start_runs_on_a_real_engine() {
    let env = TestEnv::new();
    let image = format!("cldpd-guide-{}", env.tag());
    env.owns_image(&image);
    let pod = env.docker_pod("guide").json(json!({"image": image})).make();
    let pods = env.home().join("pods");
    // What `pod new` made would be built from a registry; what it says is checked.
    let swap = format!(
        "rm -r {0}/myrepo && mv {0}/{pod} {0}/myrepo",
        pods.display()
    );
    let printed = run(&env, "quickstart.md", &[(2, swap)]);
    let replayed = &printed.last().expect("blocks").1;
    assert!(
        !replayed.is_empty(),
        "a removed session still has its history"
    );
}

#[test]
fn the_concepts_hold() {
    let env = TestEnv::new();
    env.local_pod("myrepo").plain().make();
    let printed = run(&env, "concepts.md", &[]);
    assert!(printed[0].1.contains("tick 5\n"), "{}", printed[0].1);
}

#[test]
fn the_api_answers_as_its_page_says() {
    let env = TestEnv::new();
    env.local_pod("myrepo").plain().make();
    let printed = run(&env, "api.md", &[]);
    let events = printed
        .iter()
        .find(|(block, _)| block.text.contains("Last-Event-ID: 6"));
    let (_, events) = events.expect("the page has them");
    assert!(events.starts_with("id: 7\ndata: {"), "{events}");
    assert!(
        events.ends_with("event: end\ndata: {\"end\":true}\n\n"),
        "{events}"
    );
}

#[test]
fn troubles_are_what_their_page_says() {
    let env = TestEnv::new();
    env.local_pod("myrepo").plain().make();
    run(&env, "troubleshooting.md", &[]);
}

#[test]
fn many_sessions_go_as_their_page_says() {
    let env = TestEnv::new();
    env.local_pod("myrepo").plain().make();
    run(&env, "many.md", &[]);
}

#[test]
fn inside_a_session_is_as_its_page_says() {
    let env = TestEnv::new();
    env.local_pod("myrepo").plain().make();
    run(&env, "inside.md", &[]);
}

#[test]
fn the_daemon_comes_and_goes_as_its_page_says() {
    let env = TestEnv::new();
    env.local_pod("myrepo").plain().make();
    let printed = run(&env, "daemon.md", &[]);
    assert_eq!(printed[0].1, "3\nit ended with 3\n");
}

#[test]
fn the_journal_is_looked_after_as_its_page_says() {
    let env = TestEnv::new();
    env.local_pod("myrepo").plain().make();
    let printed = run(&env, "journal.md", &[]);
    assert!(printed[0].1.contains("all is well"), "{}", printed[0].1);
}

#[test]
fn engines_are_looked_at_as_their_page_says() {
    let env = TestEnv::new();
    let printed = run(&env, "engines.md", &[]);
    assert!(!printed[0].1.is_empty());
}

#[test]
fn every_setting_that_is_shown_is_one() {
    let env = TestEnv::new();
    for page in ["many.md", "engines.md", "api.md"] {
        for block in blocks(page).iter().filter(|block| block.info == "toml") {
            env.config(&block.text);
            let output = env.cldpd(["config"]).run();
            assert_eq!(output.code, 0, "{}: {}", block.place, output.stderr);
        }
    }
}

#[test]
fn every_page_is_run() {
    let here = include_str!("pages.rs");
    for entry in std::fs::read_dir(guide()).expect("the guide").flatten() {
        let page = entry.file_name().to_string_lossy().into_owned();
        let shell = blocks(&page).iter().any(is_shell);
        assert!(
            !shell || here.contains(&format!("run(&env, \"{page}\"")),
            "{page}"
        );
    }
}

#[test]
fn every_pod_that_is_shown_is_a_good_one() {
    let env = TestEnv::new();
    run(&env, "pods.md", &[]);
    let mut shown = Vec::new();
    for (number, block) in blocks("pods.md").iter().enumerate() {
        if block.info != "json" {
            continue;
        }
        let pod = env.pod(&format!("pod-{number}"));
        let dir = pod.dir();
        let pod = pod.raw_json(&block.text).make();
        let value: Value = serde_json::from_str(&block.text).expect("JSON");
        // Secrets' files are the reader's own.
        if let Some(secrets) = value["secrets"].as_array() {
            for file in secrets.iter().filter_map(|secret| secret["file"].as_str()) {
                let file = env.user_home().join(file.trim_start_matches("~/"));
                std::fs::create_dir_all(file.parent().expect("a directory")).expect("ours");
                std::fs::write(file, "value").expect("ours");
            }
        }
        let checked = env.cldpd(["pod", "check", &pod]).run();
        assert_eq!(checked.code, 0, "{}: {}", block.place, checked.stderr);
        shown.extend(value.as_object().expect("an object").keys().cloned());
        std::fs::remove_dir_all(dir).expect("ours");
    }
    let schema = env.cldpd(["pod", "schema"]).run().json();
    let keys = schema["properties"].as_object().expect("keys").keys();
    let page = std::fs::read_to_string(guide().join("pods.md")).expect("a page");
    for key in keys {
        assert!(shown.contains(key), "pods.md has no example of {key}");
        assert!(
            page.contains(&format!("`{key}`"))
                || key == "$schema"
                || page.contains(&format!("\"{key}\"")),
            "{key}"
        );
    }
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let guide = std::fs::read_dir(guide()).expect("the guide");
    pages.extend(guide.flatten().map(|entry| entry.path()));
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap_or_default();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = page.parent().expect("a directory").join(link);
            assert!(target.exists(), "{}: {link}", page.display());
        }
    }
}
