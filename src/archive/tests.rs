use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use tar::{Builder, EntryType, Header};

/// One entry as an attacker may write it: nothing of a path is checked.
fn raw(builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, link: &str, data: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000);
    header.set_size(data.len() as u64);
    let fields = header.as_old_mut();
    fields.name[..path.len()].copy_from_slice(path.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

/// A directory to unpack into, beside something that must not be touched.
struct Yard {
    dir: tempfile::TempDir,
}

impl Yard {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("in/there")).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("out/secret"), "untouched").unwrap();
        symlink("../out", dir.path().join("in/door")).unwrap();
        symlink("../out/secret", dir.path().join("in/window")).unwrap();
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn unpack(&self, archive: &[u8]) -> io::Result<Unpacked> {
        let root = Root::Named("in".into());
        unpack(archive, self.dir.path(), &root, false)
    }

    fn outside(&self) -> Vec<(String, Vec<u8>, u64)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.path("out")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let data = fs::read(entry.path()).unwrap_or_default();
            all.push((name, data, entry.metadata().unwrap().nlink()));
        }
        let mut beside: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        beside.sort();
        assert_eq!(beside, ["in", "out"]);
        all
    }
}

fn part() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a", "b", "door", "window", "there", "..", ".", "", "out", "secret",
    ])
}

fn path() -> impl Strategy<Value = String> {
    (any::<bool>(), proptest::collection::vec(part(), 1..5)).prop_map(|(absolute, parts)| {
        let path = parts.join("/");
        if absolute && !path.is_empty() {
            format!("/tmp/{path}")
        } else {
            format!("r/{path}")
        }
    })
}

