//! What a disk may hold after the power went, made from a recording of what a
//! program wrote and synced.
//!
//! The recording is strace's, so it has each call's beginning and end, and what
//! threads did at the same time. A write is on disk for certain once a sync of
//! its file has ended that began after the write's end; a name, once its
//! directory was synced like that. `sync_file_range` is not a sync: it empties
//! no drive's cache. Of everything else any part may be there.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The calls that are recorded. `close` and the like change nothing.
const CALLS: &str = "trace=openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,\
    fallocate,fsync,fdatasync,/^rename,/^unlink,/^mkdir,rmdir,/^link,/^symlink,copy_file_range,\
    sendfile,splice";

/// A file, whatever its name.
type Inode = usize;

#[derive(Debug)]
enum Node {
    File(Inode),
    Dir(PathBuf),
}

#[derive(Debug)]
enum What {
    Write {
        file: Inode,
        at: u64,
        data: Vec<u8>,
    },
    Len {
        file: Inode,
        len: u64,
    },
    /// The name stands for the file from now on, or for a directory.
    Name {
        path: PathBuf,
        file: Option<Inode>,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: Option<Inode>,
    },
    Remove {
        path: PathBuf,
    },
    Sync(Node),
    /// The program said so.
    Said(u64),
}

#[derive(Debug)]
struct Op {
    begin: usize,
    /// `usize::MAX` when it was cut short.
    end: usize,
    /// When it is on disk for certain.
    sure: usize,
    what: What,
}

/// What is lost of that which is not on disk for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing that had been written.
    Nothing,
    /// All of it.
    Everything,
    /// Any writes, sectors of writes and last names, by this seed.
    Some(u64),
}

/// What files hold; directories hold nothing.
pub(super) type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A recorded run.
pub(super) struct Recording {
    ops: Vec<Op>,
    files: Vec<Vec<u8>>,
    before: BTreeMap<PathBuf, Option<Inode>>,
    lines: usize,
}

/// A generator of numbers that nobody foresees and everybody can repeat.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}

/// Writes an image into the empty directory `root`.
pub(super) fn restore(image: &Image, root: &Path) {
    for (path, content) in image {
        match content {
            None => fs::create_dir(root.join(path)).unwrap(),
            Some(content) => fs::write(root.join(path), content).unwrap(),
        }
    }
}

