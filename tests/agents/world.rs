//! One test's home with a pod around a real agent.

use crate::agent::Agent;
use crate::ledger::Told;
use crate::support::TestEnv;
use crate::support::env::BINARY;
use crate::support::events::{of_run, only};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where agents work: what they remember goes by it.
pub const WORKDIR: &str = "/home/agent/repo";

/// A home, and a pod of one agent.
pub struct World {
    pub env: TestEnv,
    pub agent: &'static Agent,
    pub pod: String,
}

/// A run that has ended.
pub struct Ended {
    /// Its events.
    pub events: Vec<Value>,
    /// How it ended: a name, or a list of a name and what belongs to it.
    pub outcome: Value,
    /// Its process's.
    pub code: i64,
    /// What the mock says.
    pub dispensed: Told,
    /// What it wrote to standard output.
    pub raw: Vec<u8>,
}

impl World {
    pub fn new(agent: &'static Agent) -> Self {
        Self::with(agent, json!({}))
    }

    /// With further keys in `pod.json`.
    pub fn with(agent: &'static Agent, keys: Value) -> Self {
        let env = TestEnv::new();
        let builder = env.docker_pod(agent.name).json((agent.pod)()).json(keys);
        let dir = builder.dir();
        for (path, text) in agent.files {
            write(&dir.join("home").join(path), text.as_bytes());
        }
        write(&dir.join("home/repo/README"), b"the agent's work\n");
        let name = agent.name;
        let dockerfile = format!(
            "FROM {image}\nCOPY --chown=1000:1000 home /home/agent\nUSER agent\nWORKDIR {WORKDIR}\n",
            image = agent.image(),
        );
        // Mounted and not copied: it is in no image, and each test has one.
        let mock = Path::new(BINARY).with_file_name("examples/mock-api");
        let mock =
            json!({"source": mock, "target": format!("/usr/local/bin/{name}"), "readOnly": true});
        let shared = env.shared();
        let gates = json!({"source": shared, "target": shared});
        let builder = builder.json(json!({"mounts": [mock, gates]}));
        let pod = builder.dockerfile(&dockerfile).make();
        Self { env, agent, pod }
    }

    /// Dispatches a prompt; the session's id.
    #[track_caller]
    pub fn start(&self, prompt: &str) -> String {
        self.env.start(&[&self.pod, "--prompt", prompt])
    }

    /// Goes on with a session.
    #[track_caller]
    pub fn resume(&self, id: &str, prompt: &str) {
        let args = ["resume", "-d", id, "--prompt", prompt];
        self.env.cldpd(args).run().ok();
    }

    /// Dispatches a prompt and waits for its end.
    #[track_caller]
    pub fn run(&self, prompt: &str) -> (String, Ended) {
        let id = self.start(prompt);
        let ended = self.ended(&id, 0);
        (id, ended)
    }

    /// Dispatches what uses a tool and then hangs, and waits until it does.
    #[track_caller]
    pub fn hang(&self, before: &str) -> String {
        let id = self.start(&format!("{before} [[with: Now.]] [[hang]]"));
        let follow = self.env.follow(&id);
        for needle in self.agent.hanging {
            follow.line(needle);
        }
        id
    }

    /// Waits for a session's end, and looks at one of its runs.
    #[track_caller]
    pub fn ended(&self, id: &str, run: u64) -> Ended {
        self.env.wait(id);
        let events = of_run(&self.env.events(id), run);
        let number = run.to_string();
        let raw = ["logs", "--raw", "--stream", "stdout", "--run", &number, id];
        let ledger = self.ledger(id, run);
        Ended {
            outcome: outcome(only(&events, "run_ended")),
            code: only(&events, "container_exited")["code"]
                .as_i64()
                .unwrap_or(-1),
            dispensed: Told::dispensed(self.agent, &ledger),
            raw: self.env.cldpd(raw).run().code(0).stdout,
            events,
        }
    }

    /// The mock's ledger of a run.
    #[track_caller]
    fn ledger(&self, id: &str, run: u64) -> Vec<Value> {
        let copy = self.env.root().join(format!("ledger-{id}-{run}"));
        let from = format!("{id}:/tmp/mock-api.jsonl");
        let to = copy.display().to_string();
        self.env.cldpd(["cp", &from, &to]).run().ok();
        let text = std::fs::read_to_string(&copy).expect("it was copied");
        let mut begun = 0;
        let mut lines = Vec::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("the mock writes JSON");
            if line["run"].is_string() {
                begun += 1;
            } else if begun == run + 1 {
                lines.push(line);
            }
        }
        assert!(begun > run, "the mock knows of run {run}: {text}");
        lines
    }
}

impl Ended {
    /// Fails unless that was its outcome.
    #[track_caller]
    pub fn outcome(self, wanted: Value) -> Self {
        let shown = String::from_utf8_lossy(&self.raw);
        let tail: String = shown.lines().rev().take(2).collect();
        assert_eq!(self.outcome, wanted, "code {}: {tail}", self.code);
        self
    }

    /// Fails unless cldpd's events say what the mock dispensed.
    #[track_caller]
    pub fn tells_all(self) -> Self {
        assert_eq!(Told::shown(&self.events), self.dispensed);
        self
    }

    /// The same of an agent that says more than its API does: of an error, or of
    /// who works for it.
    #[track_caller]
    pub fn tells_figures(self) -> Self {
        let shown = Told::shown(&self.events);
        assert_eq!(shown.figures(), self.dispensed.figures());
        self
    }

    /// The result that the agent reported.
    #[track_caller]
    pub fn result(&self) -> &Value {
        let results = self.agent_events("result");
        results.last().expect("a result")
    }

    /// Its only event of a kind.
    #[track_caller]
    pub fn event(&self, kind: &str) -> &Value {
        only(&self.events, kind)
    }

    /// Its typed events of one type.
    pub fn agent_events(&self, kind: &str) -> Vec<&Value> {
        let agent = self.events.iter().filter(|e| e["kind"] == "agent");
        let events = agent.map(|e| &e["event"]);
        events.filter(|event| event["type"] == kind).collect()
    }
}

fn outcome(event: &Value) -> Value {
    match event["outcome"].as_str() {
        Some("api_error") => json!(["api_error", event["status"], event["retryable"]]),
        _ => event["outcome"].clone(),
    }
}

fn write(path: &PathBuf, bytes: &[u8]) {
    let dir = path.parent().expect("a file is in a directory");
    std::fs::create_dir_all(dir).expect("the home is ours");
    std::fs::write(path, bytes).expect("the home is ours");
}
