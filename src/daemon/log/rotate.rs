//! A log file of bounded size, with the last few before it beside it.
//!
//! `daemon.log` is what is written; `daemon.log.1` is the one before it, up to
//! [`KEPT`]. Together they are no larger than ([`KEPT`] + 1) × [`SIZE_MAX`], and a
//! line for each writer. Any number of processes may write and rotate: who does
//! holds a lock meanwhile, which goes with its process, and whoever finds
//! another file at the path goes on there. Every step is one rename, so a
//! process that is killed in between leaves a gap in the numbers and no more.

use rustix::stdio::dup2_stderr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Largest size of one file, in bytes.
pub(super) const SIZE_MAX: u64 = 8 << 20;
/// Files before the current one that are kept.
pub(super) const KEPT: u32 = 4;

/// The writer of one process.
pub(in crate::daemon) struct Rotating {
    path: PathBuf,
    file: File,
    size_max: u64,
    /// What else the process says goes where its log goes.
    stderr: bool,
}

impl Rotating {
    /// Goes on with the log at `path`, or begins it.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub(in crate::daemon) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: append(path)?,
            size_max: SIZE_MAX,
            stderr: false,
        })
    }

    /// The same, with this process's standard error following it.
    pub(in crate::daemon) fn with_stderr(mut self) -> Self {
        self.stderr = true;
        self.take(None);
        self
    }

    fn take(&mut self, file: Option<File>) {
        if let Some(file) = file {
            self.file = file;
        }
        if self.stderr {
            // If it fails, standard error stays where it was.
            let _ = dup2_stderr(&self.file);
        }
    }

    /// Makes room for `more` bytes: in the file that is at the path now, or in a new one.
    fn make_room(&mut self, more: u64) -> io::Result<()> {
        if !self.is_current()? {
            let file = append(&self.path)?;
            self.take(Some(file));
        }
        if self.fits(more)? {
            return Ok(());
        }
        let lock = File::create(beside(&self.path, "lock"))?;
        lock.lock()?;
        // Another process may have done it while this one waited.
        if self.is_current()? {
            for number in (1..KEPT).rev() {
                let from = beside(&self.path, &number.to_string());
                shift(&from, &beside(&self.path, &(number + 1).to_string()))?;
            }
            shift(&self.path, &beside(&self.path, "1"))?;
        }
        let file = append(&self.path)?;
        self.take(Some(file));
        Ok(())
    }

    fn fits(&self, more: u64) -> io::Result<bool> {
        let size = self.file.metadata()?.len();
        Ok(size == 0 || size + more <= self.size_max)
    }

    /// Whether the path still means the file that is open.
    fn is_current(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Write for Rotating {
    /// Takes whole lines: each is one write, so that those of two processes do not mix.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A log that cannot be rotated is better than none.
        let _ = self.make_room(bytes.len() as u64);
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    PathBuf::from(name)
}

fn shift(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(path: &Path, size_max: u64) -> Rotating {
        let mut log = Rotating::open(path).unwrap();
        log.size_max = size_max;
        log
    }

    /// Everything that is kept, oldest first.
    fn kept(path: &Path) -> String {
        let older = (1..=KEPT + 1).rev().map(|n| beside(path, &n.to_string()));
        let files = older.chain([path.to_owned()]);
        files
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .collect()
    }

    #[test]
    fn two_writers_lose_no_line_and_mix_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        // Four files are enough for all of it; a fifth is the room for a race.
        let line = |writer: u32, n: u32| format!("writer {writer} line {n:04}\n");
        let whole: u64 = 2 * 500 * line(0, 0).len() as u64;
        let size_max = whole / 4 + 100;
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let mut log = open(&path, size_max);
                scope.spawn(move || {
                    for n in 0..500 {
                        log.write_all(line(writer, n).as_bytes()).unwrap();
                    }
                });
            }
        });
        let text = kept(&path);
        for writer in 0..2 {
            let own: Vec<String> = (0..500).map(|n| line(writer, n)).collect();
            let prefix = format!("writer {writer} ");
            let found = text
                .split_inclusive('\n')
                .filter(|l| l.starts_with(&prefix));
            let mut found: Vec<&str> = found.collect();
            // While one rotates, the other may still finish a line in the older file.
            found.sort_unstable();
            assert!(found.iter().eq(own.iter()), "writer {writer}");
        }
        assert_eq!(text.lines().count(), 1000);
    }

    proptest! {
        /// Whatever a process that was killed while it rotated has left.
        #[test]
        fn the_bound_holds_from_any_state(
            there in proptest::collection::vec(any::<bool>(), 5),
            lines in proptest::collection::vec(1usize..60, 1..80),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("daemon.log");
            for (n, there) in (1..).zip(&there).take(KEPT as usize) {
                if *there {
                    fs::write(beside(&path, &n.to_string()), "old\n").unwrap();
                }
            }
            let size_max = 100;
            let mut log = open(&path, size_max);
            let mut last = String::new();
            for length in &lines {
                last = format!("{}\n", "x".repeat(*length));
                log.write_all(last.as_bytes()).unwrap();
            }
            prop_assert!(kept(&path).ends_with(&last));
            prop_assert!(!beside(&path, &(KEPT + 1).to_string()).exists());
            for entry in fs::read_dir(dir.path()).unwrap().flatten() {
                prop_assert!(entry.metadata().unwrap().len() <= size_max);
            }
        }
    }

    #[test]
    fn a_log_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let mut log = open(&path, 1000);
        log.write_all(b"one\n").unwrap();
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
