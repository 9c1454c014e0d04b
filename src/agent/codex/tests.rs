use super::*;
use crate::agent::tests::{kinds, reading_never_fails, said, spec, used, words};
use crate::model::usage::ByModel;

const LINES: &[&str] = &[
    r#"{"type":"thread.started","thread_id":"01a1fd2c-d024-7703-8858-3e7aa928d8f7"}"#,
    r#"{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Model metadata not found."}}"#,
    r#"{"type":"turn.started"}"#,
    r#"{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'echo hi'","aggregated_output":"","exit_code":null,"status":"in_progress"}}"#,
    r#"{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'echo hi'","aggregated_output":"shown\n","exit_code":0,"status":"completed"}}"#,
    r#"{"type":"item.completed","item":{"id":"item_2","type":"agent_message","text":"All done."}}"#,
    r#"{"type":"turn.completed","usage":{"input_tokens":10642,"cached_input_tokens":600,"cache_write_input_tokens":42,"output_tokens":12,"reasoning_output_tokens":3}}"#,
];

fn usage(input: u64, output: u64, cache_read: u64, cache_write: u64) -> Usage {
    Usage {
        input,
        output,
        cache_read,
        cache_write,
        cost_usd: None,
    }
}

#[test]
fn the_command_line() {
    let mut spec = spec(AgentKind::Codex);
    let bypass = "--dangerously-bypass-approvals-and-sandbox";
    assert_eq!(
        words(&Codex, &spec, None, None),
        format!("codex exec --json --skip-git-repo-check {bypass} -")
    );
    spec.model = Some("o9".to_owned());
    spec.pod.args = vec!["-c".to_owned(), "a=b".to_owned()];
    assert_eq!(
        words(&Codex, &spec, Some("T"), None),
        format!("codex exec resume --json --skip-git-repo-check {bypass} --model o9 -c a=b T -")
    );
    spec.permissions = Permissions::Default;
    spec.pod.entrypoint = Some(vec!["/opt/codex".to_owned()]);
    assert!(
        words(&Codex, &spec, None, None)
            .starts_with("/opt/codex exec --json --skip-git-repo-check --model")
    );
}

#[test]
fn a_run_is_understood() {
    let events = said(&Codex, Before::default(), LINES);
    assert_eq!(
        kinds(&events),
        ["init", "tool_use", "tool_result", "text", "usage", "result"]
    );
    assert!(
        matches!(&events[1], AgentEvent::ToolUse { summary, .. } if summary.contains("echo hi"))
    );
    assert!(matches!(
        events[2],
        AgentEvent::ToolResult {
            is_error: false,
            size: 6,
            ..
        }
    ));
    let all = usage(10_000, 12, 600, 42);
    assert_eq!(used(&events), all);
    let Some(AgentEvent::Result {
        outcome,
        text,
        usage,
        agent_session,
        ..
    }) = events.last()
    else {
        panic!("no result");
    };
    assert_eq!(
        (outcome, text.as_str(), *usage),
        (&Outcome::Success, "All done.", Some(all))
    );
    assert_eq!(
        agent_session.as_deref(),
        Some("01a1fd2c-d024-7703-8858-3e7aa928d8f7")
    );
}

#[test]
fn a_thread_counts_on_and_what_is_told_does_not() {
    let done = |input: u64, output: u64| {
        format!(
            r#"{{"usage":{{"input_tokens":{input},"output_tokens":{output}}},"type":"turn.completed"}}"#
        )
    };
    let first = said(&Codex, Before::default(), &[&done(400, 4)]);
    assert_eq!(used(&first), usage(400, 4, 0, 0));
    let mut account = crate::model::Account::default();
    for event in &first {
        account.take(event);
    }
    let before = |earlier: ByModel, account: crate::model::Account| Before {
        earlier,
        account,
        ..Before::default()
    };
    // A further process, and one that a restarted daemon reads on.
    let resumed = before(account.models.clone(), crate::model::Account::default());
    assert_eq!(
        used(&said(&Codex, resumed, &[&done(600, 6)])),
        usage(200, 2, 0, 0)
    );
    let same = before(ByModel::new(), account.clone());
    assert_eq!(
        used(&said(&Codex, same, &[&done(600, 6)])),
        usage(200, 2, 0, 0)
    );
    // One that counts from the beginning is told apart while it can be.
    let begun = before(account.models, crate::model::Account::default());
    assert_eq!(
        used(&said(&Codex, begun, &[&done(300, 3)])),
        usage(300, 3, 0, 0)
    );
}

