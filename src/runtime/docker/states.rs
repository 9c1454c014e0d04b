//! States that Podman has and Docker does not, in Docker's words.
//!
//! A container of Podman's is `stopped` from its end until it is cleaned up. An
//! answer with that in it is one that the client library cannot read.

use bollard::errors::Error as EngineError;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What was answered, also when only a state's name stood in the way.
pub(super) fn understood<T: DeserializeOwned>(
    answer: Result<T, EngineError>,
) -> Result<T, EngineError> {
    let Err(EngineError::JsonDataError { contents, .. }) = &answer else {
        return answer;
    };
    let Ok(mut value) = serde_json::from_str::<Value>(contents) else {
        return answer;
    };
    match &mut value {
        Value::Array(all) => all
            .iter_mut()
            .filter_map(|one| one.get_mut("State"))
            .for_each(mend),
        one => one.pointer_mut("/State/Status").into_iter().for_each(mend),
    }
    serde_json::from_value(value).or(answer)
}

fn mend(state: &mut Value) {
    let docker = match state.as_str() {
        Some("stopped") => "exited",
        Some("configured" | "initialized") => "created",
        _ => return,
    };
    *state = docker.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary};

    fn unread<T>(contents: &str) -> Result<T, EngineError> {
        Err(EngineError::JsonDataError {
            message: "unknown variant".to_owned(),
            contents: contents.to_owned(),
            column: 1,
        })
    }

    #[test]
    fn states_of_podman_are_read_as_dockers() {
        let text = r#"{"Name":"/c","State":{"Status":"stopped","ExitCode":3}}"#;
        let found = understood(unread::<ContainerInspectResponse>(text)).unwrap();
        let state = found.state.unwrap();
        assert_eq!(state.status, Some(ContainerStateStatusEnum::EXITED));
        assert_eq!(state.exit_code, Some(3));

        let text = r#"[{"Id":"a","State":"initialized"},{"Id":"b","State":"running"}]"#;
        let listed = understood(unread::<Vec<ContainerSummary>>(text)).unwrap();
        assert_eq!(listed.len(), 2);
    }

    #[test]
    fn what_is_wrong_otherwise_stays_wrong() {
        for text in [r#"{"State":{"Status":"odd"}}"#, "{", r#"{"State":7}"#] {
            let answer = understood(unread::<ContainerInspectResponse>(text));
            assert!(matches!(answer, Err(EngineError::JsonDataError { .. })));
        }
    }
}
