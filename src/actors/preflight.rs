//! Whether an agent has what it needs to be let in, as far as that can be known
//! before anything is recorded.
//!
//! Its image may have what nobody sees here. So a session is refused only for what is
//! certain: a pod that names the agent's variables, of which none is set; and files
//! of credentials that are no good, or that several containers would write.

use super::environment::Values;
use crate::agent::credentials::{self, Held, Needs, SOON};
use crate::model::spec::PodSpec;
use crate::model::{AgentKind, Error, ErrorCode, Result, Timestamp};
use std::path::{Path, PathBuf};

/// Checks the credentials of a session; says what the user should know. Blocking.
///
/// # Errors
/// `credentials` when it would not be let in; `invalid_pod` for a file of
/// credentials that containers would share.
pub(super) fn check(
    agent: AgentKind,
    pod: &PodSpec,
    values: &Values,
    now: Timestamp,
) -> Result<Vec<String>> {
    let Some(needs) = credentials::of(agent) else {
        return Ok(Vec::new());
    };
    if has_variables(needs, pod, values) {
        return Ok(Vec::new());
    }
    let Some((path, shared)) = file(needs, pod) else {
        return named(needs, pod).map(|()| Vec::new());
    };
    let shown = path.display();
    let refused = |code, why: String, hint: &str| {
        let message = format!("the credentials of {agent} in {shown} {why}");
        Err(Error::new(code, message).hint(hint.to_owned()))
    };
    if shared {
        let why = "are mounted to be written: several containers would renew them, and each \
                   renewal ends what the others have";
        let hint = "put the file into \"copy\" of pod.json, or use a key or a long-lived token";
        return refused(ErrorCode::InvalidPod, why.to_owned(), hint);
    }
    let code = ErrorCode::Credentials;
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) => return refused(code, format!("cannot be read: {error}"), needs.hint),
    };
    match needs.judge(&text, now) {
        Held::Malformed => refused(code, "are no JSON".to_owned(), SIGN_IN),
        Held::Expired(at) | Held::Renewable(at) => refused(code, format!("expired {at}"), SIGN_IN),
        Held::Good(Some(until)) if until.since(now) < SOON => Ok(vec![format!(
            "the credentials of {agent} in {shown} end {until}"
        )]),
        Held::Good(_) => Ok(Vec::new()),
    }
}

/// Checks the credentials of a further run. Files of credentials are in the container
/// since its first, and whether they are good there nobody sees here.
///
/// # Errors
/// `credentials` when it would not be let in.
pub(super) fn check_again(agent: AgentKind, pod: &PodSpec, values: &Values) -> Result<()> {
    match credentials::of(agent) {
        Some(needs) if !has_variables(needs, pod, values) && file(needs, pod).is_none() => {
            named(needs, pod)
        }
        Some(_) | None => Ok(()),
    }
}

/// A container has a copy: renewing that would end the original.
const SIGN_IN: &str =
    "sign in again with the agent's own command, or use a key or a long-lived token";

fn has_variables(needs: &Needs, pod: &PodSpec, values: &Values) -> bool {
    let mut names = needs.variables.iter();
    names.any(|name| {
        let given = values.env.get(*name).or_else(|| pod.env.get(*name));
        given.is_some_and(|value| !value.is_empty())
    })
}

/// The pod names variables of its agent, and none of them is set.
fn named(needs: &Needs, pod: &PodSpec) -> Result<()> {
    let names = pod.inherit_env.iter();
    let names: Vec<&str> = names
        .map(String::as_str)
        .filter(|name| needs.variables.contains(name))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let message = format!(
        "no credentials for {}: pod {} inherits {}, and none of it is set here",
        needs.agent,
        pod.name,
        names.join(", ")
    );
    Err(Error::new(ErrorCode::Credentials, message).hint(needs.hint))
}

/// The file of credentials that the pod's containers get, and whether they would
/// write the one that is there.
fn file(needs: &Needs, pod: &PodSpec) -> Option<(PathBuf, bool)> {
    let copies = pod.copy.iter();
    let copies = copies.map(|copy| (&copy.source, copy.target.as_str(), false));
    let mounts = pod.mounts.iter();
    let mounts = mounts.map(|mount| (&mount.source, mount.target.as_str(), !mount.read_only));
    mounts.chain(copies).find_map(|(source, target, shared)| {
        let path = within(needs.file, source, target)?;
        path.is_file().then_some((path, shared))
    })
}

