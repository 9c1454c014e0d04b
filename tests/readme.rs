//! What the README says is true: its snippet is the example, and the example runs.

use crate::support::TestEnv;
use crate::support::env::BINARY;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("../examples/dispatch.rs");

#[test]
fn the_snippet_is_the_example() {
    let begin = "```rust,no_run\n";
    let from = README.find(begin).expect("the README has a snippet") + begin.len();
    let snippet = &README[from..];
    let snippet = &snippet[..snippet.find("```").expect("it ends")];
    assert!(
        EXAMPLE.ends_with(snippet),
        "examples/dispatch.rs differs from the README's snippet"
    );
}

#[test]
fn the_example_runs() {
    let env = TestEnv::new();
    env.local_pod("myrepo")
        .plain()
        .json(serde_json::json!({"args": ["--", "x"]}))
        .make();
    // Beside the binary under test, where cargo puts examples when it builds tests.
    let example = Path::new(BINARY)
        .with_file_name("examples")
        .join("dispatch");
    let output = Command::new(&example)
        .env_clear()
        .envs(env.variables())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", example.display()));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    let ended = stdout
        .lines()
        .filter(|line| line.ends_with(" ended: success"))
        .count();
    assert_eq!(ended, 2, "{stdout}{stderr}");
}

#[test]
fn every_verb_is_in_the_help_that_the_readme_speaks_of() {
    let env = TestEnv::new();
    let help = env.cldpd(["--help"]).run().ok();
    let shell = README.split("```sh\n").skip(1);
    let shell = shell.filter_map(|block| block.split("```").next());
    let verbs = shell
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("cldpd "))
        .filter_map(|rest| rest.split_whitespace().next());
    for verb in verbs {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(verb)),
            "{verb} is in the README and not in --help"
        );
    }
}
