//! Room on the disk that the database has already.
//!
//! sled cannot be used any more once a write of its fails: not even all that it
//! has in memory can be read then. So nothing is begun that the disk might not
//! have room for: blocks are allotted to the database's own file, beyond its
//! end, where nobody else can take them, and the file grows into them.
//!
//! Where a file system cannot do that the free space is looked at instead, and
//! somebody else may take it in between.

use super::error::StoreError;
use super::space;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;

/// What is allotted at a time, if there is plenty of room.
const STEP: u64 = 16 * 1024 * 1024;
/// What has to be there before anything that was said is recorded: many times what a
/// commit writes, with what sled moves and merges on its occasion.
pub(super) const TO_RECORD: u64 = 8 * 1024 * 1024;
/// The same for all else that happens, so that sessions can be stopped and removed.
pub(super) const TO_MANAGE: u64 = TO_RECORD / 2;
/// The same before a history is removed.
pub(super) const TO_REMOVE: u64 = TO_MANAGE / 2;

/// The blocks beyond the end of a database's file.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// Up to here the file has its blocks.
    until: u64,
    /// Its length when that was looked at last.
    len: u64,
    /// The file system does not allot blocks beyond a file's end.
    unsupported: bool,
}

impl Reserve {
    /// Sees to it that `file`, the database's in `path`, can grow by `least` bytes.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`]; nothing was written then.
    pub(super) fn ensure(
        &mut self,
        file: &File,
        path: &Path,
        least: u64,
    ) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("look at", &path.join("db"), e);
        let len = file.metadata().map_err(failed)?.len();
        if len < self.len {
            // It was cut short, and what it had beyond went with that.
            self.until = len;
        }
        self.len = len;
        // It is added to before it is used up, while there is room.
        if self.until >= len + TO_RECORD.max(least) {
            return Ok(());
        }
        let (free, _) = space::free(path)?;
        let plenty = (free >= 4 * STEP).then_some(STEP);
        let sizes = plenty.into_iter().chain([TO_RECORD, least]);
        for more in sizes.filter(|size| *size >= least) {
            if !self.unsupported && self.allot(file, path, more)? {
                return Ok(());
            }
        }
        let room = match self.unsupported {
            true => free,
            false => self.until.saturating_sub(len),
        };
        if room >= least {
            return Ok(());
        }
        Err(StoreError::NoRoom {
            path: path.to_owned(),
            free,
            needed: least,
        })
    }

    /// Whether the file has blocks for `more` bytes beyond its end now.
    fn allot(&mut self, file: &File, path: &Path, more: u64) -> Result<bool, StoreError> {
        match fallocate(file, FallocateFlags::KEEP_SIZE, self.len, more) {
            Ok(()) => {
                self.until = self.until.max(self.len + more);
                Ok(true)
            }
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Ok(false),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.unsupported = true;
                Ok(false)
            }
            Err(e) => Err(StoreError::io("make room in", &path.join("db"), e.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    /// Bytes of its blocks, and its length.
    fn sizes(file: &File) -> (u64, u64) {
        let meta = file.metadata().unwrap();
        (meta.blocks() * 512, meta.len())
    }

    #[test]
    fn room_is_allotted_beyond_the_end_and_again_when_the_file_grew_or_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("db")).unwrap();
        let mut reserve = Reserve::default();
        for len in [0, STEP - TO_RECORD + 1, 1, STEP] {
            file.set_len(len).unwrap();
            reserve.ensure(&file, dir.path(), TO_RECORD).unwrap();
            assert_eq!(file.metadata().unwrap().len(), len);
            assert!(reserve.until >= len + TO_RECORD, "{len}");
        }
        let (allotted, len) = sizes(&file);
        assert!(allotted >= TO_RECORD && len == STEP, "{allotted}");
    }

    #[test]
    fn without_room_it_says_so_and_what_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("db")).unwrap();
        let mut reserve = Reserve::default();
        // More than any disk has.
        let error = reserve.ensure(&file, dir.path(), 1 << 60).unwrap_err();
        assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
        assert_eq!(sizes(&file).1, 0);
        reserve.ensure(&file, dir.path(), TO_REMOVE).unwrap();
    }
}
