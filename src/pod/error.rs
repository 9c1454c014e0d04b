//! What can be wrong with a pod. Every message names the file (with line and
//! column where there are any) and the thing; no message ever holds a value of
//! a variable.

use crate::model::{Error, ErrorCode};
use std::fmt;
use std::path::PathBuf;

/// A place in a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong with a pod.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// Not a name that a pod can have.
    #[error("{0}")]
    Name(Error),
    /// There is no such directory.
    #[error("pod not found: {name}: there is no {}", path.display())]
    NotFound {
        /// The pod.
        name: String,
        /// Where it would be.
        path: PathBuf,
        /// A pod that is there and is named nearly so.
        nearest: Option<String>,
    },
    /// Something else than a directory is in its place.
    #[error("invalid pod: {} is not a directory", path.display())]
    NotADirectory {
        /// What is there.
        path: PathBuf,
    },
    /// A link that leads nowhere is in its place.
    #[error("invalid pod: {} is a link to {}, which is not there", path.display(), target.display())]
    BrokenLink {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// Nothing says which image to run.
    #[error("invalid pod: no Dockerfile in {}", dir.display())]
    NoDockerfile {
        /// The pod's directory.
        dir: PathBuf,
    },
    /// A file of the pod cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A file of the pod cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Something of a pod cannot be removed.
    #[error("cannot remove {}: {source}", path.display())]
    Unremovable {
        /// What.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// `pod.json` is not JSON.
    #[error("{}:{at}: not valid JSON: {cause}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where.
        at: Position,
        /// The parser's word.
        cause: String,
    },
    /// A key that is not known.
    #[error("{}:{at}: unknown key \"{key}\"", file.display())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// Where the key stands.
        at: Position,
        /// The key, with what it stands in.
        key: String,
        /// The known key that is most like it.
        nearest: Option<&'static str>,
        /// All that are known there.
        known: String,
    },
    /// A key that is reserved for what is to come.
    #[error("{}:{at}: key \"{key}\" is not supported yet", file.display())]
    UnsupportedKey {
        /// The file.
        file: PathBuf,
        /// Where the key stands.
        at: Position,
        /// The key.
        key: String,
    },
    /// A key that stands there twice.
    #[error("{}:{at}: key \"{key}\" is there twice", file.display())]
    DuplicateKey {
        /// The file.
        file: PathBuf,
        /// Where it stands for the second time.
        at: Position,
        /// The key.
        key: String,
    },
    /// A key that has to be there is not.
    #[error("{}:{at}: {key} has no \"{missing}\"", file.display())]
    MissingKey {
        /// The file.
        file: PathBuf,
        /// Where the object begins.
        at: Position,
        /// What lacks it.
        key: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// A value of the wrong type.
    #[error("{}:{at}: \"{key}\" has to be {expected}, but is {found}", file.display())]
    WrongType {
        /// The file.
        file: PathBuf,
        /// Where the value stands.
        at: Position,
        /// The key.
        key: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// A value of the right type that cannot be used.
    #[error("{}:{at}: \"{key}\" {problem}", file.display())]
    WrongValue {
        /// The file.
        file: PathBuf,
        /// Where the value stands.
        at: Position,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// A file or directory of this machine that the pod needs is not there.
    #[error("{}:{at}: {what} {} {cause}", file.display(), source_path.display())]
    MissingSource {
        /// The file.
        file: PathBuf,
        /// Where it is named.
        at: Position,
        /// What it is for: a mount, a copy, a secret.
        what: &'static str,
        /// What is not there.
        source_path: PathBuf,
        /// What the system says about it.
        cause: String,
    },
    /// A pod of that name is there already.
    #[error("pod {name} is there already: {}", path.display())]
    Exists {
        /// The pod.
        name: String,
        /// Its directory.
        path: PathBuf,
    },
    /// A directory from which no pod can be made.
    #[error("cannot make a pod from {}: {cause}", path.display())]
    Repository {
        /// The directory.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// More than one thing is wrong.
    #[error("pod {name} has {} problems:{}", problems.len(), Lines(problems))]
    Several {
        /// The pod.
        name: String,
        /// All of them, in the order of the files.
        problems: Vec<PodError>,
    },
}

/// Problems, each on its own line with what to do about it.
struct Lines<'a>(&'a [PodError]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| {
            write!(f, "\n  {problem}")?;
            match problem.hint() {
                Some(hint) => write!(f, " ({hint})"),
                None => Ok(()),
            }
        })
    }
}

impl PodError {
    /// Which of the conditions that callers can tell apart.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Name(error) => error.code,
            Self::NotFound { .. } => ErrorCode::PodNotFound,
            Self::MissingSource {
                what: "secret's file",
                ..
            } => ErrorCode::Credentials,
            Self::Exists { .. } => ErrorCode::Refused,
            Self::NotADirectory { .. }
            | Self::BrokenLink { .. }
            | Self::NoDockerfile { .. }
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Unremovable { .. }
            | Self::Syntax { .. }
            | Self::UnknownKey { .. }
            | Self::UnsupportedKey { .. }
            | Self::DuplicateKey { .. }
            | Self::MissingKey { .. }
            | Self::WrongType { .. }
            | Self::WrongValue { .. }
            | Self::MissingSource { .. }
            | Self::Repository { .. }
            | Self::Several { .. } => ErrorCode::InvalidPod,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name(error) => error.hint.clone(),
            Self::NotFound {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean {nearest}?")),
            Self::NotFound { name, .. } => Some(format!(
                "`cldpd pods` lists them; `cldpd pod new {name}` makes it"
            )),
            Self::NotADirectory { .. } => Some("a pod is a directory with a Dockerfile".to_owned()),
            Self::BrokenLink { .. } => Some("remove the link, or mend it".to_owned()),
            Self::NoDockerfile { .. } => {
                Some("write one there (exactly so named), or name an image in pod.json".to_owned())
            }
            Self::UnknownKey {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean \"{nearest}\"?")),
            Self::UnknownKey { known, .. } => Some(format!("known here: {known}")),
            Self::UnsupportedKey { .. } => Some("remove it".to_owned()),
            Self::DuplicateKey { .. } => Some("remove one of the two".to_owned()),
            Self::WrongType {
                expected: "a string",
                found: "a number" | "a boolean",
                ..
            } => Some("put it in quotes".to_owned()),
            Self::WrongValue { hint, .. } => hint.clone(),
            Self::MissingSource {
                what: "secret's file",
                ..
            } => Some("write it, or correct the path".to_owned()),
            Self::MissingSource { .. } => Some(
                "make it, correct the path, or say \"optional\": true to go without it".to_owned(),
            ),
            Self::Exists { .. } => Some("choose another name, or remove it first".to_owned()),
            // Each stands beside its problem.
            Self::Several { .. }
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Unremovable { .. }
            | Self::Syntax { .. }
            | Self::MissingKey { .. }
            | Self::WrongType { .. }
            | Self::Repository { .. } => None,
        }
    }
}

impl From<PodError> for Error {
    fn from(error: PodError) -> Self {
        Self {
            code: error.code(),
            hint: error.hint(),
            message: error.to_string(),
        }
    }
}
