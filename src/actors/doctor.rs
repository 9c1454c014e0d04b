//! How everything stands that sessions need, each thing with what to do about it.

use super::context::Shared;
use super::handle::{Handle, blocking};
use super::measure::size_of;
use crate::model::RuntimeName;
use crate::model::api::Check;

/// Less free space than this is worth a warning, in bytes.
const DISK_WARNING: u64 = 1 << 30;
/// How many sessions are named in one check.
const NAMED_MAX: usize = 5;
const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

impl Handle {
    /// How everything stands that sessions need. Tries the engine with a
    /// container, which takes some seconds.
    pub async fn doctor(&self) -> Vec<Check> {
        let mut checks = self.journal_checks().await;
        checks.extend(self.shared.damage.checks());
        checks.extend(damaged(self.shared.upkeep.damaged()));
        checks.extend(disk_check(&self.shared));
        for name in [RuntimeName::Docker, RuntimeName::Local] {
            match self.shared.runtime(name) {
                Ok(runtime) => checks.extend(runtime.examine().await),
                Err(error) => checks.push(Check::failed(&name.to_string(), error)),
            }
        }
        checks
    }

    /// The journal, and what it says about removals that are not finished.
    async fn journal_checks(&self) -> Vec<Check> {
        let (shared, commits) = (self.shared.clone(), self.commits());
        let looked = blocking(move || {
            let dir = shared.journal_dir();
            let message = format!(
                "open, {commits} commits, {:.1} MiB in {}",
                size_of(&dir) as f64 / MIB,
                dir.display()
            );
            let mut unfinished = Vec::new();
            for record in shared.reader.sessions() {
                let record = match record {
                    Ok(record) => record,
                    // It has a line of its own.
                    Err(error) if error.damaged_session().is_some() => continue,
                    Err(error) => return Err(error.into()),
                };
                if record.removed == Some(false) {
                    unfinished.push(record.id.to_string());
                }
            }
            Ok((message, unfinished))
        });
        match looked.await {
            Ok((message, unfinished)) => {
                let mut checks = vec![Check::ok("journal", message)];
                checks.extend(removals(&unfinished));
                checks
            }
            Err(error) => vec![Check::failed("journal", error)],
        }
    }
}

fn damaged(sessions: u64) -> Option<Check> {
    let message = format!("the last compaction found {sessions} with events that cannot be read");
    let hint = "`cldpd journal verify` says which, and `cldpd journal export` saves the rest";
    (sessions > 0).then(|| Check::warning("events", message, hint))
}

fn removals(unfinished: &[String]) -> Option<Check> {
    let first = unfinished.first()?;
    let mut names = unfinished[..unfinished.len().min(NAMED_MAX)].join(", ");
    if unfinished.len() > NAMED_MAX {
        names.push_str(", …");
    }
    Some(Check::warning(
        "removals",
        format!(
            "not finished for {} of the sessions: {names}",
            unfinished.len()
        ),
        format!(
            "each start of the daemon and each hour tries again; `cldpd rm {first}` tries now and says why not"
        ),
    ))
}

fn disk_check(shared: &Shared) -> Option<Check> {
    let disks = shared.disks().ok()?;
    let disk = disks.into_iter().min_by_key(|disk| disk.free)?;
    let message = format!(
        "{:.1} GiB free beneath {}",
        disk.free as f64 / GIB,
        disk.path.display()
    );
    Some(match disk.free < DISK_WARNING {
        true => Check::warning(
            "disk",
            message,
            "make room: sessions wait when the disk is full",
        ),
        false => Check::ok("disk", message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_removals_are_named_up_to_a_number() {
        assert_eq!(removals(&[]), None);
        let names: Vec<String> = (0..7).map(|n| format!("p-{n}")).collect();
        let check = removals(&names).unwrap();
        assert!(
            check
                .message
                .contains("7 of the sessions: p-0, p-1, p-2, p-3, p-4, …")
        );
        assert!(check.hint.unwrap().contains("cldpd rm p-0"));
    }
}
