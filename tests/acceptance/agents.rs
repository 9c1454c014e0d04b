//! 5.5, 5.7, 5.11 and 5.12: what agents say of themselves, and what that comes to.

use crate::support::TestEnv;
use crate::support::events::{lines, of_kind, of_run, only};
use serde_json::{Value, json};

/// A directive that has the scripted agent write exactly this line.
fn line(json: &str) -> String {
    let json = json.replace("]]", "] ]").replace("[[", "[ [");
    format!("[[open {json}]][[raw 0a]]")
}

/// What the agent said of itself, by the recorded events.
fn said(events: &[Value]) -> Vec<Value> {
    let agent = of_kind(events, "agent");
    agent.iter().map(|event| event["event"].clone()).collect()
}

/// The events of that type.
fn of_type<'a>(said: &'a [Value], kind: &str) -> Vec<&'a Value> {
    said.iter().filter(|event| event["type"] == kind).collect()
}

/// How a run ended, and why, as it was recorded.
fn ended(env: &TestEnv, id: &str, run: u64) -> (String, String) {
    let events = of_run(&env.events(id), run);
    let end = only(&events, "run_ended");
    let word = |key: &str| end[key].as_str().unwrap_or_default().to_owned();
    (word("outcome"), word("why"))
}

fn result(session: &str, fields: &str) -> String {
    line(&format!(
        r#"{{"subtype":"success","is_error":false,"result":"ok","session_id":"{session}",{fields},"type":"result"}}"#
    ))
}