impl Recording {
    /// Runs `command`, which works in `root`, and records what it does there.
    pub(super) fn make(command: &Command, root: &Path) -> Self {
        let trace = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-y", "-xx", "-s", "67108864", "-e", CALLS, "-o"])
            .arg(trace.path())
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            strace.env(name, value.unwrap());
        }
        let mut before = BTreeMap::new();
        let mut files = Vec::new();
        look(root, root, &mut before, &mut files);
        let done = strace.output().unwrap_or_else(|error| {
            panic!(
                "strace cannot be run ({error}): this test needs it, scripts/strace.sh installs it"
            )
        });
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
        let text = fs::read_to_string(trace.path()).unwrap();
        let mut reader = TraceReader {
            root: format!("{}/", root.display()),
            names: before.clone(),
            files: files.len(),
            places: HashMap::new(),
            ops: Vec::new(),
        };
        reader.read(&text);
        let mut ops = reader.ops;
        settle(&mut ops);
        files.resize(reader.files, Vec::new());
        Self {
            ops,
            files,
            before,
            lines: text.lines().count(),
        }
    }

    /// Every moment at which something had just begun or ended: of names, of
    /// syncs, of all else.
    pub(super) fn cuts(&self) -> [Vec<usize>; 3] {
        let mut cuts = [const { Vec::new() }; 3];
        for op in &self.ops {
            let end = op.end.min(self.lines);
            let kind = match op.what {
                What::Name { .. } | What::Rename { .. } | What::Remove { .. } => 0,
                What::Sync(_) => 1,
                What::Write { .. } | What::Len { .. } | What::Said(_) => 2,
            };
            cuts[kind].extend([op.begin + 1, end, end + 1]);
        }
        for cuts in &mut cuts {
            cuts.sort_unstable();
            cuts.dedup();
        }
        cuts
    }

    /// The last number that the program had said by then.
    pub(super) fn said(&self, cut: usize) -> u64 {
        let said = self.ops.iter().filter(|op| op.end < cut);
        let said = said.filter_map(|op| match op.what {
            What::Said(number) => Some(number),
            _ => None,
        });
        said.max().unwrap_or(0)
    }

    /// What is not on disk for certain at `cut`.
    pub(super) fn open_at(&self, cut: usize) -> String {
        let open = self.ops.iter();
        let open = open.filter(|op| op.begin < cut && op.sure >= cut);
        let told = open.map(|op| {
            let what = match &op.what {
                What::Write { file, at, data } => {
                    let path = self.name_of(*file);
                    format!("write {path} {at}+{}", data.len())
                }
                what => format!("{what:?}"),
            };
            format!("  {}..{}: {what}", op.begin, op.end as isize)
        });
        told.collect::<Vec<_>>().join("\n")
    }

    fn name_of(&self, inode: Inode) -> String {
        let mut names = self.ops.iter().filter_map(|op| match &op.what {
            What::Name { path, file } if *file == Some(inode) => Some(path),
            _ => None,
        });
        names
            .next()
            .map_or_else(String::new, |path| path.display().to_string())
    }

    /// What the disk may hold when the power goes at `cut`.
    pub(super) fn image(&self, cut: usize, loss: Loss) -> Image {
        let mut files = self.files.clone();
        let mut names = self.before.clone();
        let mut dice = Dice(match loss {
            Loss::Some(seed) => seed.wrapping_mul(1_000_003) ^ cut as u64,
            Loss::Nothing | Loss::Everything => 0,
        });
        // Names of one directory reach the disk in their order.
        let mut stopped: Vec<PathBuf> = Vec::new();
        for op in self.ops.iter().filter(|op| op.begin < cut) {
            let sure = op.sure < cut;
            let whole = sure || (loss == Loss::Nothing && op.end < cut);
            let any = matches!(loss, Loss::Some(_)) && !whole;
            if !whole && !any {
                continue;
            }
            match &op.what {
                What::Write { file, at, data } => {
                    write(&mut files[*file], *at, data, any.then_some(&mut dice));
                }
                What::Len { file, len } => {
                    if whole || dice.below(2) == 0 {
                        files[*file].resize(*len as usize, 0);
                    }
                }
                What::Name { path, .. } | What::Rename { to: path, .. } | What::Remove { path } => {
                    let dir = path.parent().unwrap().to_owned();
                    if any && (stopped.contains(&dir) || dice.below(3) == 0) {
                        stopped.push(dir);
                        continue;
                    }
                    rename(&mut names, &op.what);
                }
                What::Sync(_) | What::Said(_) => {}
            }
        }
        let mut image = Image::new();
        for (path, file) in names {
            // Without its directory nobody finds it.
            let parent = path.parent().unwrap();
            if parent == Path::new("") || image.contains_key(parent) {
                image.insert(path, file.map(|file| files[file].clone()));
            }
        }
        image
    }
}

/// Writes, with dice only some of the sectors.
fn write(file: &mut Vec<u8>, at: u64, data: &[u8], dice: Option<&mut Dice>) {
    const SECTOR: usize = 512;
    let at = at as usize;
    let mut put = |from: usize, to: usize| {
        if file.len() < at + to {
            file.resize(at + to, 0);
        }
        file[at + from..at + to].copy_from_slice(&data[from..to]);
    };
    let Some(dice) = dice else {
        return put(0, data.len());
    };
    let odds = match dice.below(4) {
        0 => return,
        1 => return put(0, data.len()),
        _ => 1 + dice.below(15),
    };
    let mut from = 0;
    while from < data.len() {
        let to = data.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
        if dice.below(16) < odds {
            put(from, to);
        }
        from = to;
    }
}

