//! What goes where: the rules of `docker cp`, for both directions.

use crate::archive::Root;
use crate::cli::error::usage;
use crate::model::{Error, ErrorCode, Result};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A path of this machine, or `-`.
    Here(PathBuf),
    /// A path of a session.
    Session {
        /// The session.
        session: String,
        /// The path.
        path: String,
    },
}

impl Place {
    /// `SESSION:PATH`, unless it begins as paths do.
    pub(super) fn parse(text: &OsStr) -> Result<Self> {
        let here = Self::Here(PathBuf::from(text));
        let Some(said) = text.to_str() else {
            return Ok(here);
        };
        if said.is_empty() {
            return Err(usage("an empty path"));
        }
        if said.starts_with(['/', '.']) {
            return Ok(here);
        }
        match said.split_once(':') {
            None => Ok(here),
            Some((_, "")) => Err(usage(format!("{said}: which path of the session?"))),
            Some((session, path)) => Ok(Self::Session {
                session: session.to_owned(),
                path: path.to_owned(),
            }),
        }
    }
}

/// What the end of a path says beside where it leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spelling {
    /// It ends with `/`: it has to be a directory.
    pub(super) slash: bool,
    /// It ends with `/.`: what is in it is meant.
    pub(super) contents: bool,
}

impl Spelling {
    pub(super) fn of(path: &str) -> Self {
        Self {
            slash: path.ends_with('/'),
            contents: path == "." || path.ends_with("/."),
        }
    }

    /// What a link there leads to is meant.
    pub(super) const fn follows(self) -> bool {
        self.slash || self.contents
    }
}

/// What is copied.
pub(super) struct Source {
    pub(super) name: OsString,
    pub(super) directory: bool,
    pub(super) contents: bool,
}

/// What is at the destination, links followed; with the path where it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Directory(String),
    Other(String),
    Nothing,
}

/// Where it is copied to.
pub(super) struct Destination {
    pub(super) path: PathBuf,
    pub(super) spelling: Spelling,
    pub(super) standing: Standing,
}

/// The directory to take the archive apart in, and what its root becomes there.
///
/// # Errors
/// What cannot be copied there.
pub(super) fn arrange(source: Source, to: Destination) -> Result<(PathBuf, Root)> {
    let refused = |message: String| Err(Error::new(ErrorCode::CopyFailed, message));
    let shown = to.path.display();
    match to.standing {
        Standing::Directory(path) if source.directory && source.contents => {
            Ok((PathBuf::from(path), Root::Inside))
        }
        Standing::Directory(path) => Ok((PathBuf::from(path), Root::Named(source.name))),
        Standing::Other(_) if source.directory => {
            refused(format!("{shown} is a file, and a directory is copied"))
        }
        Standing::Other(_) if to.spelling.follows() => refused(format!("{shown} is no directory")),
        Standing::Other(path) => beside(Path::new(&path)),
        Standing::Nothing if to.spelling.follows() && !source.directory => {
            let message = format!("there is no directory {shown}");
            Err(Error::new(ErrorCode::PathNotFound, message))
        }
        Standing::Nothing => beside(&to.path),
    }
}

/// The directory that a path lies in, and its name there.
fn beside(path: &Path) -> Result<(PathBuf, Root)> {
    let Some(name) = path.file_name() else {
        let message = format!("{} cannot be made", path.display());
        return Err(Error::new(ErrorCode::CopyFailed, message));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    Ok((parent.to_owned(), Root::Named(name.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_from_a_path() {
        let parse = |text: &str| Place::parse(OsStr::new(text));
        let here = |text: &str| Place::Here(PathBuf::from(text));
        assert_eq!(parse("/a:b").unwrap(), here("/a:b"));
        assert_eq!(parse("./a:b").unwrap(), here("./a:b"));
        assert_eq!(parse("plain").unwrap(), here("plain"));
        assert_eq!(parse("-").unwrap(), here("-"));
        let session = Place::Session {
            session: "s-1".to_owned(),
            path: "a b:c".to_owned(),
        };
        assert_eq!(parse("s-1:a b:c").unwrap(), session);
        assert!(parse("s-1:").is_err() && parse("").is_err());
    }

    fn at(directory: bool, from: &str, to: &str, standing: Standing) -> Option<(String, String)> {
        let source = Source {
            name: "src".into(),
            directory,
            contents: Spelling::of(from).contents,
        };
        let destination = Destination {
            path: PathBuf::from(to),
            spelling: Spelling::of(to),
            standing,
        };
        let (into, root) = arrange(source, destination).ok()?;
        let root = match root {
            Root::Named(name) => name.into_string().ok()?,
            Root::Inside => "inside".to_owned(),
            Root::AsNamed => "as named".to_owned(),
        };
        Some((into.display().to_string(), root))
    }

    #[test]
    fn the_rules_are_those_of_docker_cp() {
        let is = |into: &str, root: &str| Some((into.to_owned(), root.to_owned()));
        let dir = || Standing::Directory("/d".to_owned());
        let file = || Standing::Other("/e/f".to_owned());
        // A file.
        assert_eq!(at(false, "s", "/d", dir()), is("/d", "src"));
        assert_eq!(at(false, "s", "/e/f", file()), is("/e", "f"));
        assert_eq!(at(false, "s", "/e/f/", file()), None);
        assert_eq!(at(false, "s", "/e/new", Standing::Nothing), is("/e", "new"));
        assert_eq!(at(false, "s", "new", Standing::Nothing), is(".", "new"));
        assert_eq!(at(false, "s", "/e/new/", Standing::Nothing), None);
        // A directory.
        assert_eq!(at(true, "s", "/d", dir()), is("/d", "src"));
        assert_eq!(at(true, "s/.", "/d", dir()), is("/d", "inside"));
        assert_eq!(at(true, "s", "/e/new", Standing::Nothing), is("/e", "new"));
        assert_eq!(
            at(true, "s/.", "/e/new/", Standing::Nothing),
            is("/e", "new")
        );
        assert_eq!(at(true, "s", "/e/f", file()), None);
    }
}
