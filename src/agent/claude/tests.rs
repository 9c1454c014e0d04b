use super::*;
use crate::agent::command::Command;
use crate::agent::tests::{kinds, reading_never_fails, said, used};
use crate::agent::text::TEXT_MAX;
use crate::model::spec::PodSpec;
use crate::model::{Account, AgentEvent, Outcome, Usage};
use crate::model::{PodName, RuntimeName, Spec};
use proptest::prelude::*;
use std::io::Write as _;
use std::path::PathBuf;
use std::process;
use std::sync::OnceLock;

fn spec() -> Spec {
    let pod = PodSpec::bare(PodName::new("p").unwrap(), PathBuf::from("/p"));
    Spec {
        agent_session: Some("ID".to_owned()),
        ..Spec::bare(pod, RuntimeName::Docker, AgentKind::Claude)
    }
}

fn command(agent: &dyn Agent, spec: &Spec, root: bool, resume: Option<&str>) -> (String, String) {
    let made = agent.command(&Invocation {
        steer: false,
        spec,
        image_command: &["image".to_owned(), "command".to_owned()],
        root,
        resume,
        fork: false,
        session: spec.agent_session.as_deref(),
        bounds: spec.bounds,
    });
    (made.argv.join(" "), format!("{:?}", made.env))
}