fn rename(names: &mut BTreeMap<PathBuf, Option<Inode>>, what: &What) {
    match what {
        What::Name { path, file } => {
            names.insert(path.clone(), *file);
        }
        What::Rename { from, to, file } => {
            names.insert(to.clone(), *file);
            let all = std::mem::take(names);
            names.extend(
                all.into_iter()
                    .filter(|(path, _)| path != from)
                    .map(|(path, file)| match path.strip_prefix(from) {
                        Ok(rest) => (to.join(rest), file),
                        Err(_) => (path, file),
                    }),
            );
        }
        What::Remove { path } => {
            names.remove(path);
        }
        What::Write { .. } | What::Len { .. } | What::Sync(_) | What::Said(_) => {}
    }
}

/// What is in `dir` already.
fn look(
    root: &Path,
    dir: &Path,
    names: &mut BTreeMap<PathBuf, Option<Inode>>,
    files: &mut Vec<Vec<u8>>,
) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_owned();
        if path.is_dir() {
            names.insert(name, None);
            look(root, &path, names, files);
        } else {
            names.insert(name, Some(files.len()));
            files.push(fs::read(&path).unwrap());
        }
    }
}

/// Finds out when each operation is on disk for certain.
fn settle(ops: &mut [Op]) {
    let mut syncs: Vec<(usize, usize, usize)> = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        if matches!(op.what, What::Sync(_)) && op.end != usize::MAX {
            syncs.push((op.end, op.begin, index));
        }
    }
    syncs.sort_unstable();
    for index in 0..ops.len() {
        let covers = |sync: &What| match (&ops[index].what, sync) {
            (What::Write { file, .. } | What::Len { file, .. }, What::Sync(Node::File(synced))) => {
                file == synced
            }
            (
                What::Name { path, .. } | What::Rename { to: path, .. } | What::Remove { path },
                What::Sync(Node::Dir(synced)),
            ) => path.parent() == Some(synced),
            _ => false,
        };
        let end = ops[index].end;
        let sync = syncs
            .iter()
            .find(|(_, begin, sync)| *begin > end && covers(&ops[*sync].what));
        ops[index].sure = sync.map_or(usize::MAX, |(end, _, _)| *end);
    }
}

struct TraceReader {
    /// With a slash at its end.
    root: String,
    names: BTreeMap<PathBuf, Option<Inode>>,
    files: usize,
    /// Where the next `write` to a descriptor goes.
    places: HashMap<String, u64>,
    ops: Vec<Op>,
}

