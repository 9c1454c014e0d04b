//! `pod add` and `pod rm`: pods that lie elsewhere, and pods that go.

use super::new::unwritable;
use super::{PodError, Pods, names};
use crate::model::PodName;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A directory that is a pod by a link to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The pod.
    pub name: PodName,
    /// The directory, links resolved.
    pub dir: PathBuf,
    /// False when it was so already.
    pub new: bool,
}

/// What is in a pod's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A link, and what it says.
    Link(PathBuf),
    /// The directory itself.
    Directory(PathBuf),
}

impl Pods {
    /// Makes a directory a pod by a link to it; named after the directory
    /// unless another name is given. Only what is a valid pod is linked.
    ///
    /// # Errors
    /// What is wrong with it; [`PodError::Exists`] when the name is another's.
    pub fn add(&self, dir: &Path, name: Option<&str>) -> Result<Added, PodError> {
        let unusable = |error: std::io::Error| PodError::Repository {
            path: dir.to_owned(),
            cause: error.to_string(),
        };
        let dir = fs::canonicalize(dir).map_err(unusable)?;
        if !dir.is_dir() {
            return Err(PodError::NotADirectory { path: dir });
        }
        let name = match name {
            Some(name) => PodName::new(name),
            None => PodName::new(&names::of_directory(&dir)),
        };
        let name = name.map_err(PodError::Name)?;
        let link = self.root.join(name.as_str());
        let taken = || PodError::Exists {
            name: name.to_string(),
            path: link.clone(),
        };
        if fs::symlink_metadata(&link).is_ok() {
            if fs::canonicalize(&link).is_ok_and(|there| there == dir) {
                let new = false;
                return Ok(Added { name, dir, new });
            }
            return Err(taken());
        }
        self.read_at(name.clone(), &dir, dir.clone())
            .map_err(|problems| self.one(name.as_str(), problems))?;
        self.prepare()?;
        match symlink(&dir, &link) {
            Ok(()) => Ok(Added {
                name,
                dir,
                new: true,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken()),
            Err(error) => Err(unwritable(&link)(error)),
        }
    }

    /// What is in a pod's place, right or wrong.
    ///
    /// # Errors
    /// [`PodError::NotFound`], or that it is neither.
    pub fn place(&self, name: &str) -> Result<Place, PodError> {
        let name = PodName::new(name).map_err(PodError::Name)?;
        let path = self.root.join(name.as_str());
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::read_link(&path).map_err(|error| PodError::Unreadable {
                    path: path.clone(),
                    cause: error.to_string(),
                })?;
                Ok(Place::Link(target))
            }
            Ok(metadata) if metadata.is_dir() => Ok(Place::Directory(path)),
            Ok(_) => Err(PodError::NotADirectory { path }),
            Err(error) => Err(self.absent(&name, &path, &error)),
        }
    }

    /// Removes what is in a pod's place: of a link nothing but the link.
    ///
    /// # Errors
    /// As [`Self::place`]; or that something cannot be removed.
    pub fn remove(&self, name: &str) -> Result<Place, PodError> {
        let place = self.place(name)?;
        let path = self.root.join(name);
        let removed = match &place {
            Place::Link(_) => fs::remove_file(&path),
            Place::Directory(_) => fs::remove_dir_all(&path),
        };
        removed.map_err(|source| PodError::Unremovable { path, source })?;
        Ok(place)
    }
}
