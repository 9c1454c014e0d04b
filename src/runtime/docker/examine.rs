//! What there is to say about an engine, and what could keep sessions from
//! running there.

use super::endpoint::Endpoint;
use super::engine::{Engine, QUICK};
use super::unreachable::short;
use crate::model::api::Check;
use crate::model::{Error, ErrorCode, Timestamp};
use bollard::models::SystemInfo;
use std::path::Path;
use std::time::Duration;

/// Less free space than this is worth a warning, in bytes.
const DISK_WARNING: u64 = 2 << 30;
/// Clocks that are further apart than this mix the order of what is told.
const SKEW_WARNING: Duration = Duration::from_secs(5);
const GIB: f64 = (1u64 << 30) as f64;

/// The engine itself, its clock, its disk, and what it can limit.
pub(super) async fn engine(engine: &Engine) -> Vec<Check> {
    let asked = Timestamp::now();
    let info = match engine.call(QUICK, engine.client.info()).await {
        Ok(info) => info,
        Err(failure) => {
            let error = Error::from(failure.of_container("of the engine's own account"));
            let what = Error::new(ErrorCode::RuntimeUnavailable, error.message);
            return vec![Check::failed("docker", what)];
        }
    };
    let answered = Timestamp::now();
    let mut checks = vec![Check::ok("docker", described(engine, &info))];
    checks.extend(clock(&info, asked, answered));
    checks.extend(disk(engine, &info));
    checks.extend(limits(&info));
    checks.extend(selinux(&info));
    checks
}

fn described(engine: &Engine, info: &SystemInfo) -> String {
    let mut parts = vec![
        format!("{} ({})", engine.info.description, engine.by),
        match engine.buildkit {
            true => "builds with BuildKit".to_owned(),
            false => "builds as Podman does".to_owned(),
        },
    ];
    if has_option(info, "rootless") {
        parts.push("rootless".to_owned());
    }
    if let Some(version) = info.cgroup_version {
        parts.push(format!("cgroup v{version}"));
    }
    if let Some(driver) = &info.driver {
        parts.push(format!("storage {}", short(driver)));
    }
    if let Some(bytes) = info.mem_total {
        parts.push(format!("{:.0} GiB of memory", bytes as f64 / GIB));
    }
    parts.join(", ")
}

/// Whether the engine's security options have this name.
fn has_option(info: &SystemInfo, name: &str) -> bool {
    let options = info.security_options.iter().flatten();
    let wanted = format!("name={name}");
    options
        .flat_map(|option| option.split(','))
        .any(|part| part == wanted)
}

fn clock(info: &SystemInfo, asked: Timestamp, answered: Timestamp) -> Option<Check> {
    let theirs = Timestamp::parse(info.system_time.as_deref()?).ok()?;
    let apart = if theirs > answered {
        theirs.since(answered)
    } else {
        asked.since(theirs)
    };
    let name = "docker clock";
    if apart < SKEW_WARNING {
        return Some(Check::ok(name, "agrees with this machine's"));
    }
    let side = if theirs > answered { "ahead" } else { "behind" };
    Some(Check::warning(
        name,
        format!(
            "the engine's clock is {} s {side} of this machine's",
            apart.as_secs()
        ),
        "set both by the network's time; a virtual machine may have been asleep",
    ))
}

/// Where the engine keeps images and containers, if that is on this machine.
fn disk(engine: &Engine, info: &SystemInfo) -> Option<Check> {
    if !matches!(engine.endpoint, Endpoint::Unix(_)) {
        return None;
    }
    let root = info.docker_root_dir.as_deref()?;
    let stat = rustix::fs::statvfs(Path::new(root)).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let message = format!("{:.1} GiB free beneath {}", free as f64 / GIB, short(root));
    Some(match free < DISK_WARNING {
        true => Check::warning(
            "docker disk",
            message,
            "make room: `docker system df` says what takes it, and `cldpd rm` removes sessions",
        ),
        false => Check::ok("docker disk", message),
    })
}

fn limits(info: &SystemInfo) -> Option<Check> {
    let missing: Vec<&str> = [
        ("memory", info.memory_limit),
        ("cpus", info.cpu_cfs_quota),
        ("pids", info.pids_limit),
    ]
    .into_iter()
    .filter(|(_, can)| *can == Some(false))
    .map(|(name, _)| name)
    .collect();
    (!missing.is_empty()).then(|| {
        Check::warning(
            "docker limits",
            format!("the engine cannot limit {} of containers", missing.join(", ")),
            "give it the cgroup controllers: on cgroup v2, `systemctl edit user@.service` with Delegate=cpu memory pids",
        )
    })
}

/// Mounts that are made by the API carry no word for relabelling, so that the
/// directory has to have the right label itself.
fn selinux(info: &SystemInfo) -> Option<Check> {
    has_option(info, "selinux").then(|| {
        Check::warning(
            "docker selinux",
            "the engine confines containers by SELinux, which keeps them from files that are not labelled for them",
            "label the directory of sessions: semanage fcontext -a -t container_file_t '<home>/sessions(/.*)?' && restorecon -R <home>/sessions",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::api::CheckState;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn clocks_are_compared_with_the_time_that_asking_took() {
        let (asked, answered) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:08Z"));
        for (theirs, expected) in [
            ("2026-01-01T00:00:04Z", None),
            ("2026-01-01T00:00:12Z", None),
            ("2025-12-31T23:59:57Z", None),
            ("2026-01-01T00:01:08Z", Some("60 s ahead")),
            ("2025-12-31T23:59:50Z", Some("10 s behind")),
        ] {
            let info = SystemInfo {
                system_time: Some(theirs.to_owned()),
                ..SystemInfo::default()
            };
            let check = clock(&info, asked, answered).unwrap();
            match expected {
                None => assert_eq!(check.state, CheckState::Ok, "{theirs}"),
                Some(words) => assert!(check.message.contains(words), "{}", check.message),
            }
        }
        assert_eq!(clock(&SystemInfo::default(), asked, answered), None);
    }

    #[test]
    fn what_an_engine_cannot_limit_is_named() {
        let info = SystemInfo {
            memory_limit: Some(false),
            pids_limit: Some(true),
            cpu_cfs_quota: Some(false),
            ..SystemInfo::default()
        };
        let check = limits(&info).unwrap();
        assert!(check.message.contains("memory, cpus of"), "{check:?}");
        assert_eq!(limits(&SystemInfo::default()), None);
    }

    #[test]
    fn security_options_are_found_among_others() {
        let info = SystemInfo {
            security_options: Some(vec![
                "name=seccomp,profile=default".to_owned(),
                "name=selinux".to_owned(),
            ]),
            ..SystemInfo::default()
        };
        assert!(selinux(&info).is_some());
        assert!(!has_option(&info, "rootless"));
    }
}
