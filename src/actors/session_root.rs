//! Where sessions have their directories: `sessions/` in the home, or a
//! directory of the user's choice for engines that do not see the home.
//!
//! In the latter case `sessions` is a link to there, which also says where they
//! were: files of sessions are not moved, so the choice changes only while
//! there are none.

use crate::model::{Error, ErrorCode, HomeId, Result};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

/// Sees to it that sessions' directories go where they should, and says where
/// that is. Homes that choose the same directory do not meet in it.
///
/// # Errors
/// `usage` when sessions still have files in another place; `internal` when
/// the directory cannot be made.
pub(super) fn settle(home: &Path, chosen: Option<&Path>, id: HomeId) -> Result<PathBuf> {
    let usual = home.join("sessions");
    let wanted = chosen.map(|dir| dir.join(format!("cldpd-{id}")));
    let now = fs::read_link(&usual).ok();
    if now == wanted {
        let place = wanted.unwrap_or(usual);
        make(&place)?;
        return Ok(place);
    }
    // What is there has to be empty to go.
    let there = now.as_deref().unwrap_or(&usual);
    match fs::remove_dir(there) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => {
            return Err(Error::new(
                ErrorCode::Usage,
                format!(
                    "docker.session_dir has changed, and sessions still have files in {}",
                    there.display()
                ),
            )
            .hint(
                "undo the change, `cldpd rm` the sessions (`cldpd sessions -a`), and make it then",
            ));
        }
    }
    if now.is_some() {
        fs::remove_file(&usual).map_err(|error| failed("remove", &usual, &error))?;
    }
    let place = wanted.unwrap_or_else(|| usual.clone());
    make(&place)?;
    if place != usual {
        symlink(&place, &usual).map_err(|error| failed("make", &usual, &error))?;
    }
    Ok(place)
}

fn make(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| failed("make", dir, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let message = format!("cannot {what} {}: {error}", path.display());
    Error::new(ErrorCode::Internal, message)
        .hint("sessions' directories are to be there: `[docker] session_dir` in config.toml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ulid;

    #[test]
    fn it_changes_only_while_there_are_no_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let (home, id) = (dir.path().join("home"), HomeId(Ulid(7)));
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let settle = |chosen: Option<&Path>| settle(&home, chosen, id);
        let usual = settle(None).unwrap();
        assert_eq!(usual, home.join("sessions"));
        assert_eq!(settle(None).unwrap(), usual);

        // Files at home hold it there, and files elsewhere there.
        fs::create_dir(usual.join("s")).unwrap();
        assert_eq!(settle(Some(&a)).unwrap_err().code, ErrorCode::Usage);
        fs::remove_dir(usual.join("s")).unwrap();
        let there = settle(Some(&a)).unwrap();
        assert!(there.starts_with(&a));
        assert_eq!(
            fs::canonicalize(&usual).unwrap(),
            fs::canonicalize(&there).unwrap()
        );
        fs::create_dir(there.join("s")).unwrap();
        assert_eq!(settle(Some(&a)).unwrap(), there);
        for other in [Some(b.as_path()), None] {
            let error = settle(other).unwrap_err();
            assert!(error.message.contains(there.to_str().unwrap()), "{error}");
        }
        fs::remove_dir(there.join("s")).unwrap();
        assert!(settle(Some(&b)).unwrap().starts_with(&b));
        assert!(!there.exists());
        assert_eq!(settle(None).unwrap(), usual);
        assert!(!fs::symlink_metadata(&usual).unwrap().is_symlink());

        // A place that has gone with all that was in it holds nothing.
        settle(Some(&a)).unwrap();
        fs::remove_dir_all(&a).unwrap();
        assert_eq!(settle(None).unwrap(), usual);
    }
}
