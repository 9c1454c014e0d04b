//! What lies in an attempt's directory, and what that says: whose it is, which
//! process its shim is, how it ended.
//!
//! All of it was in an agent's hands. What makes no sense is as good as nothing,
//! and a process is only touched when pid, start time and boot agree.

use crate::model::{HomeId, SessionId, Timestamp, Ulid};
use crate::runtime::shim::{self, files, stat};
use crate::runtime::{ExitInfo, Found, Owner, PlaceState, Result, RuntimeError};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Longest file that is read of a place.
const SMALL: u64 = 64 * 1024;

/// The file `place`.
#[derive(Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) home: HomeId,
    pub(super) session: Ulid,
    pub(super) id: SessionId,
    pub(super) run: u32,
    pub(super) attempt: u32,
    pub(super) name: String,
}

/// A process, told from one that gets its pid later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: u32,
    pub(super) start: u64,
}

/// What stands in an attempt's directory. Its files were in an agent's hands:
/// what makes no sense there is as good as nothing.
pub(super) fn look(path: &Path) -> Result<Option<Found>> {
    let Some(directory) = open(path)? else {
        return Ok(None);
    };
    let Some(label) =
        small(&directory, "place").and_then(|text| serde_json::from_str::<Label>(&text).ok())
    else {
        return Ok(None);
    };
    Ok(Some(Found {
        owner: Owner {
            home: label.home,
            session: label.session,
            id: label.id,
            run: label.run,
            attempt: label.attempt,
        },
        id: label.name.clone(),
        name: label.name,
        state: state_of(&directory),
        volumes: Vec::new(),
    }))
}

pub(super) fn state_of(directory: &OwnedFd) -> PlaceState {
    // The process first: whoever ends leaves its word before it does.
    let mut said = who(directory);
    loop {
        if let Some(shim) = shim_of(said.as_ref())
            && shim.is_alive()
        {
            return PlaceState::Running {
                pid: Some(shim.pid),
                paused: false,
            };
        }
        // While it begins its process changes: who is dead may have been succeeded.
        let now = who(directory);
        if now == said {
            break;
        }
        said = now;
    }
    if let Some(info) = small(directory, "exit").and_then(|text| exit_of(&text)) {
        return PlaceState::Exited(info);
    }
    if let Some(word) = small(directory, "fail") {
        return PlaceState::Exited(ExitInfo {
            code: i64::from(shim::SHIM_FAILED),
            error: Some(word.trim_end().to_owned()),
            ..ExitInfo::default()
        });
    }
    // Not born, or not so far that it said who it is: that comes at once.
    if said.is_none() {
        return PlaceState::Created;
    }
    PlaceState::Exited(ExitInfo {
        code: 137,
        error: Some("its shim was killed".to_owned()),
        ..ExitInfo::default()
    })
}

pub(super) fn exit_of(text: &str) -> Option<ExitInfo> {
    let (code, time) = text.trim_end().split_once(' ')?;
    Some(ExitInfo {
        code: code.parse().ok()?,
        finished: time.parse().ok().map(Timestamp),
        ..ExitInfo::default()
    })
}

/// The shim, by its own word; none of an earlier boot.
pub(super) fn shim_of(said: Option<&(Identity, String)>) -> Option<Identity> {
    let (identity, boot) = said?;
    (*boot == stat::boot_text()).then_some(*identity)
}

/// Who the shim is, and in which boot. While it begins, the process that it
/// will come out of.
pub(super) fn who(directory: &OwnedFd) -> Option<(Identity, String)> {
    let text = small(directory, "pid").or_else(|| small(directory, "born"))?;
    let mut words = text.split_ascii_whitespace();
    let identity = Identity::parse(words.next()?, words.next()?)?;
    Some((identity, words.next()?.to_owned()))
}

/// The keepers and programs of its runs.
pub(super) fn kept_by(directory: &OwnedFd) -> Vec<(Identity, Identity)> {
    if shim_of(who(directory).as_ref()).is_none() {
        return Vec::new();
    }
    let text = small(directory, "keepers").unwrap_or_default();
    let pair = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let mut next = || Identity::parse(words.next()?, words.next()?);
        Some((next()?, next()?))
    };
    text.lines().filter_map(pair).collect()
}

impl Identity {
    pub(super) fn parse(pid: &str, start: &str) -> Option<Self> {
        Some(Self {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        })
    }

    pub(super) fn is_alive(self) -> bool {
        stat::read(self.pid).is_some_and(|now| now.start == self.start && !now.zombie)
    }

    /// A handle on this very process, if it lives. Looked at after it was
    /// opened: what the handle holds cannot be replaced any more.
    pub(super) fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(fd)
    }

    pub(super) async fn kill_and_wait(self, path: &Path) -> Result<()> {
        let Some(fd) = self.open() else {
            return Ok(());
        };
        let failed = |source| RuntimeError::Io {
            action: "cannot kill the process of",
            path: path.to_owned(),
            source,
        };
        match pidfd_send_signal(&fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(failed(error.into())),
        }
        ended(fd).await.map_err(failed)
    }
}

/// Completes when the process of that handle has ended.
pub(super) async fn ended(fd: OwnedFd) -> io::Result<()> {
    files::readable(fd)?.readable().await
}

pub(super) fn write_label(path: &Path, label: &Label) -> Result<()> {
    let (aside, place) = (path.join("place.new"), path.join("place"));
    let write = || -> io::Result<()> {
        fs::write(&aside, serde_json::to_vec(label)?)?;
        fs::rename(&aside, &place)
    };
    write().map_err(|source| RuntimeError::Io {
        action: "cannot write",
        path: place.clone(),
        source,
    })
}

pub(super) fn small(directory: &OwnedFd, name: &str) -> Option<String> {
    files::small_text(directory, name, SMALL).ok().flatten()
}

pub(super) fn open(path: &Path) -> Result<Option<OwnedFd>> {
    match files::directory(path) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RuntimeError::Io {
            action: "cannot open",
            path: path.to_owned(),
            source,
        }),
    }
}

/// The attempts' directories of a session's.
pub(super) fn places(session: &Path) -> Result<Vec<PathBuf>> {
    let is_place = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let numbers = name.and_then(|name| name.strip_prefix('r')?.split_once('.'));
        let number = |text: &str| text.parse::<u32>().is_ok();
        numbers.is_some_and(|(run, attempt)| number(run) && number(attempt))
    };
    Ok(directories(session)?.into_iter().filter(is_place).collect())
}

pub(super) fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let broken = |source| RuntimeError::Io {
        action: "cannot list",
        path: path.to_owned(),
        source,
    };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(broken(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(broken)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.push(entry.path());
        }
    }
    Ok(all)
}
