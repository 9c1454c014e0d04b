//! Taking an archive apart beneath a directory, and nowhere else.
//!
//! Whoever made it may have been an agent. Every part of a path is opened
//! without following links, so neither a name, nor a link in the archive, nor
//! one that stands there already leads out of the directory.

use super::{of, parts};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// What an archive's root, the first part of all its paths, becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// Something of this name.
    Named(OsString),
    /// The directory itself: what is in the root goes into it.
    Inside,
    /// What it is called: there may be several.
    AsNamed,
}

/// What was taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files and links.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What is no file, directory or link, and was left out: how many.
    pub left_out: u64,
}

/// Takes the archive apart in the directory `into`. Files keep their
/// permissions and times, not the set-user-id bit; with `owners` they are given
/// to whom they belong there. What stands in the way is replaced, but no
/// directory by a file or the reverse. Blocking.
///
/// # Errors
/// For what is no archive or leads out of the directory; what cannot be written.
pub fn unpack(from: impl Read, into: &Path, root: &Root, owners: bool) -> io::Result<Unpacked> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(into, flags, Mode::empty()).map_err(|e| of(into, e.into()))?;
    let mut place = Place {
        root,
        into,
        fd,
        last: None,
        owners,
        done: Unpacked::default(),
    };
    let mut archive = Archive::new(from);
    for entry in archive.entries()? {
        place.take(entry?)?;
    }
    Ok(place.done)
}

struct Place<'a> {
    root: &'a Root,
    into: &'a Path,
    fd: OwnedFd,
    /// The directory that was opened last: most files come beside each other.
    last: Option<(Vec<OsString>, OwnedFd)>,
    owners: bool,
    done: Unpacked,
}

impl Place<'_> {
    fn take(&mut self, mut entry: Entry<'_, impl Read>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = self.map(&entry.path()?)?;
        let shown = path
            .iter()
            .fold(self.into.to_owned(), |at, part| at.join(part));
        let Some((name, parents)) = path.split_last() else {
            return match kind {
                EntryType::Directory => Ok(()),
                _ => Err(of(self.into, io::Error::from(io::ErrorKind::IsADirectory))),
            };
        };
        let dir = self.open(parents, true)?;
        let done = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&mut entry, &dir, name)
            }
            EntryType::Directory => self.directory(&entry, &dir, name),
            EntryType::Symlink => match entry.link_name()? {
                Some(target) => clear(&dir, name)
                    .and_then(|()| Ok(rustix::fs::symlinkat(&*target, &dir, name)?)),
                None => Err(io::Error::from(io::ErrorKind::InvalidData)),
            },
            EntryType::Link => match entry.link_name()? {
                Some(target) => self.hard_link(&target, &dir, name),
                None => Err(io::Error::from(io::ErrorKind::InvalidData)),
            },
            _ => {
                self.done.left_out += 1;
                return Ok(());
            }
        };
        self.last = Some((parents.to_vec(), dir));
        if kind != EntryType::Directory {
            self.done.files += 1;
        }
        done.map_err(|error| of(&shown, error))
    }

    /// Where a path of the archive is to lie.
    fn map(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut parts = parts(path)?;
        match (self.root, parts.first_mut()) {
            (Root::Named(name), Some(first)) => first.clone_from(name),
            (Root::Named(name), None) => parts.push(name.clone()),
            (Root::Inside, Some(_)) => drop(parts.remove(0)),
            (Root::Inside, None) | (Root::AsNamed, _) => {}
        }
        Ok(parts)
    }

    /// Opens a directory beneath ours, made where it is not there.
    fn open(&mut self, path: &[OsString], make: bool) -> io::Result<OwnedFd> {
        if let Some((last, fd)) = self.last.take()
            && last == path
        {
            return Ok(fd);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut shown = PathBuf::from(self.into);
        let mut dir = self.fd.try_clone()?;
        for part in path {
            shown.push(part);
            let opened = match rustix::fs::openat(&dir, part, flags, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755))
                        .map_err(|e| of(&shown, e.into()))?;
                    rustix::fs::openat(&dir, part, flags, Mode::empty())
                }
                opened => opened,
            };
            dir = opened.map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR => {
                    let message = "not a directory; nothing is written through a link";
                    of(
                        &shown,
                        io::Error::new(io::ErrorKind::NotADirectory, message),
                    )
                }
                other => of(&shown, other.into()),
            })?;
        }
        Ok(dir)
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        dir: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<()> {
        clear(dir, name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        self.done.bytes += io::copy(entry, &mut file)?;
        self.own(entry, &file)?;
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o777);
        rustix::fs::fchmod(&file, mode)?;
        let omit = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        };
        let modified = Timespec {
            tv_sec: i64::try_from(entry.header().mtime()?).unwrap_or(0),
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: omit,
            last_modification: modified,
        };
        Ok(rustix::fs::futimens(&file, &times)?)
    }

    fn directory(
        &self,
        entry: &Entry<'_, impl Read>,
        dir: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<()> {
        // Whatever it says, we have to be able to write into it.
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o777 | 0o700);
        match rustix::fs::mkdirat(dir, name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) if kind_of(dir, name)? == Some(FileType::Directory) => return Ok(()),
            Err(Errno::EXIST) => {
                let message = "a directory does not replace what is none";
                return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
            }
            Err(other) => return Err(other.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        self.own(entry, &made)?;
        Ok(rustix::fs::fchmod(&made, mode)?)
    }

    fn hard_link(&mut self, target: &Path, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let target = self.map(target)?;
        let Some((file, parents)) = target.split_last() else {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        };
        let from = self.open(parents, false)?;
        clear(dir, name)?;
        // Without the flag that would follow a link there.
        Ok(rustix::fs::linkat(
            &from,
            file,
            dir,
            name,
            AtFlags::empty(),
        )?)
    }

    fn own(&self, entry: &Entry<'_, impl Read>, file: impl std::os::fd::AsFd) -> io::Result<()> {
        if !self.owners {
            return Ok(());
        }
        let id = |id: u64| u32::try_from(id).map_err(io::Error::other);
        let uid = rustix::fs::Uid::from_raw(id(entry.header().uid()?)?);
        let gid = rustix::fs::Gid::from_raw(id(entry.header().gid()?)?);
        Ok(rustix::fs::fchown(file.as_fd(), Some(uid), Some(gid))?)
    }
}

/// What stands there, itself and not what it points to.
fn kind_of(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes room for what is no directory.
fn clear(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match kind_of(dir, name)? {
        None => Ok(()),
        Some(FileType::Directory) => {
            let message = "a directory is not replaced by what is none";
            Err(io::Error::new(io::ErrorKind::IsADirectory, message))
        }
        Some(_) => Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?),
    }
}
