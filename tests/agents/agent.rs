//! What the agents have of their own: how they find the mock, and their words.

use serde_json::{Value, json};

/// A real agent.
pub struct Agent {
    /// Its name in `pod.json` and in the pins.
    pub name: &'static str,
    /// Keys of its pod's `pod.json`.
    pub pod: fn() -> Value,
    /// Its configuration: paths below its home, and what they contain.
    pub files: &'static [(&'static str, &'static str)],
    /// Name and summary under which cldpd shows the use of a tool.
    pub tool: fn(&Value) -> (String, String),
    /// Dollars for a million tokens: input, output, read from and written to a
    /// cache. None where the agent says no price.
    pub price: Option<[f64; 4]>,
    /// Lines that come, one after the other, when it waits for `[[with: Now.]] [[hang]]`.
    pub hanging: &'static [&'static str],
    /// What it asks aside (a title, a model to choose) counts as its use.
    pub asides: bool,
}

/// The pins: a line for each agent.
const PINS: &str = include_str!("pins");

impl Agent {
    /// The version that is tested.
    #[track_caller]
    pub fn version(&self) -> &'static str {
        let mut lines = PINS.lines().map(str::split_whitespace);
        lines
            .find_map(|mut words| (words.next() == Some(self.name)).then(|| words.next()))
            .flatten()
            .unwrap_or_else(|| panic!("{} is not pinned", self.name))
    }

    /// The image that `scripts/agents.sh` makes.
    pub fn image(&self) -> String {
        format!("cldpd-agent-{}:{}", self.name, self.version())
    }
}

/// A tool's own name, and its command.
fn command(use_: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&use_["name"]), text(&use_["input"]["command"]))
}

/// Claude Code.
pub const CLAUDE: Agent = Agent {
    name: "claude",
    pod: || {
        json!({
            "agent": "claude",
            "env": {
                "ANTHROPIC_API_KEY": "dummy",
                "ANTHROPIC_BASE_URL": "http://127.0.0.1:8765",
                // Ten, with ever longer waits, where nothing is said.
                "CLAUDE_CODE_MAX_RETRIES": "2",
            },
        })
    },
    files: &[],
    tool: |use_| match use_["name"].as_str() {
        Some("Task") => ("Task".to_owned(), "look around".to_owned()),
        _ => command(use_),
    },
    // Its own list's, for the model that it takes when nobody chooses.
    price: Some([4.0, 20.0, 0.2, 5.0]),
    hanging: &["\"text\":\"Now.\""],
    asides: true,
};

/// Codex.
pub const CODEX: Agent = Agent {
    name: "codex",
    pod: || json!({"agent": "codex", "env": {"MOCK_API_KEY": "dummy"}}),
    files: &[(
        ".codex/config.toml",
        r#"
model = "scripted"
model_provider = "mock"

[model_providers.mock]
name = "mock"
base_url = "http://127.0.0.1:8765/v1"
env_key = "MOCK_API_KEY"
wire_api = "responses"

[analytics]
enabled = false
"#,
    )],
    tool: |use_| {
        let command = use_["input"]["cmd"].as_str().unwrap_or_default();
        let shown = match command.contains(' ') {
            true => format!("/bin/bash -lc '{command}'"),
            false => format!("/bin/bash -lc {command}"),
        };
        ("command_execution".to_owned(), shown)
    },
    price: None,
    hanging: &["\"text\":\"Now.\""],
    asides: false,
};

/// opencode.
pub const OPENCODE: Agent = Agent {
    name: "opencode",
    pod: || json!({"agent": "opencode"}),
    files: &[(
        ".config/opencode/opencode.json",
        r#"{
  "model": "mock/scripted",
  "autoupdate": false,
  "share": "disabled",
  "provider": {
    "mock": {
      "npm": "@ai-sdk/openai-compatible",
      "options": {"baseURL": "http://127.0.0.1:8765/v1", "apiKey": "dummy"},
      "models": {
        "scripted": {
          "cost": {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75},
          "limit": {"context": 1000000, "output": 32000}
        }
      }
    }
  }
}
"#,
    )],
    tool: command,
    price: Some([3.0, 15.0, 0.3, 3.75]),
    // It tells a text only when it has ended.
    hanging: &["\"reason\":\"tool-calls\"", "\"step_start\""],
    asides: false,
};

/// Gemini CLI.
pub const GEMINI: Agent = Agent {
    name: "gemini",
    pod: || {
        json!({
            "agent": "gemini",
            "env": {
                "GEMINI_API_KEY": "dummy",
                "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:8765",
            },
        })
    },
    files: &[(
        ".gemini/settings.json",
        r#"{
  "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": false}},
  "privacy": {"usageStatisticsEnabled": false},
  "general": {"enableAutoUpdate": false}
}
"#,
    )],
    tool: command,
    price: None,
    hanging: &["\"role\":\"assistant\",\"content\":\"Now.\""],
    asides: true,
};
