//! A build context: what is in a pod's directory and not ignored, its digest,
//! its archive.
//!
//! The archive is made while it is sent: of the files at most one buffer is in
//! memory. Owners and times are no part of the digest, as they are none of the
//! builders' caches.

use super::ignore::Ignore;
use crate::runtime::{Result, RuntimeError};
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How much of a file is held at once.
const CHUNK: usize = 64 * 1024;

/// What is in a directory that an image is built from.
pub(super) struct Context {
    root: PathBuf,
    /// Sorted by path, a directory before what is in it.
    entries: Vec<Entry>,
}

struct Entry {
    /// Relative to the root.
    path: PathBuf,
    kind: Kind,
    mode: u32,
    modified: u64,
}

enum Kind {
    Directory,
    File,
    Link(PathBuf),
}

impl Context {
    /// Looks through `dir`, but for what `.dockerignore` says. What is neither
    /// a file, a directory nor a symbolic link is left out, since an archive
    /// cannot carry its meaning. So are the files `hidden`: what is a secret is
    /// not in an image because it lies beside the Dockerfile.
    pub(super) fn read(dir: &Path, hidden: &[PathBuf]) -> Result<Self> {
        let root = dir
            .canonicalize()
            .map_err(|source| unreadable(dir, source))?;
        let hidden: HashSet<PathBuf> = hidden
            .iter()
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        let ignore = Ignore::read(&root)?;
        let mut entries = Vec::new();
        // Directories that are ignored and may hold what is not.
        let mut passages = Vec::new();
        let mut open = vec![(PathBuf::new(), Rc::new(ignore.at_root()))];
        while let Some((relative, above)) = open.pop() {
            let full = root.join(&relative);
            let list = full
                .read_dir()
                .map_err(|source| unreadable(&full, source))?;
            for item in list {
                let item = item.map_err(|source| unreadable(&full, source))?;
                let path = relative.join(item.file_name());
                let (ignored, matches) = ignore.look(&path, &above);
                if hidden.contains(&root.join(&path)) {
                    continue;
                }
                if ignored && !ignore.may_hold_exceptions(&path) {
                    continue;
                }
                let found = item
                    .metadata()
                    .map_err(|source| unreadable(&item.path(), source))?;
                let Some(kind) = kind(&item.path(), &found)? else {
                    continue;
                };
                let directory = matches!(kind, Kind::Directory);
                if directory {
                    open.push((path.clone(), Rc::new(matches)));
                }
                let entry = Entry {
                    path,
                    kind,
                    mode: found.mode() & 0o7777,
                    modified: u64::try_from(found.mtime()).unwrap_or(0),
                };
                match (ignored, directory) {
                    (false, _) => entries.push(entry),
                    (true, true) => passages.push(entry),
                    (true, false) => {}
                }
            }
        }
        let needed: HashSet<PathBuf> = entries
            .iter()
            .flat_map(|entry| entry.path.ancestors().skip(1))
            .map(Path::to_owned)
            .collect();
        passages.retain(|entry| needed.contains(&entry.path));
        entries.append(&mut passages);
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root, entries })
    }

    /// The digest of all of it and of the build arguments.
    pub(super) fn digest(&self, build_args: &BTreeMap<String, String>) -> Result<String> {
        let mut hasher = Sha256::new();
        // Every field goes in with its length, so that no two contexts read alike.
        let field = |hasher: &mut Sha256, bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(&mut hasher, b"cldpd context 1");
        for (name, value) in build_args {
            field(&mut hasher, b"arg");
            field(&mut hasher, name.as_bytes());
            field(&mut hasher, value.as_bytes());
        }
        for entry in &self.entries {
            field(&mut hasher, entry.path.as_os_str().as_bytes());
            field(&mut hasher, &entry.mode.to_le_bytes());
            match &entry.kind {
                Kind::Directory => field(&mut hasher, b"directory"),
                Kind::Link(target) => {
                    field(&mut hasher, b"link");
                    field(&mut hasher, target.as_os_str().as_bytes());
                }
                Kind::File => {
                    field(&mut hasher, b"file");
                    let path = self.root.join(&entry.path);
                    let contents =
                        digest_of_file(&path).map_err(|source| unreadable(&path, source))?;
                    field(&mut hasher, &contents);
                }
            }
        }
        Ok(format!("{:x}", hasher.finalize()))
    }

    /// Writes the archive.
    pub(super) fn archive(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        for entry in &self.entries {
            let full = self.root.join(&entry.path);
            self.append(&mut archive, entry, &full)
                .map_err(|error| io::Error::new(error.kind(), named(&full, &error)))?;
        }
        archive.into_inner()?.flush()
    }

    fn append(
        &self,
        archive: &mut tar::Builder<impl Write>,
        entry: &Entry,
        full: &Path,
    ) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        // Files belong to root in an image unless the Dockerfile says otherwise.
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(entry.mode);
        header.set_mtime(entry.modified);
        header.set_size(0);
        match &entry.kind {
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                let mut path = entry.path.as_os_str().to_owned();
                path.push(OsStr::new("/"));
                archive.append_data(&mut header, path, io::empty())
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, &entry.path, target)
            }
            Kind::File => {
                let file = open(full)?;
                let size = file.metadata()?.len();
                header.set_size(size);
                let contents = Exactly { file, left: size };
                archive.append_data(&mut header, &entry.path, contents)
            }
        }
    }
}

