//! Every message that the guide quotes is one that the product says.

use super::block::blocks;
use crate::errors::TABLE;
use crate::support::TestEnv;
use crate::support::process::Output;

/// Does what is answered with a message.
type Provoke = fn(&TestEnv) -> Output;

/// Messages that the guide quotes beside those of the table of all errors.
const MORE: [(Provoke, &str); 2] = [
    (
        |env| {
            let pod = env.fake_pod("tmpl").make();
            let template = env.home().join("pods").join(&pod).join("template.md");
            std::fs::create_dir(template).expect("ours");
            env.cldpd(["start", &pod, "--prompt", "x"]).run()
        },
        "error: cannot read ROOT/c/pods/tmpl/template.md: not a regular file\n",
    ),
    (
        |env| {
            let pod = env.fake_pod("myrepo").make();
            let start = ["start", "-d", "--name", "nightly", &pod, "--prompt"];
            env.cldpd(start.iter().chain(&["[[sleep 600000]]"]))
                .run()
                .ok();
            env.cldpd(start.iter().chain(&["again"])).run()
        },
        "error: the name \"nightly\" is that of the live session myrepo-ID\nhint: choose another name\n",
    ),
];

/// A quoted message with what differs from case to case taken out.
pub fn general(text: &str) -> String {
    let text = text
        .replace("~/.cldpd", "ROOT/c")
        .replace(" ~/", " ROOT/u/")
        .replace("unix:///…/", "unix://ROOT/")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let digits = |text: &str, legal: fn(char) -> bool| {
            text.find(|c: char| !legal(c)).unwrap_or(text.len())
        };
        let hex = digits(rest, |c| c.is_ascii_hexdigit());
        let number = digits(rest, |c| c.is_ascii_digit() || c == '.');
        if out.ends_with('-') && hex == 8 && !rest.starts_with("0badc0de") {
            out.push_str("ID");
            rest = &rest[8..];
        } else if out.ends_with("(pid ") && number > 0 {
            out.push('N');
            rest = &rest[number..];
        } else if out.ends_with(" DONE ") && number > 0 {
            out.push('N');
            rest = rest[number..].trim_start_matches('s');
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[test]
fn every_message_that_is_quoted_is_said() {
    let mut said: Vec<String> = TABLE.iter().map(|case| case.stderr.to_owned()).collect();
    for (provoke, expected) in MORE {
        let env = TestEnv::new();
        let stderr = general(&env.redact(&provoke(&env).stderr));
        assert_eq!(stderr, expected);
        said.push(expected.to_owned());
    }
    // Names are unique in tests because engines are shared.
    let said: Vec<String> = said.iter().map(|text| text.replace("-TAG", "")).collect();
    let mut quoted = 0;
    for block in blocks("troubleshooting.md") {
        if block.info != "text" {
            continue;
        }
        assert!(block.text.starts_with("error: "), "{}", block.place);
        let text = general(&block.text);
        assert!(
            said.contains(&text),
            "{} is said by nobody:\n{text}",
            block.place
        );
        quoted += 1;
    }
    assert!(quoted >= 15, "{quoted}");
}
