//! What lines say: events, and what was used.

use super::*;

const OPUS: &str = "claude-opus-5-5";

fn assistant(id: &str, usage: &str, parent: &str, block: &str) -> String {
    format!(
        r#"{{"type":"assistant","message":{{"id":"{id}","model":"{OPUS}","content":[{block}],"stop_reason":null,"usage":{{{usage}}}}},"parent_tool_use_id":{parent},"session_id":"s"}}"#
    )
}

fn text(words: &str) -> String {
    format!(r#"{{"type":"text","text":"{words}"}}"#)
}

fn result(fields: &str) -> String {
    format!(
        r#"{{"subtype":"success","is_error":false,"result":"x","num_turns":2,{fields},"type":"result"}}"#
    )
}

fn whole(input: u64, output: u64, cost: f64) -> String {
    format!(
        r#"{{"{OPUS}":{{"inputTokens":{input},"outputTokens":{output},"cacheReadInputTokens":0,"cacheCreationInputTokens":0,"costUSD":{cost}}}}}"#
    )
}

fn of(before: Before, lines: &[String]) -> Vec<AgentEvent> {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    said(&Claude, before, &lines)
}

fn usage(input: u64, output: u64, cost: f64) -> Usage {
    Usage {
        input,
        output,
        cost_usd: Some(cost),
        ..Usage::default()
    }
}

/// What a run came to, for the one that goes on with it.
fn after(events: &[AgentEvent]) -> Before {
    let mut account = Account::default();
    for event in events {
        account.take(event);
    }
    Before {
        earlier: account.models,
        ..Before::default()
    }
}

#[test]
fn one_message_in_several_lines_is_counted_once() {
    let first = r#""input_tokens":2694,"output_tokens":1,"cache_read_input_tokens":100"#;
    let tool = r#"{"type":"tool_use","id":"t","name":"Bash","input":{"command":"ls"}}"#;
    let lines = [
        assistant("m1", first, "null", r#"{"type":"thinking","thinking":"hm"}"#),
        assistant("m1", first, "null", &text("I look.")),
        assistant("m1", first, "null", tool),
        r#"{"type":"user","message":{"content":[{"tool_use_id":"t","type":"tool_result","content":"a\nb","is_error":false}]}}"#.to_owned(),
        assistant("m2", r#""input_tokens":2778,"output_tokens":1"#, "null", &text("Done.")),
        result(r#""usage":{"input_tokens":5472,"output_tokens":48,"cache_read_input_tokens":100},"total_cost_usd":0.022848"#),
    ];
    let events = of(Before::default(), &lines);
    let expected = [
        "thinking",
        "usage",
        "text",
        "tool_use",
        "tool_result",
        "text",
        "usage",
        "usage",
        "result",
    ];
    assert_eq!(kinds(&events), expected);
    let all = Usage {
        input: 5472,
        output: 48,
        cache_read: 100,
        cache_write: 0,
        cost_usd: Some(0.022_848),
    };
    assert_eq!(used(&events), all);
    let last = events.last();
    assert!(
        matches!(last, Some(AgentEvent::Result { usage, .. }) if *usage == Some(all)),
        "{last:?}"
    );
}

#[test]
fn each_result_of_a_process_is_counted_once() {
    // Two turns: tokens for the turn, the price and the models for the process.
    let turn = |input, output, cost, whole: String| {
        result(&format!(
            r#""usage":{{"input_tokens":{input},"output_tokens":{output}}},"total_cost_usd":{cost},"modelUsage":{whole}"#
        ))
    };
    let lines = [
        turn(400, 40, 0.00104, whole(400, 40, 0.00104)),
        INIT.to_owned(),
        turn(400, 40, 0.00208, whole(800, 80, 0.00208)),
    ];
    let events = of(Before::default(), &lines);
    assert_eq!(used(&events), usage(800, 80, 0.00208));

    // A resume that counts on (2.1.329), one that begins anew (2.1.197), and one that
    // says by itself what is new.
    let continues = turn(300, 30, 0.00286, whole(1100, 110, 0.00286));
    assert_eq!(
        used(&of(after(&events), &[continues])),
        usage(300, 30, 0.00078)
    );
    let begins = turn(300, 30, 0.00078, whole(300, 30, 0.00078));
    assert_eq!(
        used(&of(after(&events), &[begins])),
        usage(300, 30, 0.00078)
    );
    let says = result(&format!(
        r#""usage":{{"input_tokens":300,"output_tokens":30}},"total_cost_usd":0.00286,"modelUsage":{},"model_usage_since_last_result":{}"#,
        whole(1100, 110, 0.00286),
        whole(300, 30, 0.00078),
    ));
    assert_eq!(used(&of(after(&events), &[says])), usage(300, 30, 0.00078));

    // The old name of the price, and none at all.
    let old = result(r#""usage":{"input_tokens":5,"output_tokens":6},"cost_usd":0.5"#);
    assert_eq!(used(&of(Before::default(), &[old])), usage(5, 6, 0.5));
    let none = result(r#""usage":{"input_tokens":5,"output_tokens":6}"#);
    assert_eq!(used(&of(Before::default(), &[none])).cost_usd, None);
    let malformed = result(r#""usage":"much","total_cost_usd":{}"#);
    assert_eq!(used(&of(Before::default(), &[malformed])), Usage::default());
}

#[test]
fn what_sub_agents_used_is_counted_once() {
    let lines = [
        assistant(
            "m1",
            r#""input_tokens":100,"output_tokens":1"#,
            "null",
            TASK,
        ),
        assistant(
            "s1",
            r#""input_tokens":50,"output_tokens":1"#,
            "\"t9\"",
            &text("inside"),
        ),
        assistant(
            "s1",
            r#""input_tokens":50,"output_tokens":1"#,
            "\"t9\"",
            &text("still"),
        ),
        result(&format!(
            r#""usage":{{"input_tokens":100,"output_tokens":20}},"total_cost_usd":0.5,"modelUsage":{}"#,
            whole(150, 35, 0.5)
        )),
    ];
    let events = of(Before::default(), &lines);
    assert_eq!(used(&events), usage(150, 35, 0.5));
    let inside = events.iter().filter(
        |event| matches!(event, AgentEvent::Text { parent: Some(parent), .. } if parent == "t9"),
    );
    assert_eq!(inside.count(), 2);
    // Read on after a restart in between: the same.
    let mut account = Account::default();
    let mut first = of(Before::default(), &lines[..2]);
    for event in &first {
        account.take(event);
    }
    let before = Before {
        account,
        ..Before::default()
    };
    first.extend(of(before, &lines[2..]));
    assert_eq!(used(&first), usage(150, 35, 0.5));
}

const TASK: &str = r#"{"type":"tool_use","id":"t9","name":"Task","input":{"description":"look"}}"#;

#[test]
fn a052_every_tool_use_is_an_event_with_a_summary() {
    let tool = |name: &str, input: &str| {
        let block = format!(r#"{{"type":"tool_use","id":"t","name":"{name}","input":{input}}}"#);
        match &of(Before::default(), &[assistant("m", "", "null", &block)])[..] {
            [
                AgentEvent::ToolUse {
                    id,
                    name: said,
                    summary,
                    ..
                },
            ] => {
                assert_eq!((id.as_str(), said.as_str()), ("t", name));
                summary.clone()
            }
            other => panic!("{other:?}"),
        }
    };
    for (name, input, summary) in [
        ("Bash", r#"{"description":"d","command":"ls -l"}"#, "ls -l"),
        ("Read", r#"{"file_path":"/a"}"#, "/a"),
        ("Edit", r#"{"old_string":"x","file_path":"/b"}"#, "/b"),
        ("Write", r#"{"content":"x","file_path":"/c"}"#, "/c"),
        ("Glob", r#"{"path":"p","pattern":"*.rs"}"#, "*.rs"),
        ("Grep", r#"{"pattern":"fn"}"#, "fn"),
        ("Agent", r#"{"prompt":"p","description":"find"}"#, "find"),
        ("AskUserQuestion", r#"{"q":1}"#, r#"{"q":1}"#),
        ("mcp__x__y", r#"{"other":1,"query":"q"}"#, "q"),
        ("Later", "[]", ""),
    ] {
        assert_eq!(tool(name, input), summary, "{name}");
    }
    let long = tool("Bash", &format!(r#"{{"command":"{}"}}"#, "é€".repeat(100)));
    assert!(long.len() <= 120 && long.ends_with('…'), "{long}");
}

#[test]
fn a053_texts_of_a_message_are_one_event() {
    let two = format!("{},{}", text("a"), text("b"));
    let events = of(Before::default(), &[assistant("m", "", "null", &two)]);
    assert_eq!(
        events,
        [AgentEvent::Text {
            text: "a\nb".to_owned(),
            parent: None
        }]
    );
    let empty = of(Before::default(), &[assistant("m", "", "null", &text(""))]);
    assert!(empty.is_empty(), "{empty:?}");
}

#[test]
fn notices() {
    let lines = [
        r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":550.5,"error_status":529,"error":"overloaded"}"#,
        r#"{"type":"system","subtype":"permission_denied","tool_name":"Bash"}"#,
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1800000000,"rateLimitType":"five_hour"}}"#,
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed"}}"#,
        r#"{"type":"system","subtype":"status"}"#,
        r#"{"type":"stream_event","event":{}}"#,
        r#"{"type":"system","subtype":"later"}"#,
        r#"{"a":1}"#,
    ];
    let events = said(&Claude, Before::default(), &lines);
    assert_eq!(
        kinds(&events),
        ["retry", "permission_denied", "limit", "unknown"]
    );
    assert!(matches!(
        events[0],
        AgentEvent::Retry {
            attempt: Some(1),
            max: Some(10),
            delay_ms: Some(550),
            status: Some(529),
            ..
        }
    ));
    assert!(matches!(
        events[2],
        AgentEvent::Limit { reached: true, resets: Some(at), .. } if at.0 == 1_800_000_000_000_000_000
    ));
}

#[test]
fn half_a_character_in_an_answer_does_not_make_it_none() {
    let line = r#"{"type":"result","subtype":"success","is_error":false,"result":"cut \ud83d"}"#;
    let event = read(line.as_bytes());
    assert!(
        matches!(
            event,
            Some(AgentEvent::Result {
                outcome: Outcome::Success,
                ..
            })
        ),
        "{event:?}"
    );
}

#[test]
fn a_long_line_is_read() {
    let words = "x".repeat(3 << 20);
    let events = of(
        Before::default(),
        &[assistant("m", "", "null", &text(&words))],
    );
    assert!(matches!(&events[..], [AgentEvent::Text { text, .. }] if text.len() <= TEXT_MAX));
}