fn kind() -> impl Strategy<Value = EntryType> {
    proptest::sample::select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Fifo,
        EntryType::Char,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever an archive names and links: nothing beside the directory changes.
    #[test]
    fn nothing_leaves_the_directory(
        entries in proptest::collection::vec((kind(), path(), prop_oneof![path(), Just("../out".to_owned()), Just("../out/secret".to_owned())]), 1..12)
    ) {
        let yard = Yard::new();
        let before = yard.outside();
        for from in 0..entries.len() {
            let mut builder = Builder::new(Vec::new());
            for (kind, path, link) in &entries[from..] {
                let data: &[u8] = if *kind == EntryType::Regular { b"bad" } else { b"" };
                raw(&mut builder, *kind, path, link, data);
            }
            let _ = yard.unpack(&builder.into_inner().unwrap());
        }
        prop_assert_eq!(yard.outside(), before);
    }

    /// Bytes that are no archive are an error or nothing, never a panic.
    #[test]
    fn what_is_no_archive_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let yard = Yard::new();
        let before = yard.outside();
        let _ = yard.unpack(&bytes);
        let _ = rewrite(&bytes[..], Vec::new(), Some(Owner { uid: 1, gid: 2 }));
        prop_assert_eq!(yard.outside(), before);
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let yard = Yard::new();
    let mut builder = Builder::new(Vec::new());
    raw(&mut builder, EntryType::Symlink, "r/new", "../out", b"");
    raw(&mut builder, EntryType::Regular, "r/new/bad", "", b"bad");
    let error = yard.unpack(&builder.into_inner().unwrap()).unwrap_err();
    assert!(error.to_string().contains("in/new"), "{error}");
    assert_eq!(yard.outside().len(), 1);

    // A link that stands where a file is to be is replaced, and not followed.
    let mut builder = Builder::new(Vec::new());
    raw(&mut builder, EntryType::Regular, "r/window", "", b"mine");
    yard.unpack(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(fs::read(yard.path("in/window")).unwrap(), b"mine");
    assert_eq!(fs::read(yard.path("out/secret")).unwrap(), b"untouched");
    let mode = fs::metadata(yard.path("in/window")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-user-id bit");
}

fn packed(owner: Option<Owner>, work: impl FnOnce(&mut Packer<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut packer = Packer::new(&mut bytes, owner);
    work(&mut packer);
    packer.finish().unwrap();
    bytes
}

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("tree/sub")).unwrap();
    fs::write(dir.join("tree/private"), "x").unwrap();
    fs::set_permissions(dir.join("tree/private"), fs::Permissions::from_mode(0o600)).unwrap();
    let long = format!("tree/sub/{}", "long name ".repeat(20));
    fs::write(dir.join(long), vec![7; 100_000]).unwrap();
    symlink("/nowhere/at all", dir.join("tree/dangling")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        dir.join("tree/fifo"),
        rustix::fs::Mode::RUSR,
    )
    .unwrap();
}

#[test]
fn what_is_packed_comes_out_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let bytes = packed(None, |packer| {
        packer
            .add(&dir.path().join("tree"), Path::new("tree"))
            .unwrap();
    });
    let into = tempfile::tempdir().unwrap();
    let root = Root::Named("copy".into());
    let done = unpack(&bytes[..], into.path(), &root, false).unwrap();
    assert_eq!((done.files, done.bytes, done.left_out), (3, 100_001, 0));
    let copy = into.path().join("copy");
    assert_eq!(
        fs::metadata(copy.join("private")).unwrap().mode() & 0o777,
        0o600
    );
    let link = fs::read_link(copy.join("dangling")).unwrap();
    assert_eq!(link, Path::new("/nowhere/at all"));
    let long = copy.join("sub").join("long name ".repeat(20));
    assert_eq!(fs::read(long).unwrap(), vec![7; 100_000]);
    assert!(!copy.join("fifo").exists());

    // Once more, inside: what is there is replaced.
    let bytes = packed(None, |packer| {
        packer.add_contents(&dir.path().join("tree")).unwrap()
    });
    let mut wrapped = Builder::new(Vec::new());
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let entry = entry.unwrap();
        let mut header = entry.header().clone();
        let path = Path::new("r").join(entry.path().unwrap());
        match entry.link_name().unwrap().map(std::borrow::Cow::into_owned) {
            Some(link) => wrapped.append_link(&mut header, path, link).unwrap(),
            None => wrapped.append_data(&mut header, path, entry).unwrap(),
        }
    }
    let bytes = wrapped.into_inner().unwrap();
    assert_eq!(
        unpack(&bytes[..], &copy, &Root::Inside, false)
            .unwrap()
            .files,
        3
    );
}

#[test]
fn an_archive_on_its_way_is_given_to_somebody() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let bytes = packed(None, |packer| {
        packer
            .add(&dir.path().join("tree"), Path::new("t"))
            .unwrap();
    });
    let owner = Owner {
        uid: 70_000_000,
        gid: 7,
    };
    let mut given = Vec::new();
    rewrite(&bytes[..], &mut given, Some(owner)).unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(&given[..]).entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.header().uid().unwrap(), owner.uid);
        assert_eq!(entry.header().gid().unwrap(), owner.gid);
        names.push(entry.path().unwrap().display().to_string());
    }
    assert_eq!(names.len(), 5, "{names:?}");
    let mut bad = Builder::new(Vec::new());
    raw(&mut bad, EntryType::Regular, "../x", "", b"");
    assert!(rewrite(&bad.into_inner().unwrap()[..], Vec::new(), None).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_through_and_so_do_errors() {
    let chunks = produce(|to| (0..100u8).try_for_each(|n| to.write_all(&[n; 10_000])));
    let sum = consume(chunks, |from| {
        let mut all = Vec::new();
        from.read_to_end(&mut all)?;
        Ok((all.len(), all.last().copied()))
    });
    assert_eq!(sum.await.unwrap(), (1_000_000, Some(99)));
    let chunks = produce(|to| {
        to.write_all(b"half")?;
        Err(io::Error::other("broke"))
    });
    let read = consume(chunks, |from| from.read_to_end(&mut Vec::new()));
    assert_eq!(read.await.unwrap_err().to_string(), "broke");
}