#[test]
fn what_failed_and_what_is_tried_again() {
    let failed = |message: &str| {
        let line = format!(r#"{{"type":"turn.failed","error":{{"message":"{message}"}}}}"#);
        match said(&Codex, Before::default(), &[&line]).pop() {
            Some(AgentEvent::Result { outcome, .. }) => outcome,
            other => panic!("{other:?}"),
        }
    };
    let api = |status, retryable| Outcome::ApiError { status, retryable };
    assert_eq!(
        failed("unexpected status 401 Unauthorized"),
        api(Some(401), false)
    );
    assert_eq!(
        failed("exceeded retry limit, last status: 429"),
        api(Some(429), true)
    );
    assert_eq!(
        failed("stream disconnected before completion"),
        api(None, true)
    );
    assert_eq!(
        failed("Missing environment variable: `MOCK_API_KEY`."),
        Outcome::Failed
    );
    let again = r#"{"type":"error","message":"Reconnecting... 2/5 (unexpected status 500 x)"}"#;
    let fatal = r#"{"type":"error","message":"gone"}"#;
    let events = said(&Codex, Before::default(), &[again, fatal]);
    assert!(
        matches!(
            events[..],
            [AgentEvent::Retry {
                attempt: Some(2),
                max: Some(5),
                status: Some(500),
                ..
            }]
        ),
        "{events:?}"
    );
}

#[test]
fn other_items() {
    let lines = [
        r#"{"type":"item.completed","item":{"id":"a","type":"reasoning","text":"hm"}}"#,
        r#"{"type":"item.completed","item":{"id":"b","type":"file_change","changes":[{"path":"/a","kind":"add"},{"path":"/b","kind":"update"}],"status":"completed"}}"#,
        r#"{"type":"item.completed","item":{"id":"c","type":"mcp_tool_call","server":"s","tool":"t","arguments":{"query":"q"},"status":"failed"}}"#,
        r#"{"type":"item.updated","item":{"id":"d","type":"todo_list","items":[]}}"#,
        r#"{"type":"item.completed","item":{"id":"e","type":"new_thing"}}"#,
        r#"{"type":"turn.paused"}"#,
        "plain words",
        "{broken",
    ];
    let events = said(&Codex, Before::default(), &lines);
    let expected = [
        "thinking",
        "tool_use",
        "tool_result",
        "tool_use",
        "tool_result",
        "unknown",
        "unknown",
        "unknown",
    ];
    assert_eq!(kinds(&events), expected);
    assert!(matches!(&events[1], AgentEvent::ToolUse { summary, .. } if summary == "/a, /b"));
    assert!(
        matches!(&events[3], AgentEvent::ToolUse { name, summary, .. } if name == "s.t" && summary == "q")
    );
    assert!(matches!(
        events[4],
        AgentEvent::ToolResult { is_error: true, .. }
    ));
    assert!(matches!(
        events[7],
        AgentEvent::Unknown {
            malformed: true,
            ..
        }
    ));
    let mut teller = Codex.teller().unwrap();
    assert_eq!(teller.line(b"{broken"), None);
    let shown: Vec<String> = LINES[..7]
        .iter()
        .filter_map(|line| teller.line(line.as_bytes()))
        .flatten()
        .map(|shown| shown.text)
        .collect();
    assert_eq!(
        shown,
        [
            "Codex · 01a1fd2c-d024-7703-8858-3e7aa928d8f7",
            "→ command_execution /bin/bash -lc 'echo hi'",
            "← 6 bytes",
            "All done.",
            "success · 1 turn",
        ],
        "a command is told once"
    );
}

reading_never_fails!(Codex, LINES);