impl TraceReader {
    fn read(&mut self, text: &str) {
        // Calls that have begun: by process, the text so far and since when.
        let mut open: HashMap<&str, (String, usize)> = HashMap::new();
        for (line, text) in text.lines().enumerate() {
            let (process, text) = text.split_once(' ').unwrap();
            let text = text.trim_start();
            if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
                open.insert(process, (begun.to_owned(), line));
            } else if text.starts_with("<... ") {
                let (_, rest) = text.split_once(" resumed>").unwrap();
                let (begun, begin) = open.remove(process).unwrap();
                self.call(&(begun + rest), begin, line);
            } else if !text.starts_with("+++") && !text.starts_with("---") {
                self.call(text, line, line);
            }
        }
        for (begun, begin) in open.into_values() {
            self.call(&begun, begin, usize::MAX);
        }
    }

    /// The path in the root that a descriptor or a string stands for.
    fn ours(&self, argument: &str) -> Option<PathBuf> {
        let hex = argument
            .split_once(['<', '"'])
            .and_then(|(_, rest)| rest.split_once(['>', '"']))?;
        if hex.1.contains("deleted") {
            return None;
        }
        let path = String::from_utf8(unhex(hex.0)).ok()?;
        let path = format!("{path}/");
        let name = path.strip_prefix(&self.root)?;
        Some(PathBuf::from(name.trim_end_matches('/')))
    }

    fn call(&mut self, text: &str, begin: usize, end: usize) {
        let (name, rest) = text.split_once('(').unwrap();
        let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, "0"));
        if result.starts_with('-') {
            return;
        }
        let arguments: Vec<&str> = arguments
            .trim_end()
            .trim_end_matches(')')
            .split(", ")
            .collect();
        if name == "write" && arguments[0].starts_with("1<") {
            let text = unhex(arguments[1].trim_matches('"'));
            let text = String::from_utf8_lossy(&text);
            if let Some(number) = text.trim().strip_prefix("acknowledged ") {
                let what = What::Said(number.parse().unwrap());
                self.push(begin, end, what);
            }
            return;
        }
        let paths: Vec<PathBuf> = arguments.iter().filter_map(|a| self.ours(a)).collect();
        let Some(path) = paths.first() else {
            return;
        };
        let file = self.names.get(path).copied().flatten();
        let number = |at: usize| arguments[at].parse::<u64>().unwrap();
        let what = match name {
            "openat" => {
                let place = result.split('<').next().unwrap();
                self.places.insert(place.to_owned(), 0);
                if arguments[2].contains("O_TMPFILE") {
                    panic!("{name} {arguments:?}");
                }
                match file {
                    Some(file) if arguments[2].contains("O_TRUNC") => What::Len { file, len: 0 },
                    None if arguments[2].contains("O_CREAT") => {
                        self.files += 1;
                        What::Name {
                            path: path.clone(),
                            file: Some(self.files - 1),
                        }
                    }
                    _ => return,
                }
            }
            "pwrite64" | "write" => {
                let data = unhex(arguments[1].trim_matches('"'));
                let at = if name == "pwrite64" {
                    number(3)
                } else {
                    let place = arguments[0].split('<').next().unwrap();
                    let place = self.places.entry(place.to_owned()).or_default();
                    *place += data.len() as u64;
                    *place - data.len() as u64
                };
                What::Write {
                    file: file.unwrap(),
                    at,
                    data,
                }
            }
            "ftruncate" => What::Len {
                file: file.unwrap(),
                len: number(1),
            },
            // Blocks beyond the file's end, which change nothing that can be read.
            "fallocate" if arguments[1].contains("FALLOC_FL_KEEP_SIZE") => return,
            "fsync" | "fdatasync" => What::Sync(match file {
                Some(file) => Node::File(file),
                None => Node::Dir(path.clone()),
            }),
            "rename" | "renameat" | "renameat2" => What::Rename {
                from: path.clone(),
                to: paths[1].clone(),
                file,
            },
            "unlinkat" if !arguments[0].starts_with("AT_FDCWD") => {
                let name = String::from_utf8(unhex(arguments[1].trim_matches('"'))).unwrap();
                What::Remove {
                    path: path.join(name),
                }
            }
            "unlink" | "unlinkat" | "rmdir" => What::Remove { path: path.clone() },
            "mkdir" => What::Name {
                path: path.clone(),
                file: None,
            },
            other => panic!("the simulator does not know {other}: {arguments:?}"),
        };
        self.push(begin, end, what);
    }

    fn push(&mut self, begin: usize, end: usize, what: What) {
        rename(&mut self.names, &what);
        self.ops.push(Op {
            begin,
            end,
            sure: usize::MAX,
            what,
        });
    }
}

/// What strace's `-xx` made of some bytes.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        other => panic!("no hexadecimal digit: {other}"),
    };
    let (codes, rest) = text.as_bytes().as_chunks::<4>();
    assert!(rest.is_empty(), "cut short: {}", text.len());
    let byte = |code: &[u8; 4]| digit(code[2]) << 4 | digit(code[3]);
    codes.iter().map(byte).collect()
}
