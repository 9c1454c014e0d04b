//! Room on the disk that the database has already.
//!
//! sled cannot be used any more once a write of its fails: not even all that it
//! has in memory can be read then. So nothing is begun that the disk might not
//! have room for: blocks are allotted to the database's own file, beyond its
//! end, where nobody else can take them, and the file grows into them.
//!
//! Where a file system cannot do that, or writes elsewhere what is written over,
//! the free space is looked at instead, and somebody else may take it in between.

use super::error::StoreError;
use super::space;
use rustix::fs::{FallocateFlags, fallocate, fstatfs};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What is allotted at a time, if there is plenty of room.
const STEP: u64 = 16 * 1024 * 1024;
/// What has to be there before anything that was said is recorded: many times what a
/// commit writes, with what sled moves on its occasion.
pub(super) const TO_RECORD: u64 = 8 * 1024 * 1024;
/// The same for all else that happens, so that sessions can be stopped and removed.
pub(super) const TO_MANAGE: u64 = TO_RECORD / 2;
/// The same before a history is removed.
pub(super) const TO_REMOVE: u64 = TO_MANAGE / 2;
/// Blocks of a file that are not its contents' are no more than this.
const SLACK: u64 = 64 * 1024;
/// btrfs, bcachefs and ZFS, by the kernel's numbers and OpenZFS's: blocks that a file has
/// there are no promise.
const COPY_ON_WRITE: [i64; 3] = [0x9123_683e, 0xca45_1a4e, 0x2fc1_2fc1];

/// What so many bytes may need once they are recorded, and sled has moved what lies
/// beside them.
pub(super) const fn to_write(bytes: u64) -> u64 {
    bytes.saturating_mul(3)
}

/// The blocks beyond the end of a database's file.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// Up to here the file has its blocks.
    until: u64,
    /// Its length and its blocks when that was looked at last.
    seen: (u64, u64),
    /// Whether the file system allots blocks so, once that is known.
    allots: Option<bool>,
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
        let allots = *self.allots.get_or_insert_with(|| {
            let kind = fstatfs(file).map_or(0, |found| found.f_type);
            !COPY_ON_WRITE.contains(&kind)
        });
        let meta = file.metadata().map_err(failed)?;
        let (len, blocks) = (meta.len(), meta.blocks() * 512);
        if len < self.seen.0 || blocks < self.seen.1 {
            // It was cut short, and what it had beyond went with that.
            self.until = 0;
        }
        self.seen = (len, blocks);
        // Whoever had it open before may have left some.
        self.until = self.until.max(blocks.saturating_sub(SLACK));
        // It is added to before it is used up, while there is room.
        if allots && self.until >= len + TO_RECORD.max(least) {
            return Ok(());
        }
        let (free, _) = space::free(path)?;
        let held = match allots {
            true => self.until.saturating_sub(len),
            false => 0,
        };
        let plenty = (free >= 4 * STEP).then_some(STEP);
        let sizes = plenty.into_iter().chain([TO_RECORD, least]);
        // What cannot be had is not asked for: some of it might be given.
        for more in sizes.filter(|size| *size >= least && *size <= free + held) {
            if self.allots == Some(true) && self.allot(file, path, len, more)? {
                return Ok(());
            }
        }
        let room = match self.allots {
            Some(true) => held,
            Some(false) | None => free,
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
    fn allot(&mut self, file: &File, path: &Path, len: u64, more: u64) -> Result<bool, StoreError> {
        let flags = FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fallocate(file, flags, len, more)) {
            Ok(()) => {
                self.until = self.until.max(len + more);
                Ok(true)
            }
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Ok(false),
            Err(e @ (Errno::IO | Errno::ROFS)) => {
                Err(StoreError::io("make room in", &path.join("db"), e.into()))
            }
            // There are many ways to say that it cannot be done.
            Err(_) => {
                self.allots = Some(false);
                Ok(false)
            }
        }
    }
}

/// Gives up the blocks that the database in `path` has beyond its end, so that it can be
/// opened on a full disk: that makes other files, too.
pub(super) fn give_up(path: &Path) -> Result<(), StoreError> {
    let db = path.join("db");
    let cut = || {
        let file = File::options().write(true).open(&db)?;
        file.set_len(file.metadata()?.len())
    };
    cut().map_err(|e| StoreError::io("make room beside", &db, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_allotted_beyond_the_end_and_again_when_the_file_grew_or_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("db")).unwrap();
        let mut reserve = Reserve::default();
        for len in [0, STEP - TO_RECORD + 1, 1, STEP] {
            file.set_len(len).unwrap();
            reserve.ensure(&file, dir.path(), TO_RECORD).unwrap();
            let meta = file.metadata().unwrap();
            assert_eq!(meta.len(), len);
            assert!(meta.blocks() * 512 >= TO_RECORD, "{}", meta.blocks());
            assert!(reserve.until >= len + TO_RECORD, "{len}");
        }
    }

    #[test]
    fn what_was_allotted_before_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("db")).unwrap();
        let mut reserve = Reserve::default();
        reserve.ensure(&file, dir.path(), TO_RECORD).unwrap();
        let mut later = Reserve::default();
        later.ensure(&file, dir.path(), TO_REMOVE).unwrap();
        assert!(later.until + SLACK >= reserve.until);
        give_up(dir.path()).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 0);
        later.ensure(&file, dir.path(), TO_REMOVE).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= TO_RECORD);
        // It was cut, and has grown again since.
        file.set_len(1).unwrap();
        file.set_len(2).unwrap();
        later.ensure(&file, dir.path(), TO_REMOVE).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= TO_RECORD);
    }

    #[test]
    fn without_room_it_says_so_and_what_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("db")).unwrap();
        let mut reserve = Reserve::default();
        // More than any disk has.
        let error = reserve.ensure(&file, dir.path(), 1 << 60).unwrap_err();
        assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
        assert_eq!(file.metadata().unwrap().len(), 0);
        reserve.ensure(&file, dir.path(), TO_REMOVE).unwrap();
    }

    #[test]
    fn where_blocks_are_no_promise_the_free_space_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("db")).unwrap();
        let mut reserve = Reserve {
            allots: Some(false),
            ..Reserve::default()
        };
        reserve.ensure(&file, dir.path(), TO_RECORD).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 0);
        let error = reserve.ensure(&file, dir.path(), 1 << 60).unwrap_err();
        assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
    }
}