/// Where the file lies, if what is put at `target` may hold it: it, or one of the
/// directories that it is in.
fn within(file: &str, source: &Path, target: &str) -> Option<PathBuf> {
    let target = Path::new(target);
    let file = Path::new(file);
    if target.ends_with(file) {
        return Some(source.to_owned());
    }
    let mut above = file.parent();
    while let Some(dir) = above.filter(|dir| !dir.as_os_str().is_empty()) {
        if target.ends_with(dir) {
            let rest = file.strip_prefix(dir).ok()?;
            return Some(source.join(rest));
        }
        above = dir.parent();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PodName;
    use crate::model::spec::{CopyFile, Mount};

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

    fn pod() -> PodSpec {
        PodSpec::bare(PodName::new("p").unwrap(), PathBuf::from("/p"))
    }

    fn with(names: &[&str]) -> Values {
        let env = names
            .iter()
            .map(|name| ((*name).to_owned(), "v".to_owned()));
        Values {
            env: env.collect(),
            ..Values::default()
        }
    }

    fn checked(pod: &PodSpec, values: &Values) -> std::result::Result<Vec<String>, String> {
        let checked = check(AgentKind::Claude, pod, values, NOW);
        checked.map_err(|error| format!("{:?} {}", error.code, error.message))
    }

    #[test]
    fn nothing_that_is_known_is_no_reason_to_refuse() {
        assert_eq!(checked(&pod(), &Values::default()), Ok(Vec::new()));
        let mut pod = pod();
        pod.inherit_env = vec!["ANTHROPIC_API_KEY".to_owned()];
        let refused = checked(&pod, &Values::default()).unwrap_err();
        assert!(refused.starts_with("Credentials") && refused.contains("ANTHROPIC_API_KEY"));
        assert_eq!(
            checked(&pod, &with(&["CLAUDE_CODE_OAUTH_TOKEN"])),
            Ok(Vec::new())
        );
        assert_eq!(
            check(AgentKind::Command, &pod, &Values::default(), NOW),
            Ok(Vec::new())
        );
    }

    #[test]
    fn a_file_is_judged_by_what_it_says_of_itself() {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("held.json");
        let mut pod = pod();
        pod.copy = vec![CopyFile {
            source: source.clone(),
            target: "~/.claude/.credentials.json".to_owned(),
        }];
        let says = |text: &str| {
            std::fs::write(&source, text).unwrap();
            checked(&pod, &Values::default())
        };
        let until = |millis: i64| {
            format!(r#"{{"claudeAiOauth":{{"accessToken":"hush","expiresAt":{millis}}}}}"#)
        };
        assert_eq!(says(&until(1_900_000_000_000)), Ok(Vec::new()));
        let soon = says(&until(1_800_000_600_000)).unwrap();
        assert!(soon[0].contains("end 2027-"), "{soon:?}");
        let over = says(&until(1_700_000_000_000)).unwrap_err();
        assert!(
            over.contains("expired 2023-11-14") && !over.contains("hush"),
            "{over}"
        );
        assert!(says("no json").unwrap_err().contains("no JSON"));
        assert_eq!(checked(&pod, &with(&["ANTHROPIC_API_KEY"])), Ok(Vec::new()));
    }

    #[test]
    fn a_file_that_containers_would_share_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".credentials.json"), "{}").unwrap();
        let mut pod = pod();
        let mut mount = Mount {
            source: home.path().to_owned(),
            target: "/home/node/.claude".to_owned(),
            read_only: false,
        };
        pod.mounts = vec![mount.clone()];
        assert!(
            checked(&pod, &Values::default())
                .unwrap_err()
                .starts_with("InvalidPod")
        );
        mount.read_only = true;
        pod.mounts = vec![mount];
        assert_eq!(checked(&pod, &Values::default()), Ok(Vec::new()));
    }
}
