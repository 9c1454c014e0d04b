//! What a container may use, as an engine is told it, and what its answers mean.
//!
//! An engine that cannot limit something creates the container all the same and
//! says so in a warning. Where the pod asked for that limit this is an error:
//! nobody is told that an agent is held in when it is not.

use crate::model::spec::Limits;
use crate::runtime::{CreateRequest, RuntimeError};
use bollard::models::HostConfig;

/// A key of `pod.json`, the words by which an engine speaks of it, and whether
/// the pod says something there itself.
struct Key {
    name: &'static str,
    words: &'static [&'static str],
    asked: fn(&CreateRequest) -> bool,
    limit: fn(&Limits) -> u64,
}

const KEYS: [Key; 4] = [
    Key {
        name: "memory",
        words: &["memory"],
        asked: |request| request.pod.memory.is_some_and(|bytes| bytes > 0),
        limit: |limits| limits.memory,
    },
    Key {
        name: "cpus",
        words: &["cpu"],
        asked: |request| request.pod.nano_cpus.is_some_and(|nanos| nanos > 0),
        limit: |limits| limits.nano_cpus,
    },
    Key {
        name: "pids",
        words: &["pids"],
        asked: |request| request.pod.pids.is_some_and(|pids| pids > 0),
        limit: |limits| u64::from(limits.pids),
    },
    Key {
        name: "shm",
        words: &["shm"],
        asked: |request| request.pod.shm.is_some_and(|bytes| bytes > 0),
        limit: |limits| limits.shm,
    },
];

/// The limits as an engine is told them; 0 says nothing.
pub(super) fn apply(limits: Limits, host: HostConfig) -> HostConfig {
    let said = |value: u64| (value > 0).then(|| i64::try_from(value).unwrap_or(i64::MAX));
    let memory = said(limits.memory);
    HostConfig {
        memory,
        // The sum of both: as much again in swap would be no limit.
        memory_swap: memory,
        nano_cpus: said(limits.nano_cpus),
        pids_limit: said(u64::from(limits.pids)),
        shm_size: said(limits.shm),
        ..host
    }
}

/// The error of an engine that refused the container, with the key that it is about.
pub(super) fn refused(request: &CreateRequest, error: RuntimeError) -> RuntimeError {
    let RuntimeError::Container { container, cause } = error else {
        return error;
    };
    let cause = match about(&cause).filter(|key| (key.limit)(&request.limits) > 0) {
        Some(key) if (key.asked)(request) => {
            format!("the engine refuses \"{}\" of pod.json: {cause}", key.name)
        }
        Some(key) => format!(
            "the engine refuses the default limit of \"{}\", which pod.json may set: {cause}",
            key.name
        ),
        None => cause,
    };
    RuntimeError::Container { container, cause }
}

/// Looks at what the engine answered beside the new container's id.
///
/// # Errors
/// Names the first limit that the pod asks for and the engine does not keep.
pub(super) fn check(request: &CreateRequest, warnings: &[String]) -> Result<(), RuntimeError> {
    for warning in warnings {
        let lost = about(warning).filter(|key| {
            let discarded = warning.to_lowercase().contains("discarded");
            discarded && (key.asked)(request)
        });
        let Some(key) = lost else {
            tracing::warn!(container = request.name, warning, "the engine warns");
            continue;
        };
        return Err(RuntimeError::Container {
            container: request.name.clone(),
            cause: format!(
                "this engine cannot limit \"{}\", which pod.json asks for: {warning}",
                key.name
            ),
        });
    }
    Ok(())
}

fn about(said: &str) -> Option<&'static Key> {
    let said = said.to_lowercase();
    KEYS.iter()
        .find(|key| key.words.iter().any(|word| said.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_PIDS: &str = "Your kernel does not support pids limit capabilities or the cgroup is \
                           not mounted. PIDs limit discarded.";
    const NO_SWAP: &str = "Your kernel does not support swap limit capabilities or the cgroup is \
                           not mounted. Memory limited without swap.";

    fn request(pids: Option<u32>) -> CreateRequest {
        use crate::model::spec::PodSpec;
        use crate::model::{HomeId, PodName, SessionId, Ulid};
        use crate::runtime::session_dir::SessionDir;
        let pod = PodName::new("p").unwrap();
        let id = SessionId::new(&pod, Ulid(1));
        CreateRequest {
            owner: crate::runtime::Owner {
                home: HomeId(Ulid(2)),
                session: Ulid(1),
                id,
                run: 0,
                attempt: 1,
            },
            name: "c".to_owned(),
            image: "i".to_owned(),
            pod: PodSpec {
                pids,
                memory: Some(1 << 30),
                ..PodSpec::bare(pod, "/p".into())
            },
            workdir: None,
            user: None,
            limits: Limits::default(),
            copy: false,
            dirs: SessionDir::new(std::path::Path::new("/s"), Ulid(1)).run(0, 1),
            volumes: Vec::new(),
        }
    }

    #[test]
    fn a_limit_that_is_not_kept_is_an_error_only_where_the_pod_asks_for_it() {
        let warnings = [NO_SWAP.to_owned(), NO_PIDS.to_owned()];
        assert!(check(&request(None), &warnings).is_ok());
        assert!(check(&request(Some(0)), &warnings).is_ok());
        let error = check(&request(Some(9)), &warnings).unwrap_err().to_string();
        assert!(error.contains("cannot limit \"pids\""), "{error}");
    }

    #[test]
    fn no_limit_is_not_said_and_swap_adds_nothing() {
        let none = apply(Limits::default(), HostConfig::default());
        assert_eq!(none, HostConfig::default());
        let limits = Limits {
            memory: 512 << 20,
            nano_cpus: 1_500_000_000,
            pids: 64,
            shm: 1 << 20,
        };
        let host = apply(limits, HostConfig::default());
        assert_eq!(host.memory, Some(536_870_912));
        assert_eq!(host.memory_swap, host.memory);
        assert_eq!(host.nano_cpus, Some(1_500_000_000));
        assert_eq!((host.pids_limit, host.shm_size), (Some(64), Some(1 << 20)));
    }
}
