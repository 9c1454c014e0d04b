use super::*;
use crate::agent::tests::{kinds, reading_never_fails, said, spec, used, words};

const LINES: &[&str] = &[
    r#"{"type":"init","timestamp":"2026-11-21T07:00:00Z","session_id":"7f-1","model":"gemini-9"}"#,
    r#"{"type":"message","role":"user","content":"do it"}"#,
    r#"{"type":"message","role":"assistant","content":"Let me ","delta":true}"#,
    r#"{"type":"message","role":"assistant","content":"look.","delta":true}"#,
    r#"{"type":"tool_use","tool_name":"run_shell_command","tool_id":"t1","parameters":{"command":"ls -l"}}"#,
    r#"{"type":"tool_result","tool_id":"t1","status":"success","output":"four"}"#,
    r#"{"type":"message","role":"assistant","content":"Done.","delta":true}"#,
    r#"{"type":"result","status":"success","stats":{"total_tokens":130,"input_tokens":100,"output_tokens":30,"cached":40,"input":60,"duration_ms":900,"tool_calls":1,"models":{"gemini-9":{"total_tokens":130,"input_tokens":100,"output_tokens":30,"cached":40,"input":60}}}}"#,
];

#[test]
fn the_command_line() {
    let mut spec = spec(AgentKind::Gemini);
    let fixed = "gemini --output-format stream-json";
    assert_eq!(
        words(&Gemini, &spec, None, Some("ID")),
        format!("{fixed} --session-id ID --yolo --skip-trust")
    );
    spec.model = Some("m".to_owned());
    spec.permissions = Permissions::Default;
    assert_eq!(
        words(&Gemini, &spec, Some("R"), Some("ID")),
        format!("{fixed} --resume R --model m")
    );
}

#[test]
fn a_run_is_understood() {
    let events = said(&Gemini, Before::default(), LINES);
    assert_eq!(
        kinds(&events),
        [
            "init",
            "text",
            "tool_use",
            "tool_result",
            "text",
            "usage",
            "result"
        ]
    );
    assert!(matches!(&events[1], AgentEvent::Text { text, .. } if text == "Let me look."));
    let all = Usage {
        input: 60,
        output: 30,
        cache_read: 40,
        ..Usage::default()
    };
    assert_eq!(used(&events), all);
    let Some(AgentEvent::Result {
        outcome,
        text,
        turns,
        duration_ms,
        ..
    }) = events.last()
    else {
        panic!("no result");
    };
    assert_eq!(
        (outcome, text.as_str(), *turns, *duration_ms),
        (&Outcome::Success, "Done.", Some(2), Some(900))
    );
    // A run that is resumed counts from the beginning.
    let mut account = crate::model::Account::default();
    for event in &events {
        account.take(event);
    }
    let before = Before {
        earlier: account.models,
        ..Before::default()
    };
    assert_eq!(used(&said(&Gemini, before, LINES)), all);
}

#[test]
fn what_was_said_before_a_kill_is_not_lost() {
    assert_eq!(
        kinds(&said(&Gemini, Before::default(), &LINES[..4])),
        ["init", "text"]
    );
    let long = format!(
        r#"{{"type":"message","role":"assistant","content":"{}","delta":true}}"#,
        "é".repeat(9000)
    );
    let events = said(&Gemini, Before::default(), &[&long, &long]);
    assert!(
        matches!(&events[..], [AgentEvent::Text { text, .. }] if text.len() <= 4096 && text.ends_with('…'))
    );
}

#[test]
fn what_failed() {
    let lines = [
        r#"{"type":"error","severity":"error","message":"got status: 429 Too Many Requests"}"#,
        r#"{"type":"result","status":"error"}"#,
        r#"{"type":"result","status":"error","error":{"type":"Auth","message":"no","code":401}}"#,
        r#"{"type":"later"}"#,
    ];
    let events = said(&Gemini, Before::default(), &lines);
    let api = |status, retryable| Outcome::ApiError {
        status: Some(status),
        retryable,
    };
    assert!(matches!(&events[0], AgentEvent::Result { outcome, .. } if *outcome == api(429, true)));
    assert!(
        matches!(&events[1], AgentEvent::Result { outcome, .. } if *outcome == api(401, false))
    );
    assert_eq!(kinds(&events[2..]), ["unknown"]);
}

reading_never_fails!(Gemini, LINES);
