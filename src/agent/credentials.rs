//! What each agent needs to be let in, where that may be, and until when it is good.
//! Never what it is.

use crate::model::{AgentKind, Timestamp};
use serde_json::Value;
use std::time::Duration;

/// Credentials that end this soon after a start are worth a word.
pub const SOON: Duration = Duration::from_secs(3600);

/// What one agent needs.
#[derive(Debug)]
pub struct Needs {
    /// The agent.
    pub agent: AgentKind,
    /// Any of these variables is enough.
    pub variables: &'static [&'static str],
    /// So is this file beneath a user's home.
    pub file: &'static str,
    /// Where in the file is the time, in milliseconds since 1970, until which it is
    /// good; and what gets another one by itself.
    expiry: Option<(&'static str, &'static str)>,
    /// How to get some.
    pub hint: &'static str,
}

/// What is in a file of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Good, until then where it says so.
    Good(Option<Timestamp>),
    /// Over since then; the agent can get new ones with it, which ends the old ones.
    Renewable(Timestamp),
    /// Over since then.
    Expired(Timestamp),
    /// It is no JSON.
    Malformed,
}

/// All there are.
pub const ALL: [Needs; 4] = [
    Needs {
        agent: AgentKind::Claude,
        variables: &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
            "CLAUDE_CODE_USE_FOUNDRY",
        ],
        file: ".claude/.credentials.json",
        expiry: Some(("/claudeAiOauth/expiresAt", "/claudeAiOauth/refreshToken")),
        hint: "set ANTHROPIC_API_KEY, or CLAUDE_CODE_OAUTH_TOKEN from `claude setup-token`, and name it in the pod's inheritEnv",
    },
    Needs {
        agent: AgentKind::Codex,
        variables: &["CODEX_API_KEY", "OPENAI_API_KEY", "CODEX_ACCESS_TOKEN"],
        file: ".codex/auth.json",
        expiry: None,
        hint: "set CODEX_API_KEY, and name it in the pod's inheritEnv; or sign in with `codex login`",
    },
    Needs {
        agent: AgentKind::Gemini,
        variables: &[
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ],
        file: ".gemini/oauth_creds.json",
        expiry: Some(("/expiry_date", "/refresh_token")),
        hint: "set GEMINI_API_KEY, and name it in the pod's inheritEnv",
    },
    Needs {
        agent: AgentKind::Opencode,
        variables: &[
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "GEMINI_API_KEY",
            "OPENROUTER_API_KEY",
            "OPENCODE_CONFIG_CONTENT",
        ],
        file: ".local/share/opencode/auth.json",
        expiry: None,
        hint: "set the key of your provider, and name it in the pod's inheritEnv; or sign in with `opencode auth login`",
    },
];

/// What that agent needs; nothing is known of any program.
#[must_use]
pub fn of(agent: AgentKind) -> Option<&'static Needs> {
    ALL.iter().find(|needs| needs.agent == agent)
}

impl Needs {
    /// What the file's text says about itself.
    #[must_use]
    pub fn judge(&self, text: &[u8], now: Timestamp) -> Held {
        let Ok(held) = serde_json::from_slice::<Value>(text) else {
            return Held::Malformed;
        };
        let Some((expires, renewal)) = self.expiry else {
            return Held::Good(None);
        };
        let until = held.pointer(expires).and_then(Value::as_i64);
        let Some(until) = until.map(|millis| Timestamp(millis.saturating_mul(1_000_000))) else {
            return Held::Good(None);
        };
        let renewal = held.pointer(renewal).and_then(Value::as_str);
        match (until > now, renewal) {
            (true, _) => Held::Good(Some(until)),
            (false, Some(token)) if !token.is_empty() => Held::Renewable(until),
            (false, _) => Held::Expired(until),
        }
    }
}