#[test]
fn the_command_line() {
    let mut spec = spec();
    let fixed = "claude -p --output-format stream-json --verbose";
    let skip = "--dangerously-skip-permissions";
    let (argv, env) = command(&Claude, &spec, true, None);
    assert_eq!(argv, format!("{fixed} --session-id ID {skip}"));
    assert_eq!(env, r#"{"IS_SANDBOX": "1"}"#);
    spec.model = Some("opus".to_owned());
    spec.pod.args = vec!["--max-turns".to_owned(), "3".to_owned()];
    let (argv, env) = command(&Claude, &spec, false, Some("OTHER"));
    assert_eq!(
        argv,
        format!("{fixed} --resume OTHER --model opus {skip} --max-turns 3")
    );
    assert_eq!(env, "{}");
    spec.bounds.max_turns = Some(7);
    spec.bounds.max_cost = crate::model::Dollars::new(0.25).ok();
    let (argv, _) = command(&Claude, &spec, false, None);
    let bounds = "--model opus --max-turns 7 --max-budget-usd 0.25 --dangerously";
    assert!(argv.contains(bounds), "{argv}");
    spec.bounds = crate::model::Bounds::default();
    spec.permissions = Permissions::Default;
    spec.agent_session = None;
    spec.pod.entrypoint = Some(vec!["/bin/x".to_owned(), "y".to_owned()]);
    let (argv, env) = command(&Claude, &spec, true, None);
    let fixed = fixed.replacen("claude", "/bin/x y", 1);
    assert_eq!(argv, format!("{fixed} --model opus --max-turns 3"));
    assert_eq!(env, "{}");

    assert_eq!(
        command(&Command, &spec, true, Some("x")).0,
        "/bin/x y --max-turns 3"
    );
    spec.pod.entrypoint = None;
    assert_eq!(
        command(&Command, &spec, true, None).0,
        "image command --max-turns 3"
    );
}

/// The last event of a line.
fn read(line: &[u8]) -> Option<AgentEvent> {
    let mut events = Vec::new();
    let mut reader = Claude.reader(Before::default()).unwrap();
    reader.read(line, &mut events);
    events.pop()
}

const INIT: &str = r#"{"type":"system","subtype":"init","cwd":"/workspace","session_id":"b5ed9652-0000","tools":["Task"],"model":"claude-opus-5-5","claude_code_version":"2.1.329"}"#;
const RESULT: &str = r#"{"duration_api_ms":118,"stop_reason":"end_turn","session_id":"b5","total_cost_usd":0.022848,"usage":{"input_tokens":5472},"terminal_reason":"completed","is_error":false,"num_turns":2,"subtype":"success","api_error_status":null,"result":"All done.","type":"result","duration_ms":312}"#;

#[test]
fn what_is_said_about_itself_is_read() {
    assert_eq!(
        read(INIT.as_bytes()),
        Some(AgentEvent::Init {
            agent_session: Some("b5ed9652-0000".to_owned()),
            model: Some("claude-opus-5-5".to_owned()),
            version: Some("2.1.329".to_owned()),
            permissions: None,
            cwd: Some("/workspace".to_owned()),
        })
    );
    assert_eq!(
        read(RESULT.as_bytes()),
        Some(AgentEvent::Result {
            outcome: Outcome::Success,
            text: "All done.".to_owned(),
            agent_session: Some("b5".to_owned()),
            turns: Some(2),
            cost_usd: Some(0.022_848),
            duration_ms: Some(312),
            usage: Some(Usage {
                input: 5472,
                cost_usd: Some(0.022_848),
                ..Usage::default()
            }),
        })
    );
    let reset = br#"{"type":"conversation_reset","new_conversation_id":"n"}"#;
    assert!(matches!(
        read(reset),
        Some(AgentEvent::Init { agent_session: Some(id), .. }) if id == "n"
    ));
    // An id that would be taken for an option is never given back as an argument.
    let option = br#"{"type":"system","subtype":"init","session_id":"--help"}"#;
    assert!(matches!(
        read(option),
        Some(AgentEvent::Init {
            agent_session: None,
            ..
        })
    ));
}

fn ended(fields: &str) -> Outcome {
    let line = format!(r#" {{"num_turns": 1, {fields}, "type" : "result"}}"#);
    match read(line.as_bytes()) {
        Some(AgentEvent::Result { outcome, .. }) => outcome,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn outcomes() {
    let api = |status, retryable| Outcome::ApiError { status, retryable };
    for (fields, outcome) in [
        (
            r#""subtype":"success","is_error":false,"result":"x""#,
            Outcome::Success,
        ),
        (r#""subtype":"success","result":"x""#, Outcome::Success),
        (
            r#""subtype":"success","is_error":true,"result":"x""#,
            Outcome::Failed,
        ),
        // The stream was cut.
        (
            r#""subtype":"success","is_error":false,"result":"","stop_reason":null"#,
            Outcome::Failed,
        ),
        (r#""subtype":"success","is_error":false"#, Outcome::Failed),
        (
            r#""subtype":"success","is_error":false,"result":"","stop_reason":"end_turn""#,
            Outcome::Success,
        ),
        (
            r#""subtype":"success","is_error":false,"result":"","structured_output":{}"#,
            Outcome::Success,
        ),
        (
            r#""subtype":"error_max_turns","is_error":true"#,
            Outcome::MaxTurns,
        ),
        (
            r#""subtype":"error_max_budget_usd","is_error":true"#,
            Outcome::Budget,
        ),
        (
            r#""subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools""#,
            Outcome::Interrupted,
        ),
        (
            r#""subtype":"error_during_execution","is_error":true,"errors":["x"]"#,
            Outcome::Failed,
        ),
        (r#""subtype":"error_new_kind""#, Outcome::Failed),
        (r#""subtype":7,"is_error":"no""#, Outcome::Failed),
        (
            r#""subtype":"success","is_error":true,"terminal_reason":"api_error","api_error_status":529"#,
            api(Some(529), true),
        ),
        (
            r#""subtype":"success","is_error":true,"api_error_status":429"#,
            api(Some(429), true),
        ),
        (
            r#""subtype":"success","is_error":true,"api_error_status":401"#,
            api(Some(401), false),
        ),
        (
            r#""subtype":"success","is_error":true,"terminal_reason":"api_error","api_error_status":null"#,
            api(None, true),
        ),
        (
            r#""subtype":"success","is_error":true,"terminal_reason":"api_error","result":"Please run /login""#,
            api(None, false),
        ),
    ] {
        assert_eq!(ended(fields), outcome, "{fields}");
    }
}

#[test]
fn mentions_are_not_events() {
    for line in [
        r#"{"type":"assistant","message":{"content":[{"type":"text","text":"{\"type\":\"result\"}"}]}}"#,
        r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"x"}]}}"#,
        r#"{"type":"assistant","x":"result"}"#,
        r#"{"type":"system","subtype":"status","x":"init"}"#,
        r#"{"type":"result""#,
        r#"["result"]"#,
        "result",
        "",
    ] {
        let event = read(line.as_bytes());
        let last = matches!(
            event,
            Some(AgentEvent::Init { .. } | AgentEvent::Result { .. })
        );
        assert!(!last, "{line}: {event:?}");
    }
}

#[test]
fn a_long_answer_is_cut_between_characters() {
    let line = RESULT.replace("All done.", &"é€".repeat(50_000));
    let Some(AgentEvent::Result { text, .. }) = read(line.as_bytes()) else {
        panic!("must be read");
    };
    assert!(text.len() <= TEXT_MAX && text.ends_with('…'));
}

/// What is shown for a line.
fn pretty(line: &[u8]) -> Option<String> {
    let shown = Claude.teller()?.line(line)?;
    let texts: Vec<String> = shown.into_iter().map(|shown| shown.text).collect();
    Some(texts.join("\n"))
}

#[test]
fn a_fork_is_asked_for_only_of_what_there_is() {
    let spec = spec();
    let argv = |resume: Option<&str>| {
        let made = Claude.command(&Invocation {
            spec: &spec,
            image_command: &[],
            root: false,
            steer: false,
            resume,
            fork: true,
            session: None,
            bounds: spec.bounds,
        });
        made.argv.join(" ")
    };
    assert!(argv(Some("ID")).contains("--resume ID"));
    assert!(argv(Some("ID")).contains("--fork-session"));
    assert!(!argv(None).contains("--fork-session"));
}

#[test]
fn pretty_lines() {
    let assistant = |block: &str| {
        format!(
            r#"{{"type":"assistant","message":{{"content":[{block}]}},"parent_tool_use_id":null}}"#
        )
    };
    let user = |block: &str| format!(r#"{{"type":"user","message":{{"content":[{block}]}}}}"#);
    let tool = |name: &str, input: &str| {
        assistant(&format!(
            r#"{{"type":"tool_use","name":"{name}","input":{input}}}"#
        ))
    };
    for (line, shown) in [
        (INIT.to_owned(), "Claude Code 2.1.329 · claude-opus-5-5 · b5ed9652-0000"),
        (RESULT.to_owned(), "success · 2 turns · $0.0228 · 0.3 s"),
        (assistant(r#"{"type":"text","text":"a\nb\u001b[31mred\u001b[0m\u0007\r\n"}"#), "a\nbred"),
        (assistant(r#"{"type":"thinking","thinking":"x"},{"type":"text","text":"a"},{"type":"text","text":"b"}"#), "thinking: x\na\nb"),
        (tool("Bash", r#"{"description":"d","command":"echo hi\n > x"}"#), "→ Bash echo hi > x"),
        (tool("Write", r#"{"content":"c","file_path":"/a/b"}"#), "→ Write /a/b"),
        (tool("Grep", r#"{"path":"p","pattern":"fn "}"#), "→ Grep fn"),
        (tool("Agent", r#"{"prompt":"p","description":"find it"}"#), "→ Agent find it"),
        (tool("Fetch", r#"{"url":"u","prompt":"p"}"#), "→ Fetch p"),
        (tool("Odd", r#"[1]"#), "→ Odd"),
        (assistant(r#"{"type":"text","text":"x\ny"}"#).replace("null", "\"toolu_1\""), "  x\n  y"),
        (user(r#"{"type":"tool_result","content":"0123456789"}"#), "← 10 bytes"),
        (user(r#"{"type":"tool_result","content":[{"type":"text","text":"no\nfile"}],"is_error":true}"#), "← error: no file"),
        (user(r#"{"type":"tool_result"}"#), "← 0 bytes"),
        (r#"{"type":"user","message":{"content":"hello"}}"#.to_owned(), "hello"),
        (r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":550,"error_status":529,"error":"overloaded"}"#.to_owned(), "retrying (1/10) in 0.6 s: 529 overloaded"),
        (r#"{"type":"system","subtype":"permission_denied","tool_name":"Bash"}"#.to_owned(), "denied: Bash"),
        (r#"{"type":"system","subtype":"status"}"#.to_owned(), ""),
        (r#"{"type":"stream_event","event":{}}"#.to_owned(), ""),
        (r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed"}}"#.to_owned(), ""),
        (r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","rateLimitType":"five_hour"}}"#.to_owned(), "rate limit: rejected five_hour"),
        (r#"{"type":"system","subtype":"new_thing"}"#.to_owned(), "[system/new_thing]"),
        (r#"{"type":"new"}"#.to_owned(), "[new]"),
        (r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["No conversation"],"duration_ms":61000}"#.to_owned(), "failed · 1 min 1 s: No conversation"),
        (r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"num_turns":1,"result":"Overloaded"}"#.to_owned(), "api_error 529 · 1 turn: Overloaded"),
    ] {
        assert_eq!(pretty(line.as_bytes()).as_deref(), Some(shown), "{line}");
    }
    for raw in ["plain text", "", "{", "{\"a\":1}", "[1]", "{\"type\":1}"] {
        assert_eq!(pretty(raw.as_bytes()), None, "{raw}");
    }
    let long = tool("Bash", &format!(r#"{{"command":"{}"}}"#, "é".repeat(5000)));
    let shown = pretty(long.as_bytes()).unwrap();
    assert_eq!(shown.chars().count(), 200);
    assert!(shown.ends_with('…'));
}

#[test]
fn terminal_strings_are_removed_whole() {
    for (text, shown) in [
        (r"a\u001b]0;title\u0007b", "ab"),
        (r"a\u001b]8;;http://x\u001b\\b", "ab"),
        (r"a\u001b]0;unfinished\nb", "a\nb"),
        (r"a\u001b(Bb\u001bcd", "abd"),
        (r"a\u009b31mb\u001b[?25h", "ab"),
        (r"a\u202eb\u0000c\u007f", "abc"),
        (r"a\u001b", "a"),
        (r"a\u001b[1\nb", "a\nb"),
    ] {
        let line = format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#
        );
        assert_eq!(pretty(line.as_bytes()).as_deref(), Some(shown), "{text}");
    }
}

/// The scripted agent, compiled once.
fn scripted() -> &'static str {
    static BUILT: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("claude").display().to_string();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/agent/main.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let built = process::Command::new(rustc)
            .args(["--edition", "2024", "-o", &path, source])
            .status()
            .unwrap();
        assert!(built.success());
        (dir, path)
    });
    path
}

/// Runs the scripted agent as our own command line says; what was read and its exit code.
fn converse(
    spec: &Spec,
    state: &str,
    resume: Option<&str>,
    prompt: &str,
) -> (Vec<AgentEvent>, String, i32) {
    let mut spec = spec.clone();
    spec.pod.entrypoint = Some(vec![scripted().to_owned()]);
    let made = Claude.command(&Invocation {
        steer: false,
        spec: &spec,
        image_command: &[],
        root: true,
        resume,
        fork: false,
        session: spec.agent_session.as_deref(),
        bounds: spec.bounds,
    });
    let mut child = process::Command::new(&made.argv[0])
        .args(&made.argv[1..])
        .envs(&made.env)
        .env("CLDPD_SCRIPTED_STATE", state)
        .env_remove("CLDPD_SCRIPT")
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .stderr(process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(prompt.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = || {
        output
            .stdout
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
    };
    let mut events = Vec::new();
    let mut reader = Claude.reader(Before::default()).unwrap();
    for line in lines() {
        reader.read(line, &mut events);
    }
    let shown: Vec<String> = lines().filter_map(pretty).collect();
    (events, shown.join("\n"), output.status.code().unwrap_or(-1))
}

fn last(events: &[AgentEvent]) -> &Outcome {
    match events.last() {
        Some(AgentEvent::Result { outcome, .. }) => outcome,
        other => panic!("no result: {other:?}"),
    }
}

#[test]
fn a_conversation_with_the_scripted_agent() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    let mut spec = spec();
    let id = Claude.choose_session(7).unwrap();
    spec.agent_session = Some(id.clone());
    let say = |resume, prompt: &str| converse(&spec, state, resume, prompt);

    let (events, shown, code) = say(None, "[[remember blue]][[tool Bash ls]][[print hi]]");
    assert!(matches!(
        &events[0],
        AgentEvent::Init { agent_session: Some(session), .. } if *session == id
    ));
    assert_eq!((last(&events), code), (&Outcome::Success, 0));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[1..4], ["→ Bash ls", "← 16 bytes", "hi"]);
    assert!(
        lines[4].starts_with("success · 2 turns · $0.0100 · "),
        "{shown}"
    );

    let (events, shown, code) = say(Some(&id), "[[recall]]");
    assert_eq!((last(&events), code), (&Outcome::Success, 0));
    assert!(shown.contains("\nrecalled: blue\n"), "{shown}");
    let (events, _, code) = say(Some("unknown"), "[[recall]]");
    assert_eq!(kinds(&events), ["usage", "result"]);
    assert_eq!((last(&events), code), (&Outcome::Failed, 1));
    let (events, _, code) = say(None, "[[print the id is taken]]");
    assert_eq!((events.len(), code), (0, 1));

    for (prompt, outcome, code) in [
        ("[[maxturns]]", Outcome::MaxTurns, 1),
        ("[[result text=]]", Outcome::Failed, 0),
        (
            "[[result is_error=true subtype=success api_error_status=529]]",
            Outcome::ApiError {
                status: Some(529),
                retryable: true,
            },
            1,
        ),
        ("[[exit 3]]", Outcome::Failed, 3),
        ("[[print a]][[turn]][[print b]]", Outcome::Success, 0),
    ] {
        let (events, _, exit) = say(Some(&id), prompt);
        assert_eq!((last(&events), exit), (&outcome, code), "{prompt}");
    }
    let (events, _, code) = say(Some(&id), "[[noresult]]");
    assert_eq!((events.len(), code), (1, 0));
}

mod events;

const TOOLS: [&str; 1] = [
    r#"{"type":"assistant","message":{"id":"m","content":[{"type":"tool_use","name":"Bash","input":{"command":"x"}}],"usage":{"input_tokens":1}}}"#,
];

fn is_clean(text: &str) -> bool {
    text.chars()
        .all(|c| !c.is_control() || matches!(c, '\n' | '\t'))
}

proptest! {
    #[test]
    fn any_line_is_shown(line: Vec<u8>) {
        if let Some(shown) = pretty(&line) {
            prop_assert!(is_clean(&shown));
        }
    }

    #[test]
    fn any_text_is_shown_clean(text in any::<String>(), name in any::<String>()) {
        let line = serde_json::json!({"type": "assistant", "message": {"content": [
            {"type": "text", "text": text}, {"type": "tool_use", "name": name, "input": {"url": text}}]}});
        let shown = pretty(line.to_string().as_bytes());
        prop_assert!(is_clean(&shown.unwrap_or_default()));
        let line = serde_json::json!({"type": name, "subtype": text});
        let shown = pretty(line.to_string().as_bytes()).unwrap_or_default();
        prop_assert!(is_clean(&shown) && !shown.contains('\n') && shown.chars().count() <= 200);
    }

    #[test]
    fn chosen_ids_are_uuids_of_version_4(random: u128) {
        let id = Claude.choose_session(random).unwrap_or_default();
        prop_assert_eq!(id.len(), 36);
        prop_assert_eq!(&id[14..15], "4");
        prop_assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
        let value = serde_json::json!({ "id": id }).to_string();
        let [found] = crate::agent::json::fields(&value, ["id"]).unwrap();
        prop_assert_eq!(crate::agent::text::conversation(found), Some(id.clone()));
    }
}

reading_never_fails!(
    Claude,
    [
        INIT,
        RESULT,
        TOOLS[0],
        r#"{"type":"user","message":{"content":[{"type":"tool_result","content":[{"text":"x"}],"is_error":true}]}}"#,
        r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":550.5,"error_status":529}"#,
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1800000000}}"#,
    ]
);
