//! Fail points: named places where the shim, or a keeper, can be made to die, for
//! tests alone.
//!
//! Only in a build of the crate with its feature `failpoints` is anything of this
//! there at all: `build.rs` sets `cfg(failpoints)` then. What is in a file of that
//! name beside the program arms them: `spool.half=kill@3;run.exited=kill`. With
//! `spool.bound=tell:/tmp/gate` whoever reads that FIFO is told, and waited for. There
//! `spool.max=400000` makes the spool's bound small, and `clock=/a/file` names one that
//! says by how many seconds the clock is wrong.

/// A place with a name, and what is done there before the death.
#[cfg(failpoints)]
macro_rules! fail_point {
    ($name:literal) => {
        $crate::failpoint::hit($name, || ())
    };
    ($name:literal, $first:expr) => {
        $crate::failpoint::hit($name, $first)
    };
}

/// A place with a name: nothing, in this build.
#[cfg(not(failpoints))]
macro_rules! fail_point {
    ($($any:tt)*) => {};
}

#[cfg(failpoints)]
pub use armed::{bound, clock, hit};

#[cfg(failpoints)]
mod armed {
    use crate::sys::{self, signals};
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    enum Action {
        Kill,
        /// Whoever comes by waits until somebody reads this FIFO.
        Tell(PathBuf),
    }

    struct Armed {
        name: String,
        action: Action,
        at: u64,
        seen: AtomicU64,
    }

    /// Read once, by the first that comes by: later this process closes itself.
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let beside = std::env::current_exe().map(|program| program.with_file_name("failpoints"));
        beside.and_then(std::fs::read_to_string).unwrap_or_default()
    });

    static ARMED: LazyLock<Vec<Armed>> =
        LazyLock::new(|| TEXT.split(';').filter_map(read).collect());

    /// By how many nanoseconds the clock is wrong.
    pub fn clock() -> i64 {
        let file = TEXT.split(';').find_map(|part| part.strip_prefix("clock="));
        let wrong = || -> Option<i64> {
            let text = std::fs::read_to_string(file?).ok()?;
            text.trim().parse::<i64>().ok()?.checked_mul(1_000_000_000)
        };
        wrong().unwrap_or(0)
    }

    /// How much of the spool may be there at once, if that is said.
    pub fn bound() -> Option<u64> {
        let bound = |part: &str| part.strip_prefix("spool.max=")?.parse().ok();
        TEXT.split(';').find_map(bound)
    }

    /// `NAME=ACTION[@N]`
    fn read(part: &str) -> Option<Armed> {
        let (name, then) = part.split_once('=')?;
        let (action, at) = then.split_once('@').unwrap_or((then, "1"));
        Some(Armed {
            name: name.to_owned(),
            action: match action {
                "kill" => Action::Kill,
                other => Action::Tell(other.strip_prefix("tell:")?.into()),
            },
            at: at.parse().ok()?,
            seen: AtomicU64::new(0),
        })
    }

    /// Somebody comes by.
    pub fn hit(name: &str, first: impl FnOnce()) {
        let due = |armed: &Armed| {
            armed.name == name && armed.seen.fetch_add(1, Ordering::Relaxed) + 1 == armed.at
        };
        match ARMED.iter().find(|armed| due(armed)) {
            None => {}
            Some(Armed {
                action: Action::Tell(gate),
                ..
            }) => drop(std::fs::File::options().write(true).open(gate)),
            Some(_) => {
                first();
                let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
                let _ = sys::kill(own, signals::KILL);
                // The first process of a container is not killed from inside.
                sys::exit(137);
            }
        }
    }
}
