//! An archive on its way into a container: checked, and given to its user.

use super::{Owner, parts};
use std::io::{self, Read, Write};
use tar::{Archive, Builder, EntryType, Header};

/// Passes an archive on. Everything in it belongs to `owner`, where that is
/// given. What is no file, directory or link is left out. Blocking.
///
/// # Errors
/// For what is no archive, or names something outside itself.
pub fn rewrite(from: impl Read, to: impl Write, owner: Option<Owner>) -> io::Result<()> {
    let mut archive = Archive::new(from);
    let mut builder = Builder::new(to);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        parts(&path)?;
        let theirs = entry.header();
        let mut header = Header::new_gnu();
        header.set_mode(theirs.mode()?);
        header.set_mtime(theirs.mtime()?);
        header.set_uid(owner.map_or(theirs.uid()?, |owner| owner.uid));
        header.set_gid(owner.map_or(theirs.gid()?, |owner| owner.gid));
        header.set_size(0);
        match theirs.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(entry.size());
                builder.append_data(&mut header, &path, &mut entry)?;
            }
            EntryType::Directory => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, &path, io::empty())?;
            }
            kind @ (EntryType::Symlink | EntryType::Link) => {
                header.set_entry_type(kind);
                let target = entry.link_name()?.ok_or_else(|| {
                    let message = format!("{}: a link that leads nowhere", path.display());
                    io::Error::new(io::ErrorKind::InvalidData, message)
                })?;
                if kind == EntryType::Link {
                    parts(&target)?;
                }
                builder.append_link(&mut header, &path, target)?;
            }
            _ => {}
        }
    }
    builder.into_inner()?.flush()
}
