//! 5.7: conversations that are forked.

use crate::support::TestEnv;
use serde_json::Value;

#[test]
fn a071_a_fork_leaves_the_conversation_as_it_was() {
    let env = TestEnv::new();
    let pod = env.local_pod("fork").make();
    let id = env.start(&[&pod, "--prompt", "[[remember blue]]"]);
    assert_eq!(env.wait(&id), 0);
    let own = env.session(&id)["agent_session"].clone();
    let ask = |flags: &[&str], prompt: &str, code: i32| {
        let mut args = vec!["resume", &id];
        args.extend(flags);
        args.extend(["--prompt", prompt]);
        env.cldpd(args).run().code(code).text()
    };
    let run = |number: usize| env.inspect(&id)["record"]["runs"][number].clone();

    // It knows what was said, and the session's own conversation is not touched.
    let said = ask(&["--fork"], "[[recall]][[remember red]][[args]]", 0);
    assert!(said.contains("recalled: blue"), "{said}");
    assert!(said.contains("--fork-session"), "{said}");
    assert_eq!(env.session(&id)["agent_session"], own);
    let forked = run(1)["forked"].clone();
    assert!(forked.is_string() && forked != own, "{forked}");
    let said = ask(&[], "[[recall]]", 0);
    assert!(said.contains("blue") && !said.contains("red"), "{said}");

    // One that failed is none to go on with.
    ask(
        &["--fork"],
        "[[result is_error=true text=broke]][[exit 1]]",
        1,
    );
    assert_eq!(run(3)["forked"], Value::Null);
    let refused = env
        .cldpd(["resume", &id, "--from-fork", "3", "--prompt", "on"])
        .run()
        .code(5);
    assert!(
        refused.stderr.contains("made no fork"),
        "{}",
        refused.stderr
    );
    assert_eq!(env.session(&id)["agent_session"], own);

    // Gone on with, it is the conversation from then on.
    let said = ask(&["--from-fork", "1"], "[[recall]]", 0);
    assert!(said.contains("blue") && said.contains("red"), "{said}");
    assert_eq!(env.session(&id)["agent_session"], forked);
    let said = ask(&[], "[[recall]]", 0);
    assert!(said.contains("red"), "{said}");

    // Agents that cannot say so before anything is recorded.
    let plain = env.local_pod("no-fork").plain().make();
    let other = env.start(&[&plain, "--prompt", "[[print hi]]"]);
    assert_eq!(env.wait(&other), 0);
    let refused = env
        .cldpd(["resume", &other, "--fork", "--prompt", "x"])
        .run()
        .code(5);
    assert!(refused.stderr.contains("cannot fork"), "{}", refused.stderr);
    assert_eq!(env.session(&other)["runs"], 1);
}
