//! Whether whoever calls has credentials for agents: where, and until when.
//! Never what they are.

use crate::model::Timestamp;
use crate::model::api::Check;
use serde_json::Value;
use std::path::Path;

/// An agent, and where its credentials are looked for.
struct Source {
    agent: &'static str,
    /// Any of these variables is enough.
    variables: &'static [&'static str],
    /// So is this file beneath the user's home.
    file: &'static str,
    /// Where in the file is the time, in milliseconds, until which it is good;
    /// and what gets another one by itself.
    expiry: Option<(&'static str, &'static str)>,
    /// How to get some.
    hint: &'static str,
}

const SOURCES: [Source; 3] = [
    Source {
        agent: "claude",
        variables: &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
        ],
        file: ".claude/.credentials.json",
        expiry: Some(("/claudeAiOauth/expiresAt", "/claudeAiOauth/refreshToken")),
        hint: "set ANTHROPIC_API_KEY, or CLAUDE_CODE_OAUTH_TOKEN from `claude setup-token`, and name it in the pod's inheritEnv",
    },
    Source {
        agent: "codex",
        variables: &["OPENAI_API_KEY", "CODEX_API_KEY"],
        file: ".codex/auth.json",
        expiry: None,
        hint: "",
    },
    Source {
        agent: "gemini",
        variables: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        file: ".gemini/oauth_creds.json",
        expiry: Some(("/expiry_date", "/refresh_token")),
        hint: "",
    },
];

/// One check for each agent. `is_set` says whether a variable has a value.
pub(super) fn checks(
    is_set: &dyn Fn(&str) -> bool,
    user_home: Option<&Path>,
    now: Timestamp,
) -> Vec<Check> {
    let check = |source| look(source, is_set, user_home, now);
    SOURCES.iter().map(check).collect()
}

fn look(
    source: &Source,
    is_set: &dyn Fn(&str) -> bool,
    user_home: Option<&Path>,
    now: Timestamp,
) -> Check {
    let name = format!("credentials of {}", source.agent);
    if let Some(variable) = source.variables.iter().find(|name| is_set(name)) {
        return Check::ok(&name, format!("{variable} is set"));
    }
    let path = user_home.map(|home| home.join(source.file));
    let Some(path) = path.filter(|path| path.exists()) else {
        let looked = source.variables.join(", ");
        let message = format!(
            "none: neither {looked} is set, nor is there ~/{}",
            source.file
        );
        return match source.hint {
            // Only pods with that agent need them.
            "" => Check::ok(&name, message),
            hint => Check::warning(&name, message, hint),
        };
    };
    let shown = format!("in ~/{}", source.file);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("{shown}, which cannot be read: {error}");
            return Check::warning(&name, message, "make it yours and readable");
        }
    };
    let Ok(held) = serde_json::from_slice::<Value>(&text) else {
        let message = format!("{shown}, which is no JSON");
        return Check::warning(&name, message, "sign in again with the agent's own command");
    };
    let Some((expires, renewal)) = source.expiry else {
        return Check::ok(&name, shown);
    };
    let until = held.pointer(expires).and_then(Value::as_i64);
    let Some(until) = until.map(|millis| Timestamp(millis.saturating_mul(1_000_000))) else {
        return Check::ok(&name, shown);
    };
    let renewed = held
        .pointer(renewal)
        .and_then(Value::as_str)
        .is_some_and(|token| !token.is_empty());
    match (until > now, renewed) {
        (true, _) => Check::ok(&name, format!("{shown}, good until {until}")),
        (false, true) => Check::ok(
            &name,
            format!("{shown}, expired {until}; the agent renews them"),
        ),
        (false, false) => Check::warning(
            &name,
            format!("{shown}, expired {until}"),
            "sign in again with the agent's own command",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::api::CheckState;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

    fn of_claude(variables: &[&str], file: Option<&str>) -> Check {
        let home = tempfile::tempdir().unwrap();
        if let Some(text) = file {
            std::fs::create_dir(home.path().join(".claude")).unwrap();
            std::fs::write(home.path().join(SOURCES[0].file), text).unwrap();
        }
        let all = checks(&|name| variables.contains(&name), Some(home.path()), NOW);
        assert_eq!(all.len(), SOURCES.len());
        all.into_iter().next().unwrap()
    }

    #[test]
    fn a_variable_is_enough_and_nothing_is_a_warning() {
        let check = of_claude(&["CLAUDE_CODE_OAUTH_TOKEN"], None);
        assert_eq!(check.state, CheckState::Ok);
        assert_eq!(check.message, "CLAUDE_CODE_OAUTH_TOKEN is set");
        let check = of_claude(&["OPENAI_API_KEY"], None);
        assert_eq!(check.state, CheckState::Warning);
        assert!(check.hint.unwrap().contains("inheritEnv"));
    }

    #[test]
    fn a_file_says_until_when_and_never_what() {
        let file = |until: i64, renewal: &str| {
            format!(
                r#"{{"claudeAiOauth":{{"accessToken":"hush","refreshToken":"{renewal}","expiresAt":{until}}}}}"#
            )
        };
        for (until, renewal, state, words) in [
            (
                1_900_000_000_000,
                "",
                CheckState::Ok,
                "good until 2030-03-17",
            ),
            (1_700_000_000_000, "hush", CheckState::Ok, "renews"),
            (
                1_700_000_000_000,
                "",
                CheckState::Warning,
                "expired 2023-11-14",
            ),
        ] {
            let check = of_claude(&[], Some(&file(until, renewal)));
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.message.contains(words), "{check:?}");
            assert!(!format!("{check:?}").contains("hush"), "{check:?}");
        }
        let check = of_claude(&[], Some("no json"));
        assert_eq!(check.state, CheckState::Warning);
    }
}
