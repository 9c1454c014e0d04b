//! Files in and out of a session's container, while it runs and after its end.

use super::handle::{Handle, blocking};
use crate::model::api::PathStat;
use crate::model::spec::Keep;
use crate::model::{Error, ErrorCode, Result, RuntimeName, SessionRecord, Spec};
use crate::runtime::{Chunks, Owner, Runtime, Upload};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A path in a container that is there.
struct Located {
    runtime: Arc<dyn Runtime>,
    session: String,
    container: String,
    path: String,
}

impl Handle {
    /// What is at a path of a session. A link at its end is not followed.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`; `path_not_found`; `gone` when the
    /// session has no container any more.
    pub async fn path_stat(&self, target: &str, path: &str) -> Result<PathStat> {
        let located = self.locate(target, path).await?;
        let found = located
            .runtime
            .stat(&located.container, &located.path)
            .await?;
        found.ok_or_else(|| {
            let message = format!(
                "there is no {} in session {}",
                located.path, located.session
            );
            Error::new(ErrorCode::PathNotFound, message)
        })
    }

    /// An archive of a file or directory of a session, its root named as the
    /// path's last part.
    ///
    /// # Errors
    /// As [`Handle::path_stat`].
    pub async fn read_archive(&self, target: &str, path: &str) -> Result<Chunks> {
        self.path_stat(target, path).await?;
        let located = self.locate(target, path).await?;
        let chunks = located
            .runtime
            .read_archive(&located.container, &located.path)
            .await?;
        Ok(chunks)
    }

    /// Takes an archive apart in a directory of a session.
    ///
    /// # Errors
    /// As [`Handle::path_stat`]; `copy_failed`.
    pub async fn write_archive(
        &self,
        target: &str,
        path: &str,
        upload: Upload,
    ) -> Result<PathStat> {
        let stat = self.path_stat(target, path).await?;
        let located = self.locate(target, path).await?;
        located
            .runtime
            .write_archive(&located.container, &located.path, upload)
            .await?;
        Ok(stat)
    }

    async fn locate(&self, target: &str, path: &str) -> Result<Located> {
        if path.is_empty() || path.contains('\0') {
            let message = format!("\"{}\" is no path", path.escape_debug());
            return Err(Error::new(ErrorCode::Usage, message));
        }
        let ulid = self.shared.directory.resolve(target)?;
        let this = self.clone();
        let (record, spec) =
            blocking(move || Ok((this.load(ulid)?, this.shared.spec(ulid)?))).await?;
        if record.removed.is_some() {
            return Err(gone(&record, removed_because(&record)));
        }
        let live = record.live_run().filter(|run| run.started.is_some());
        let live = live.and_then(|run| Some((run, run.state.place()?)));
        let Some((run, place)) = live.or_else(|| record.last_place()) else {
            return Err(match record.is_live() {
                true => Error::new(
                    ErrorCode::Refused,
                    format!("{} has not started yet, so it has no files", record.id),
                )
                .hint("wait until it runs: `cldpd sessions` shows how far it is"),
                false => gone(&record, "it never ran"),
            });
        };
        let owner = Owner {
            home: self.shared.home,
            session: ulid,
            id: record.id.clone(),
            run: run.number,
            attempt: place.attempt,
        };
        let runtime = self.shared.runtime(record.runtime)?.clone();
        if runtime.find(&owner, &place.container).await?.is_none() {
            let why = format!("its container {} is gone", place.container);
            return Err(gone(&record, &why));
        }
        let workdir = self.workdir(&record, &spec);
        Ok(Located {
            runtime,
            session: record.id.to_string(),
            container: place.container.clone(),
            path: absolute(path, &workdir),
        })
    }

    /// Where a session's agent begins.
    fn workdir(&self, record: &SessionRecord, spec: &Spec) -> PathBuf {
        let image = record.image_config.as_ref();
        let image = image.and_then(|config| config.workdir.clone());
        let own = match record.runtime {
            RuntimeName::Docker => None,
            RuntimeName::Local | RuntimeName::Fake => self.shared.settings.user_home.clone(),
        };
        let said = spec.pod.workdir.clone().or(image).map(PathBuf::from);
        said.or(own).unwrap_or_else(|| PathBuf::from("/"))
    }
}

fn removed_because(record: &SessionRecord) -> &'static str {
    match record.keep {
        _ if record.remove => "it was removed at its end, as --rm says",
        Keep::Never => "it was removed at its end, as \"keep\": \"never\" of its pod says",
        Keep::Days(_) | Keep::Seconds(_) | Keep::Always => "it was removed",
    }
}

fn gone(record: &SessionRecord, why: &str) -> Error {
    let message = format!("no files of session {} are kept: {why}", record.id);
    Error::new(ErrorCode::Gone, message)
        .hint(format!("what it said is: `cldpd logs {}`", record.id))
}

/// The path without `.`; relative ones begin in `workdir`. What `..` means is
/// the file system's to say, where links are; here it is taken by its letters.
fn absolute(path: &str, workdir: &Path) -> String {
    let mut whole = PathBuf::from("/");
    for component in workdir.join(path).components() {
        match component {
            Component::Normal(part) => whole.push(part),
            Component::ParentDir => drop(whole.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    whole.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_in_the_working_directory() {
        let at = |path: &str| absolute(path, Path::new("/there/dir"));
        assert_eq!(at("out.txt"), "/there/dir/out.txt");
        assert_eq!(at("./a/../b/"), "/there/dir/b");
        assert_eq!(at("/etc//passwd"), "/etc/passwd");
        assert_eq!(at("../../../x"), "/x");
        assert_eq!(at("."), "/there/dir");
    }
}