fn kind(path: &Path, found: &Metadata) -> Result<Option<Kind>> {
    let kind = found.file_type();
    if kind.is_dir() {
        return Ok(Some(Kind::Directory));
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(path).map_err(|source| unreadable(path, source))?;
        return Ok(Some(Kind::Link(target)));
    }
    Ok(kind.is_file().then_some(Kind::File))
}

/// Opens a file that was one a moment ago: what took its place since is
/// neither followed nor waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file any more"));
    }
    Ok(file)
}

fn digest_of_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Exactly as many bytes as the archive's header promised: what grew is cut,
/// what shrank is an error.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::other("it shrank while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn named(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

fn unreadable(path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::Io {
        action: "cannot read",
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn digest(dir: &Path) -> String {
        Context::read(dir, &[])
            .unwrap()
            .digest(&BTreeMap::new())
            .unwrap()
    }

    #[test]
    fn the_digest_sees_names_contents_modes_links_and_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        std::fs::write(path.join("Dockerfile"), "FROM scratch").unwrap();
        std::fs::create_dir(path.join("sub")).unwrap();
        std::fs::write(path.join("sub/a"), "1").unwrap();
        let mut seen = vec![digest(path)];
        assert_eq!(seen[0], digest(path));
        let mut differs = |what: &str| {
            let now = digest(path);
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        std::fs::write(path.join("sub/a"), "2").unwrap();
        differs("contents");
        std::fs::rename(path.join("sub/a"), path.join("sub/b")).unwrap();
        differs("name");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path.join("sub/b"), mode).unwrap();
        differs("mode");
        symlink("sub/b", path.join("link")).unwrap();
        differs("link");
        std::fs::remove_file(path.join("link")).unwrap();
        symlink("sub/c", path.join("link")).unwrap();
        differs("target");
        let args = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let context = Context::read(path, &[]).unwrap();
        assert_ne!(context.digest(&args).unwrap(), digest(path));
    }

    #[test]
    fn the_digest_does_not_see_times() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("Dockerfile");
        std::fs::write(&file, "FROM scratch").unwrap();
        let before = digest(dir.path());
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        assert_eq!(before, digest(dir.path()));
    }

    #[test]
    fn the_archive_holds_what_the_directory_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let long = "n".repeat(180);
        std::fs::write(path.join("Dockerfile"), "FROM scratch").unwrap();
        std::fs::create_dir(path.join(&long)).unwrap();
        std::fs::write(path.join(&long).join("file"), vec![7; 200_000]).unwrap();
        symlink("../outside", path.join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();

        let mut bytes = Vec::new();
        Context::read(path, &[])
            .unwrap()
            .archive(&mut bytes)
            .unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            if name.ends_with("/file") {
                let mut contents = Vec::new();
                entry.read_to_end(&mut contents).unwrap();
                assert!(contents == vec![7; 200_000]);
            }
            assert_eq!(entry.header().uid().unwrap(), 0);
            names.push(name);
        }
        let expected = [
            "Dockerfile".to_owned(),
            "link".to_owned(),
            format!("{long}/"),
            format!("{long}/file"),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_ignored_is_in_neither_archive_nor_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for sub in ["node_modules/a", "sub/deep", "empty"] {
            std::fs::create_dir_all(path.join(sub)).unwrap();
        }
        let mut files = vec![
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "*\n!sub/deep/keep\n!src.rs\n"),
            ("src.rs", "1"),
            ("secret.env", "1"),
            ("node_modules/a/big", "1"),
            ("sub/deep/keep", "1"),
            ("sub/deep/other", "1"),
        ];
        for (name, text) in &files {
            std::fs::write(path.join(name), text).unwrap();
        }
        // What is ignored need not even be readable.
        symlink("loop", path.join("node_modules/loop")).unwrap();
        let names = |path: &Path| -> Vec<String> {
            let context = Context::read(path, &[]).unwrap();
            let paths = context.entries.iter().map(|entry| &entry.path);
            paths.map(|path| path.display().to_string()).collect()
        };
        let expected = [
            ".dockerignore",
            "Dockerfile",
            "src.rs",
            "sub",
            "sub/deep",
            "sub/deep/keep",
        ];
        assert_eq!(names(path), expected);
        let before = digest(path);
        for (name, _) in files.split_off(3) {
            if name != "sub/deep/keep" {
                std::fs::write(path.join(name), "2").unwrap();
            }
        }
        assert_eq!(digest(path), before);
        std::fs::write(path.join("sub/deep/keep"), "2").unwrap();
        assert_ne!(digest(path), before);

        // The Dockerfile's own patterns go before those of the directory.
        std::fs::write(path.join("Dockerfile.dockerignore"), "sub\n").unwrap();
        let names = names(path);
        assert!(!names.iter().any(|name| name.starts_with("sub")));
        assert!(names.iter().any(|name| name == "secret.env"));

        std::fs::write(path.join("Dockerfile.dockerignore"), "a\n[\n").unwrap();
        let error = Context::read(path, &[]).err().unwrap().to_string();
        assert!(error.contains("Dockerfile.dockerignore"), "{error}");
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_secrets_file_is_no_part_of_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for name in ["Dockerfile", "token", "other"] {
            std::fs::write(path.join(name), name).unwrap();
        }
        let hidden = [path.join("token"), path.join("nowhere")];
        let context = Context::read(path, &hidden).unwrap();
        let names = context.entries.iter().map(|entry| entry.path.as_path());
        assert_eq!(
            names.collect::<Vec<_>>(),
            [Path::new("Dockerfile"), Path::new("other")]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = Context::read(Path::new("/nowhere/at/all"), &[])
            .err()
            .unwrap();
        assert!(error.to_string().contains("cannot read /nowhere/at/all"));
    }
}