#[test]
fn a052_tool_uses_are_events_with_summaries() {
    let env = TestEnv::new();
    let pod = env.local_pod("tools").make();
    let odd = line(
        r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t9","name":"Later","input":{"url":"u"}},{"type":"text","text":"and"}]}}"#,
    );
    let long = "é".repeat(200);
    let prompt = format!(
        "[[tool Bash ls -l]][[tool Read /a/b]][[tool Grep fn main]][[tool Agent look]][[tool Write {long}]]{odd}"
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    assert_eq!(env.wait(&id), 0);
    let said = said(&env.events(&id));
    let uses = of_type(&said, "tool_use");
    let shown: Vec<String> = uses
        .iter()
        .map(|tool| {
            format!(
                "{} {}",
                tool["name"].as_str().unwrap(),
                tool["summary"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        shown[..4],
        ["Bash ls -l", "Read /a/b", "Grep fn main", "Agent look"]
    );
    assert!(
        shown[4].len() <= 126 && shown[4].ends_with('…'),
        "{}",
        shown[4]
    );
    assert_eq!(shown[5], "Later u");
    assert_eq!(uses[5]["id"], "t9");
    let results = of_type(&said, "tool_result");
    assert_eq!(results.len(), 5);
    assert!(
        results
            .iter()
            .all(|result| result["is_error"] == false && result["size"].as_u64() > Some(0))
    );
    // Each stands behind the line that it was read from.
    let events = env.events(&id);
    for (at, event) in events
        .iter()
        .enumerate()
        .filter(|(_, event)| event["kind"] == "agent")
    {
        assert!(
            matches!(events[at - 1]["kind"].as_str(), Some("output" | "agent")),
            "{event}"
        );
    }
}

#[test]
fn a053_texts_of_one_message_are_one_event() {
    let env = TestEnv::new();
    let pod = env.local_pod("texts").make();
    let two = line(
        r#"{"type":"assistant","message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}"#,
    );
    let none = line(r#"{"type":"assistant","message":{"content":[{"type":"text","text":""}]}}"#);
    let id = env.start(&[&pod, "--prompt", &format!("{two}{none}[[print the end]]")]);
    assert_eq!(env.wait(&id), 0);
    let said = said(&env.events(&id));
    let texts: Vec<&Value> = of_type(&said, "text")
        .iter()
        .map(|text| &text["text"])
        .collect();
    assert_eq!(texts, ["a\nb", "the end"]);
    let shown = env.cldpd(["logs", &id]).run().ok();
    assert_eq!(
        shown.matches("the end").count(),
        1,
        "the answer is shown once: {shown}"
    );
}

#[test]
fn a054_noise_breaks_no_event() {
    let env = TestEnv::new();
    let pod = env.local_pod("noise").make();
    let colour = "[[raw 1b5b33316d6e6f74206a736f6e1b5b306d0a]]";
    let broken = line(r#"{"type":"assistant","message":{"content":[{"type":"#);
    let prompt = format!(
        "[[err one]][[print first]]{colour}[[lines 2]]{broken}[[mixed 50]][[err two]][[print last]]"
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    let said = said(&events);
    let texts: Vec<&Value> = of_type(&said, "text")
        .iter()
        .map(|text| &text["text"])
        .collect();
    assert_eq!(texts, ["first", "last"]);
    let out = lines(&events, "stdout");
    assert!(
        out.contains(&"line 0000002") && out.contains(&"out 0000050"),
        "{out:?}"
    );
    assert!(lines(&events, "stderr").contains(&"one"));
    let unknown = of_type(&said, "unknown");
    assert_eq!(unknown.len(), 1, "{said:?}");
    assert_eq!(unknown[0]["malformed"], true);
    let run = env.inspect(&id)["record"]["runs"][0].clone();
    assert_eq!(run["account"]["malformed"], 1);
}

#[test]
fn a055_success_is_what_agent_and_process_both_say() {
    let env = TestEnv::new();
    let pod = env.local_pod("ends").make();
    for (prompt, code, outcome, why) in [
        (
            "[[result is_error=true subtype=success text=it broke]][[exit 0]]",
            1,
            "failed",
            "it broke",
        ),
        (
            "[[result is_error=false]][[exit 3]]",
            3,
            "failed",
            "exited with 3",
        ),
        ("[[maxturns]]", 1, "max_turns", ""),
        ("[[result text=]]", 1, "failed", "without an answer"),
        (
            "[[err out of luck]][[noresult]][[exit 4]]",
            4,
            "failed",
            "exited with 4 and reported no result: out of luck",
        ),
        ("[[noresult]]", 1, "failed", "reported no result"),
        (
            "[[result is_error=true subtype=success api_error_status=529 text=busy]]",
            1,
            "api_error",
            "busy",
        ),
        ("[[print well]]", 0, "success", ""),
    ] {
        let id = env.start(&[&pod, "--prompt", prompt]);
        assert_eq!(env.wait(&id), code, "{prompt}");
        let (how, words) = ended(&env, &id, 0);
        assert_eq!(how, outcome, "{prompt}");
        assert!(words.contains(why), "{prompt}: {words}");
        assert_eq!(words.is_empty(), outcome == "success", "{prompt}: {words}");
    }
}

#[test]
fn a056_the_agents_own_id_is_kept_and_follows() {
    let env = TestEnv::new();
    let pod = env.local_pod("ids").make();
    let id = env.start(&[&pod, "--prompt", "[[print hi]]"]);
    assert_eq!(env.wait(&id), 0);
    let first = env.inspect(&id)["record"]["agent_sessions"].clone();
    assert_eq!(first.as_array().map(Vec::len), Some(1), "{first}");

    let other = "22222222-2222-4222-8222-222222222222";
    let prompt = format!("{}[[noresult]]", result(other, r#""num_turns":1"#));
    assert_eq!(
        env.cldpd(["resume", &id, "--prompt", &prompt]).run().code,
        0
    );
    let record = env.inspect(&id)["record"].clone();
    assert_eq!(record["agent_sessions"], json!([first[0], other]));
    assert_eq!(env.session(&id)["agent_session"], other);
    assert_eq!(record["agent_version"], "scripted-0");
    assert_eq!(record["agent_model"], "scripted");
}

#[test]
fn a068_a_conversation_that_is_gone_is_said_to_be() {
    let env = TestEnv::new();
    let pod = env.local_pod("gone").make();
    let id = env.start(&[&pod, "--prompt", "[[remember blue]]"]);
    assert_eq!(env.wait(&id), 0);
    let other = "33333333-3333-4333-8333-333333333333";
    let prompt = format!("{}[[noresult]]", result(other, r#""num_turns":1"#));
    assert_eq!(
        env.cldpd(["resume", &id, "--prompt", &prompt]).run().code,
        0
    );

    // Nothing is known there of a conversation of that name.
    let output = env
        .cldpd(["resume", &id, "--prompt", "[[recall]]"])
        .run()
        .code(1);
    let shown = format!("{}{}", output.text(), output.stderr);
    assert!(
        shown.contains("No conversation found") && shown.contains(other),
        "{shown}"
    );
    assert!(output.stderr.contains("--fresh"), "{}", output.stderr);
    let (how, why) = ended(&env, &id, 2);
    assert_eq!(how, "failed");
    assert!(why.contains("No conversation found"), "{why}");

    // Only who asks for it gets a new one, and the next run goes on with that.
    let output = env
        .cldpd([
            "resume",
            &id,
            "--fresh",
            "--prompt",
            "[[recall]][[remember red]][[args]]",
        ])
        .run()
        .code(0);
    assert!(!output.text().contains("blue"), "{}", output.text());
    assert!(output.text().contains("--session-id"), "{}", output.text());
    let sessions = env.inspect(&id)["record"]["agent_sessions"].clone();
    let fresh = sessions.as_array().and_then(|all| all.last()).cloned();
    assert!(fresh.is_some_and(|fresh| fresh != other), "{sessions}");
    let output = env
        .cldpd(["resume", &id, "--prompt", "[[recall]]"])
        .run()
        .code(0);
    assert!(output.text().contains("recalled: red"), "{}", output.text());
}

#[test]
fn a110_what_runs_used_is_added_up() {
    let env = TestEnv::new();
    let pod = env.local_pod("sums").make();
    let usage = |input: u64, output: u64, read: u64, write: u64| {
        format!(
            r#""num_turns":2,"usage":{{"input_tokens":{input},"output_tokens":{output},"cache_read_input_tokens":{read},"cache_creation_input_tokens":{write}}}"#
        )
    };
    let first = result(
        "s",
        &format!(r#"{},"total_cost_usd":0.25"#, usage(100, 10, 1000, 7)),
    );
    let broken = line(r#"{"type":"result","usage":"#);
    let id = env.start(&[&pod, "--prompt", &format!("{first}{broken}[[noresult]]")]);
    assert_eq!(env.wait(&id), 0);
    let second = result(
        "s",
        &format!(r#"{},"cost_usd":0.5"#, usage(200, 20, 2000, 0)),
    );
    let unpriced = result("s", &usage(1, 1, 0, 0));
    // The conversation's name is not the one that there is: the runs are their own.
    for (prompt, run) in [(second, 1), (unpriced, 2)] {
        let prompt = format!("{prompt}[[noresult]]");
        env.cldpd(["resume", "-d", "--fresh", &id, "--prompt", &prompt])
            .run()
            .ok();
        assert_eq!(env.wait(&id), 0, "run {run}");
    }
    let view = env.session(&id);
    let expected =
        json!({"input": 301, "output": 31, "cache_read": 3000, "cache_write": 7, "cost_usd": 0.75});
    assert_eq!(view["usage"], expected);
    assert_eq!(
        (&view["turns"], &view["cost_usd"]),
        (&6.into(), &0.75.into())
    );
    let runs = env.inspect(&id)["record"]["runs"].clone();
    assert_eq!(runs[0]["account"]["malformed"], 1);
    assert_eq!(
        runs[2]["account"]["models"]["scripted"]["cost_usd"],
        Value::Null
    );
    // From the journal alone it is the same.
    env.stop_daemon();
    env.cldpd(["journal", "rebuild"]).run().ok();
    assert_eq!(env.session(&id)["usage"], expected);
}

#[test]
fn a112_sub_agents_and_resumes_are_counted_once() {
    let env = TestEnv::new();
    let pod = env.local_pod("once").make();
    let message = |id: &str, parent: &str, input: u64| {
        line(&format!(
            r#"{{"type":"assistant","message":{{"id":"{id}","model":"m","content":[{{"type":"text","text":"x"}}],"usage":{{"input_tokens":{input},"output_tokens":1}}}},"parent_tool_use_id":{parent}}}"#
        ))
    };
    let models = |input: u64, output: u64, cost: f64| {
        format!(r#"{{"m":{{"inputTokens":{input},"outputTokens":{output},"costUSD":{cost}}}}}"#)
    };
    let turn = |input: u64, output: u64, models: String| {
        result(
            // Without a name of its own: the conversation stays the one that there is.
            "",
            &format!(
                r#""num_turns":1,"usage":{{"input_tokens":{input},"output_tokens":{output}}},"modelUsage":{models}"#
            ),
        )
    };
    let prompt = [
        message("a", "null", 100),
        message("b", "\"t1\"", 50),
        message("b", "\"t1\"", 50),
        turn(100, 20, models(150, 35, 0.5)),
        // A second result of the same process: all of it, once more.
        turn(10, 5, models(160, 40, 0.6)),
        "[[noresult]]".to_owned(),
    ];
    let id = env.start(&[&pod, "--prompt", &prompt.concat()]);
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.session(&id)["usage"]["input"], 160);
    // A resume that counts on from there.
    let prompt = format!("{}[[noresult]]", turn(30, 3, models(190, 43, 0.75)));
    env.cldpd(["resume", "-d", &id, "--prompt", &prompt])
        .run()
        .ok();
    env.wait(&id);
    let used = env.session(&id)["usage"].clone();
    let expected =
        json!({"input": 190, "output": 43, "cache_read": 0, "cache_write": 0, "cost_usd": 0.75});
    assert_eq!(used, expected);
}

#[test]
fn a127_any_program_is_an_agent_by_its_template() {
    let env = TestEnv::new();
    let plain = env.local_pod("plain").plain().make();
    let id = env.start(&[
        &plain,
        "--prompt",
        "[[print {\"type\":\"result\"}]][[lines 2]][[exit 7]]",
    ]);
    assert_eq!(env.wait(&id), 7);
    let events = env.events(&id);
    assert!(said(&events).is_empty(), "{events:?}");
    assert_eq!(
        lines(&events, "stdout"),
        ["{\"type\":\"result\"}", "line 0000001", "line 0000002"]
    );
    assert_eq!(env.session(&id)["usage"], Value::Null);

    // The prompt as an argument, a conversation's id, and another agent's lines.
    let argument = env
        .local_pod("argument")
        .plain()
        .json(json!({
            "env": {"CLDPD_SCRIPT": format!("[[args]]{}", result("c-1", r#""num_turns":3,"usage":{"input_tokens":4}"#))},
            "args": ["--say={prompt}"],
            "command": {
                "prompt": "arg",
                "output": "claude",
                "begin": ["--id", "{session}"],
                "resume": ["--again", "{session}"],
                "model": ["-m", "{model}"],
            },
        }))
        .make();
    let told = "-x $(id) \"quoted\"\nand on";
    let id = env.start(&[&argument, "--model", "big", "--prompt", told]);
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    let out = lines(&events, "stdout").join("\n");
    assert!(out.contains(&format!("--say={told}")), "{out}");
    assert!(
        out.contains("-m") && out.contains("big") && out.contains("--id"),
        "{out}"
    );
    assert_eq!(env.session(&id)["usage"]["input"], 4);
    assert_eq!(env.session(&id)["turns"], 3);
    env.cldpd(["resume", "-d", &id, "--prompt", "more"])
        .run()
        .ok();
    assert_eq!(env.wait(&id), 0);
    let second = of_run(&env.events(&id), 1);
    let out = lines(&second, "stdout").join("\n");
    assert!(
        out.contains("--again") && out.contains("c-1") && out.contains("--say=more"),
        "{out}"
    );
    let long = env.root().join("long.md");
    std::fs::write(&long, "x".repeat(200_000)).expect("the directory is ours");
    let long = long.display().to_string();
    let id = env.start(&[&argument, "--prompt-file", &long]);
    assert_ne!(env.wait(&id), 0);
    let error = only(&env.events(&id), "error")["message"].clone();
    assert!(
        error
            .as_str()
            .is_some_and(|error| error.contains("\"prompt\": \"file\"")),
        "{error}"
    );

    // The prompt in a file.
    let file = env
        .docker_pod("file")
        .json(json!({
            "agent": "command",
            "env": {"CLDPD_SCRIPT": "[[args]][[read /.cldpd/run/prompt]]"},
            "command": {"prompt": "file"},
        }))
        .make();
    let id = env.start(&[&file, "--prompt", "from a file"]);
    assert_eq!(env.wait(&id), 0);
    let out = lines(&env.events(&id), "stdout").join("\n");
    assert!(
        out.contains("/.cldpd/run/prompt") && out.contains("from a file"),
        "{out}"
    );
}

#[test]
fn a103_credentials_are_checked_before_anything_is_dispatched() {
    let env = TestEnv::new();
    let bare = env
        .local_pod("bare")
        .json(json!({"inheritEnv": ["ANTHROPIC_API_KEY"]}))
        .make();
    let refused = env.cldpd(["start", &bare, "--prompt", "x"]).run().code(77);
    assert!(
        refused.stderr.contains("ANTHROPIC_API_KEY"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("claude setup-token"),
        "{}",
        refused.stderr
    );
    let start = ["start", &bare, "--prompt", "[[print in]]"];
    env.cldpd(start)
        .env("ANTHROPIC_API_KEY", "sk-not-real")
        .run()
        .code(0);
    let token = [
        &start[..],
        &["--env", "CLAUDE_CODE_OAUTH_TOKEN=not-real-either"],
    ]
    .concat();
    env.cldpd(token).run().code(0);

    let held = env.user_home().join("credentials.json");
    let copied = env
        .fake_pod("copied")
        .json(json!({"copy": [{"source": held, "target": "~/.claude/.credentials.json"}]}))
        .make();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_millis();
    let start = |text: String| {
        std::fs::write(&held, text).expect("the home is ours");
        env.cldpd(["start", "-d", &copied, "--prompt", "[[print in]]"])
            .run()
    };
    let until = |millis: u128| {
        format!(r#"{{"claudeAiOauth":{{"accessToken":"hush-hush","expiresAt":{millis}}}}}"#)
    };
    let over = start(until(now - 60_000)).code(77);
    assert!(
        over.stderr.contains("expired") && over.stderr.contains("sign in again"),
        "{}",
        over.stderr
    );
    assert!(!over.stderr.contains("hush"), "{}", over.stderr);
    let broken = start("{\"claudeAiOauth\"".to_owned()).code(77);
    assert!(broken.stderr.contains("no JSON"), "{}", broken.stderr);
    let soon = start(until(now + 1_800_000)).code(0);
    assert!(
        soon.stderr.contains("the credentials of claude"),
        "{}",
        soon.stderr
    );
    let good = start(until(now + 7_200_000)).code(0);
    assert!(!good.stderr.contains("credentials"), "{}", good.stderr);

    // `doctor` looks at what is here.
    let dir = env.user_home().join(".claude");
    std::fs::create_dir_all(&dir).expect("the home is ours");
    std::fs::write(dir.join(".credentials.json"), until(now + 3_600_000))
        .expect("the home is ours");
    let checks = env.cldpd(["doctor", "--json"]).run().json();
    let all = checks.as_array().expect("checks");
    let claude = all
        .iter()
        .find(|check| check["name"] == "credentials of claude");
    assert_eq!(claude.expect("a check")["state"], "warning", "{checks:#}");

    // One file that containers would all write.
    let shared = env
        .fake_pod("shared")
        .json(json!({"mounts": [{"source": dir, "target": "/home/x/.claude"}]}))
        .make();
    let refused = env
        .cldpd(["start", &shared, "--prompt", "x"])
        .run()
        .code(125);
    assert!(
        refused.stderr.contains("several containers"),
        "{}",
        refused.stderr
    );
}

#[test]
fn an_answer_in_pieces_is_whole_though_the_daemon_died_within_it() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env
        .local_pod("pieces")
        .plain()
        .json(json!({"command": {"output": "gemini"}}))
        .make();
    let piece = |text: &str| {
        line(&format!(
            r#"{{"type":"message","role":"assistant","content":"{text}","delta":true}}"#
        ))
    };
    let prompt = format!(
        "{}{}{}{}{}",
        piece("The first half"),
        gate.hold(),
        piece(" and the second."),
        line(r#"{"type":"result","status":"success"}"#),
        "[[exit 0]]"
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_event(&id, "output");
    env.kill_daemon();
    gate.open();
    env.start_daemon();
    assert_eq!(env.wait(&id), 0);
    let said = said(&env.events(&id));
    let whole = "The first half and the second.";
    let texts: Vec<&Value> = of_type(&said, "text").iter().map(|e| &e["text"]).collect();
    assert_eq!(texts, [whole]);
    assert_eq!(of_type(&said, "result")[0]["text"], whole);
}
