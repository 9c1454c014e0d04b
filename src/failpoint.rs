//! Fail points: named places where this process can be made to die, to panic or to
//! wait, for tests alone.
//!
//! Only with the feature `failpoints` is anything of this there at all: without
//! it `fail_point!` expands to nothing. `CLDPD_FAILPOINTS` arms them, as in
//! `capture.recorded=kill@3;session.append/broken=panic@1+`: at the third time
//! that a batch was recorded the process kills itself; from the first event on
//! that a session of the pod `broken` records, its actor panics each time. With
//! `launch.looked=hold:/tmp/gate` whoever comes by waits at that FIFO until it was
//! written to. Shims have points of their own (`shim/failpoint.rs`), which
//! `CLDPD_SHIM_FAILPOINTS` arms for the sessions of a name or of a pod:
//! `KEY/spool.half=kill@3`. `CLDPD_CLOCK` names a file that says by how many seconds
//! the clock is wrong, for this process and for the shims that it starts.

/// A place with a name, and what it is about if that matters (`/KEY` chooses).
#[cfg(feature = "failpoints")]
macro_rules! fail_point {
    ($name:literal) => {
        $crate::failpoint::hit($name, "")
    };
    ($name:literal, $key:expr) => {
        $crate::failpoint::hit($name, $key)
    };
}

/// A place with a name: nothing, in this build.
#[cfg(not(feature = "failpoints"))]
macro_rules! fail_point {
    ($($any:tt)*) => {};
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::{arm_shims, clock, hit};

#[cfg(feature = "failpoints")]
mod armed {
    use rustix::process::{Signal, getpid, kill_process};
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The variable that arms them.
    const VARIABLE: &str = "CLDPD_FAILPOINTS";
    /// The variable that arms those of sessions' shims.
    const SHIMS_VARIABLE: &str = "CLDPD_SHIM_FAILPOINTS";

    /// The variable that names the file of the clock.
    const CLOCK: &str = "CLDPD_CLOCK";

    static CLOCK_FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os(CLOCK).map(PathBuf::from));

    /// By how many nanoseconds the clock is wrong.
    pub(crate) fn clock() -> i64 {
        let wrong = || -> Option<i64> {
            let text = std::fs::read_to_string(CLOCK_FILE.as_ref()?).ok()?;
            text.trim().parse::<i64>().ok()?.checked_mul(1_000_000_000)
        };
        wrong().unwrap_or(0)
    }

    enum Action {
        /// Sent to this process itself.
        Signal(Signal),
        /// Of whoever came by.
        Panic,
        /// Whoever comes by waits at a FIFO until somebody has opened it for writing.
        Hold(PathBuf),
    }

    struct Armed {
        name: String,
        key: Option<String>,
        action: Action,
        at: u64,
        /// Each further time, too.
        always: bool,
        seen: AtomicU64,
    }

    static ARMED: LazyLock<Vec<Armed>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let parts = text.split(';').filter(|part| !part.is_empty());
        let read = parts.filter_map(|part| {
            let armed = read(part);
            if armed.is_none() {
                tracing::error!(part, "not understood in {VARIABLE}");
            }
            armed
        });
        read.collect()
    });

    /// `NAME[/KEY]=ACTION[@N[+]]`
    fn read(part: &str) -> Option<Armed> {
        let (place, then) = part.split_once('=')?;
        let (action, at) = then.split_once('@').unwrap_or((then, "1"));
        let (name, key) = match place.split_once('/') {
            Some((name, key)) => (name, Some(key.to_owned())),
            None => (place, None),
        };
        Some(Armed {
            name: name.to_owned(),
            key,
            action: match action {
                "kill" => Action::Signal(Signal::KILL),
                "abort" => Action::Signal(Signal::ABORT),
                "panic" => Action::Panic,
                other => Action::Hold(other.strip_prefix("hold:")?.into()),
            },
            at: at.trim_end_matches('+').parse().ok()?,
            always: at.ends_with('+'),
            seen: AtomicU64::new(0),
        })
    }

    /// Arms the shims of a session that is called so: what is meant for it is put
    /// beside their program.
    pub(crate) fn arm_shims(bin: &Path, called: &[&str]) -> std::io::Result<()> {
        let text = std::env::var(SHIMS_VARIABLE).unwrap_or_default();
        let parts = text.split(';').filter_map(|part| part.split_once('/'));
        let meant = parts.filter(|(key, _)| called.contains(key));
        let mut points: Vec<String> = meant.map(|(_, point)| point.to_owned()).collect();
        let clock = CLOCK_FILE.as_ref();
        points.extend(clock.map(|file| format!("clock={}", file.display())));
        match points[..] {
            [] => Ok(()),
            _ => std::fs::write(bin.join("failpoints"), points.join(";")),
        }
    }

    /// Somebody comes by.
    pub(crate) fn hit(name: &str, key: &str) {
        let here = |armed: &&Armed| {
            armed.name == name && armed.key.as_deref().is_none_or(|wanted| wanted == key)
        };
        for armed in ARMED.iter().filter(here) {
            let seen = armed.seen.fetch_add(1, Ordering::Relaxed) + 1;
            if seen == armed.at || (armed.always && seen > armed.at) {
                act(name, &armed.action);
            }
        }
    }

    fn act(name: &str, action: &Action) {
        tracing::warn!(name, "a fail point");
        match action {
            // It cannot fail: we are there.
            Action::Signal(signal) => drop(kill_process(getpid(), *signal)),
            Action::Panic => std::panic::resume_unwind(Box::new("a fail point")),
            // Its end comes with the end of whoever opens it.
            Action::Hold(gate) => drop(std::fs::read(gate)),
        }
    }
}
