//! Whether whoever calls has credentials for agents: where, and until when.
//! Never what they are.

use crate::agent::credentials::{self, Held, Needs};
use crate::model::api::Check;
use crate::model::{AgentKind, Timestamp};
use std::path::Path;
use std::time::Duration;

/// Credentials that end this soon are worth a warning.
const SOON: Duration = Duration::from_secs(2 * 3600);

/// One check for each agent. `is_set` says whether a variable has a value.
pub(super) fn checks(
    is_set: &dyn Fn(&str) -> bool,
    user_home: Option<&Path>,
    now: Timestamp,
) -> Vec<Check> {
    let check = |needs| look(needs, is_set, user_home, now);
    credentials::ALL.iter().map(check).collect()
}

fn look(
    needs: &Needs,
    is_set: &dyn Fn(&str) -> bool,
    user_home: Option<&Path>,
    now: Timestamp,
) -> Check {
    let name = format!("credentials of {}", needs.agent);
    if let Some(variable) = needs.variables.iter().find(|name| is_set(name)) {
        return Check::ok(&name, format!("{variable} is set"));
    }
    let path = user_home.map(|home| home.join(needs.file));
    let Some(path) = path.filter(|path| path.exists()) else {
        let looked = needs.variables.join(", ");
        let message = format!(
            "none: neither {looked} is set, nor is there ~/{}",
            needs.file
        );
        return match needs.agent {
            AgentKind::Claude => Check::warning(&name, message, needs.hint),
            // Only pods with that agent need them.
            _ => Check::ok(&name, message),
        };
    };
    let shown = format!("in ~/{}", needs.file);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("{shown}, which cannot be read: {error}");
            return Check::warning(&name, message, "make it yours and readable");
        }
    };
    match needs.judge(&text, now) {
        Held::Malformed => Check::warning(&name, format!("{shown}, which is no JSON"), SIGN_IN),
        Held::Good(None) => Check::ok(&name, shown),
        Held::Good(Some(until)) if until.since(now) < SOON => {
            Check::warning(&name, format!("{shown}, good until {until}"), SIGN_IN)
        }
        Held::Good(Some(until)) => Check::ok(&name, format!("{shown}, good until {until}")),
        Held::Renewable(at) => Check::ok(
            &name,
            format!("{shown}, expired {at}; the agent renews them"),
        ),
        Held::Expired(at) => Check::warning(&name, format!("{shown}, expired {at}"), SIGN_IN),
    }
}

const SIGN_IN: &str = "sign in again with the agent's own command";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::api::CheckState;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

    fn of_claude(variables: &[&str], file: Option<&str>) -> Check {
        let home = tempfile::tempdir().unwrap();
        if let Some(text) = file {
            std::fs::create_dir(home.path().join(".claude")).unwrap();
            std::fs::write(home.path().join(credentials::ALL[0].file), text).unwrap();
        }
        let all = checks(&|name| variables.contains(&name), Some(home.path()), NOW);
        assert_eq!(all.len(), credentials::ALL.len());
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
