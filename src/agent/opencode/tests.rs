use super::*;
use crate::agent::tests::{kinds, reading_never_fails, said, spec, used, words};

const LINES: &[&str] = &[
    r#"{"type":"step_start","timestamp":1,"sessionID":"ses_1","part":{"type":"step-start"}}"#,
    r#"{"type":"tool_use","timestamp":2,"sessionID":"ses_1","part":{"tool":"bash","callID":"c1","state":{"status":"completed","input":{"command":"ls"},"output":"a b","metadata":{"exit":0}}}}"#,
    r#"{"type":"step_finish","timestamp":3,"sessionID":"ses_1","part":{"reason":"tool-calls","tokens":{"total":115,"input":100,"output":10,"reasoning":5,"cache":{"read":0,"write":0}},"cost":0.001}}"#,
    r#"{"type":"text","timestamp":4,"sessionID":"ses_1","part":{"text":"Done."}}"#,
    r#"{"type":"step_finish","timestamp":5,"sessionID":"ses_1","part":{"reason":"stop","tokens":{"input":20,"output":4,"reasoning":0,"cache":{"read":100,"write":7}},"cost":0.0005}}"#,
];

#[test]
fn the_command_line() {
    let mut spec = spec(AgentKind::Opencode);
    assert_eq!(
        words(&Opencode, &spec, None, None),
        "opencode run --format json --auto"
    );
    spec.model = Some("p/m".to_owned());
    spec.permissions = Permissions::Default;
    assert_eq!(
        words(&Opencode, &spec, Some("ses_1"), None),
        "opencode run --format json --session ses_1 --model p/m"
    );
}

#[test]
fn a_run_is_understood() {
    let events = said(&Opencode, Before::default(), LINES);
    let expected = [
        "init",
        "tool_use",
        "tool_result",
        "usage",
        "text",
        "usage",
        "result",
    ];
    assert_eq!(kinds(&events), expected);
    let all = Usage {
        input: 120,
        output: 19,
        cache_read: 100,
        cache_write: 7,
        cost_usd: Some(0.0015),
    };
    assert_eq!(used(&events), all);
    let Some(AgentEvent::Result {
        outcome,
        text,
        turns,
        usage,
        agent_session,
        ..
    }) = events.last()
    else {
        panic!("no result");
    };
    assert_eq!(
        (outcome, text.as_str(), *turns, *usage),
        (&Outcome::Success, "Done.", Some(2), Some(all))
    );
    assert_eq!(agent_session.as_deref(), Some("ses_1"));
}

#[test]
fn what_failed() {
    let lines = [
        r#"{"type":"error","sessionID":"s","error":{"name":"APIError","data":{"message":"no","statusCode":401,"isRetryable":false}}}"#,
        r#"{"type":"error","sessionID":"s","error":{"name":"APIError","data":{"message":"busy","statusCode":503,"isRetryable":true}}}"#,
        r#"{"type":"error","sessionID":"s","error":{"name":"Unknown"}}"#,
        r#"{"type":"step_finish","sessionID":"s","part":{"reason":"length"}}"#,
        r#"{"type":"later","sessionID":"s"}"#,
    ];
    let events = said(&Opencode, Before::default(), &lines);
    let outcomes: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::Result { outcome, text, .. } => Some(format!("{outcome:?} {text}")),
            _ => None,
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            "ApiError { status: Some(401), retryable: false } no",
            "ApiError { status: Some(503), retryable: true } busy",
            "Failed Unknown",
            "Failed the answer ended early: length",
        ]
    );
    assert_eq!(kinds(&events).last().map(String::as_str), Some("unknown"));
}

reading_never_fails!(Opencode, LINES);
