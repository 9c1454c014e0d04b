//! Making an archive of files of this machine.

use super::{Owner, of};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Modes as they stand in an archive: permissions, set-user-id and the like.
const MODE: u32 = 0o7777;

/// An archive in the making. Blocking.
pub struct Packer<W: Write> {
    builder: Builder<W>,
    owner: Option<Owner>,
    without: Vec<PathBuf>,
}

impl<W: Write> Packer<W> {
    /// An archive into `to`. Everything in it belongs to `owner`; to whom it
    /// belongs here when that is absent.
    pub fn new(to: W, owner: Option<Owner>) -> Self {
        Self {
            builder: Builder::new(to),
            owner,
            without: Vec::new(),
        }
    }

    /// Leaves out what would have one of these names, and what lies in it.
    #[must_use]
    pub fn without(mut self, names: Vec<PathBuf>) -> Self {
        self.without = names;
        self
    }

    /// A directory of that name, made of nothing.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn directory(&mut self, name: &Path, mode: u32) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        let owner = self.owner.unwrap_or(Owner { uid: 0, gid: 0 });
        header.set_uid(owner.uid);
        header.set_gid(owner.gid);
        self.builder.append_data(&mut header, name, io::empty())
    }

    /// What lies at `source`, under the name `name`: a file, a link as the link
    /// that it is, or a directory with all that is in it. What can only be a
    /// thing of this machine (a socket, a device) is left out.
    ///
    /// # Errors
    /// With the path that cannot be read, or that changed meanwhile.
    pub fn add(&mut self, source: &Path, name: &Path) -> io::Result<()> {
        let mut open: Vec<(PathBuf, PathBuf)> = vec![(source.to_owned(), name.to_owned())];
        while let Some((source, name)) = open.pop() {
            if self.without.contains(&name) {
                continue;
            }
            let meta = fs::symlink_metadata(&source).map_err(|e| of(&source, e))?;
            if meta.is_dir() {
                let mut header = self.header(&meta, EntryType::Directory);
                self.builder.append_data(&mut header, &name, io::empty())?;
                open.extend(children(&source, &name)?);
            } else {
                self.leaf(&source, &name, &meta)?;
            }
        }
        Ok(())
    }

    /// All that lies in the directory `source`, without the directory itself.
    ///
    /// # Errors
    /// As [`Packer::add`].
    pub fn add_contents(&mut self, source: &Path) -> io::Result<()> {
        for (source, name) in children(source, Path::new(""))?.into_iter().rev() {
            self.add(&source, &name)?;
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }

    fn leaf(&mut self, source: &Path, name: &Path, meta: &Metadata) -> io::Result<()> {
        if meta.is_symlink() {
            let target = fs::read_link(source).map_err(|e| of(source, e))?;
            let mut header = self.header(meta, EntryType::Symlink);
            return self.builder.append_link(&mut header, name, target);
        }
        if !meta.is_file() {
            return Ok(());
        }
        // Whatever stands there by now is not followed and not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(source, flags, Mode::empty());
        let file = File::from(file.map_err(|e| of(source, e.into()))?);
        let meta = file.metadata().map_err(|e| of(source, e))?;
        if !meta.is_file() {
            return Ok(());
        }
        let mut header = self.header(&meta, EntryType::Regular);
        header.set_size(meta.len());
        let exactly = Exactly {
            file,
            path: source,
            left: meta.len(),
        };
        self.builder.append_data(&mut header, name, exactly)
    }

    fn header(&self, meta: &Metadata, kind: EntryType) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(meta.mode() & MODE);
        header.set_size(0);
        header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
        let owner = self.owner.unwrap_or(Owner {
            uid: u64::from(meta.uid()),
            gid: u64::from(meta.gid()),
        });
        header.set_uid(owner.uid);
        header.set_gid(owner.gid);
        header
    }
}

/// What is in a directory, with its names in the archive; the first by name last.
fn children(source: &Path, name: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(source).map_err(|e| of(source, e))? {
        names.push(entry.map_err(|e| of(source, e))?.file_name());
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    let join = |entry| (source.join(&entry), name.join(&entry));
    Ok(names.into_iter().map(join).collect())
}

/// As many bytes of a file as its header promises: one that shrinks is an error
/// and no damaged archive.
struct Exactly<'a> {
    file: File,
    path: &'a Path,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        if length == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..length]);
        let read = read.map_err(|e| of(self.path, e))?;
        if read == 0 {
            let error = io::Error::other("it was cut off while it was read");
            return Err(of(self.path, error));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
