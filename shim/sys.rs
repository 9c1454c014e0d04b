//! The system calls that `std` does not have, behind safe functions.
//!
//! The only place with `unsafe`. Everything here relies on the shim having one
//! thread: so it may fork and go on in the child as it likes.

use std::ffi::{CString, c_char, c_int, c_uint, c_ulong, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("the shim is for 64-bit Linux");

unsafe extern "C" {
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn fork() -> c_int;
    fn setsid() -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    #[link_name = "kill"]
    fn kill_(pid: c_int, signal: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn sigemptyset(set: *mut SignalSet) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn signalfd(fd: c_int, set: *const SignalSet, flags: c_int) -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        length: *mut c_uint,
    ) -> c_int;
    #[link_name = "umask"]
    fn umask_(mask: c_uint) -> c_uint;
    fn execve(path: *const c_char, argv: *const *const c_char, env: *const *const c_char) -> c_int;
    fn _exit(code: c_int) -> !;
    #[link_name = "geteuid"]
    fn geteuid_() -> c_uint;
    fn fallocate(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int;
    fn fchdir(fd: c_int) -> c_int;
    #[link_name = "fstatvfs"]
    fn fstatvfs_(fd: c_int, into: *mut c_ulong) -> c_int;
}

/// Signals by number; the same on every machine that Rust and Linux share, MIPS excepted.
pub mod signals {
    /// The terminal is gone.
    pub const HUP: i32 = 1;
    /// Ctrl+C.
    pub const INT: i32 = 2;
    /// Ctrl+\.
    pub const QUIT: i32 = 3;
    /// Cannot be caught.
    pub const KILL: i32 = 9;
    /// Please end.
    pub const TERM: i32 = 15;
    /// A child has ended.
    pub const CHLD: i32 = 17;
}

/// `O_PATH`.
pub const O_PATH: i32 = 0o10000000;

/// Something to wait for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PollFd {
    fd: c_int,
    events: i16,
    happened: i16,
}

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;

impl PollFd {
    /// Waits for something to read (or the end), for room to write, or both.
    pub fn new(fd: &impl AsRawFd, read: bool, write: bool) -> Self {
        let events = if read { POLLIN } else { 0 } | if write { POLLOUT } else { 0 };
        Self {
            fd: fd.as_raw_fd(),
            events,
            happened: 0,
        }
    }

    /// Whether anything happened, errors and ends included.
    pub fn happened(&self) -> bool {
        self.happened != 0
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Waits until one of them has something, at most for `timeout`.
pub fn wait(fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<()> {
    // Rounded up, so that a deadline has passed when its wait is over.
    let millis = timeout.map_or(-1, |t| {
        c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    });
    // SAFETY: the pointer and the length are of one slice of plain structs.
    match check(unsafe { poll(fds.as_mut_ptr(), fds.len() as c_ulong, millis) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Which side of a fork this is.
pub enum Fork {
    /// The one that called, with the child's pid.
    Parent(u32),
    /// The new one.
    Child,
}

/// Makes a copy of this process.
pub fn split() -> io::Result<Fork> {
    // SAFETY: there is one thread, so the child is as whole as its parent.
    match check(unsafe { fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid.unsigned_abs())),
    }
}

/// Begins a session of its own.
pub fn new_session() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { setsid() }).map(|_| ())
}

fn set_process(option: c_int, value: c_ulong) -> io::Result<()> {
    let none: c_ulong = 0;
    // SAFETY: these options take one number.
    check(unsafe { prctl(option, value, none, none, none) }).map(|_| ())
}

/// Becomes the parent of descendants that lose theirs.
pub fn become_subreaper() -> io::Result<()> {
    set_process(36, 1)
}

/// Asks for a signal when the parent dies.
pub fn signal_at_parents_death(signal: i32) -> io::Result<()> {
    set_process(1, c_ulong::from(signal.unsigned_abs()))
}

/// Closes this process's memory to others of its user.
pub fn become_undumpable() -> io::Result<()> {
    set_process(4, 0)
}

/// Sends a signal to a process, or to a group if `pid` is negative.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { kill_(pid, signal) }).map(|_| ())
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, 128 + n for signal n.
    pub code: u8,
    /// The signal.
    pub signal: Option<i32>,
}

/// What became of children.
pub enum Reaped {
    /// This one has ended.
    Child(u32, Ended),
    /// There are some, and all of them live.
    AllLive,
    /// There are none.
    NoChildren,
}

/// Takes the status of a child that has ended, without waiting for one.
pub fn reap() -> Reaped {
    const NOHANG: c_int = 1;
    let mut status = 0;
    // SAFETY: the status is ours to write.
    let pid = unsafe { waitpid(-1, &mut status, NOHANG) };
    match pid {
        0 => Reaped::AllLive,
        pid if pid < 0 => Reaped::NoChildren,
        pid => {
            let signal = status & 0x7f;
            let ended = if signal == 0 {
                let code = u8::try_from((status >> 8) & 0xff).unwrap_or(u8::MAX);
                Ended { code, signal: None }
            } else {
                Ended {
                    code: u8::try_from(128 + signal).unwrap_or(u8::MAX),
                    signal: Some(signal),
                }
            };
            Reaped::Child(pid.unsigned_abs(), ended)
        }
    }
}

#[repr(C)]
struct SignalSet([u64; 16]);

/// Blocks every signal that can be blocked and gives a descriptor to read them from.
pub fn catch_signals() -> io::Result<File> {
    const BLOCK: c_int = 0;
    const CLOEXEC_NONBLOCK: c_int = 0o2000000 | 0o4000;
    let mut set = SignalSet([0; 16]);
    // SAFETY: the set is ours, and as long as any C library's.
    let fd = unsafe {
        check(sigfillset(&mut set))?;
        check(sigprocmask(BLOCK, &set, std::ptr::null_mut()))?;
        check(signalfd(-1, &set, CLOEXEC_NONBLOCK))?
    };
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Reads the signals that came.
pub fn caught(mut signals: &File) -> Vec<i32> {
    const INFO: usize = 128;
    let mut buffer = [0u8; 16 * INFO];
    let mut caught = Vec::new();
    while let Ok(read) = io::Read::read(&mut signals, &mut buffer) {
        if read == 0 {
            break;
        }
        for info in buffer[..read].chunks_exact(INFO) {
            if let Some(number) = info.first_chunk::<4>() {
                caught.push(i32::from_ne_bytes(*number));
            }
        }
    }
    caught
}

/// All signals as a program expects to find them.
pub fn reset_signals() {
    const SETMASK: c_int = 2;
    const DEFAULT: usize = 0;
    let mut set = SignalSet([0; 16]);
    // SAFETY: default dispositions run no code of ours; the set is ours.
    unsafe {
        for number in 1..=64 {
            signal(number, DEFAULT);
        }
        sigemptyset(&mut set);
        sigprocmask(SETMASK, &set, std::ptr::null_mut());
    }
}

/// Makes `to` another name of `from`, kept across exec.
pub fn duplicate_as(from: &impl AsRawFd, to: RawFd) -> io::Result<()> {
    let from = from.as_raw_fd();
    if from == to {
        const SETFD: c_int = 2;
        // SAFETY: takes numbers only.
        return check(unsafe { fcntl(from, SETFD, 0 as c_int) }).map(|_| ());
    }
    // SAFETY: what `to` was is given up on purpose: it is one of 0, 1 and 2.
    check(unsafe { dup2(from, to) }).map(|_| ())
}

/// Closes everything from 3 on but `keep`. A shim has a few hundred descriptors
/// at most, and the kernel gives out the lowest ones.
pub fn close_others(keep: &[RawFd]) {
    for fd in 3..1024 {
        if !keep.contains(&fd) {
            // SAFETY: only called at the start, and in a child that never
            // touches again what it does not keep.
            unsafe { close(fd) };
        }
    }
}

/// Makes a pipe as large as an unprivileged process may; a smaller one will do.
pub fn widen_pipe(fd: &impl AsRawFd) {
    const SETPIPE_SZ: c_int = 1031;
    // SAFETY: takes numbers only.
    unsafe { fcntl(fd.as_raw_fd(), SETPIPE_SZ, 1 << 20 as c_int) };
}

/// Reads and writes of it return at once from now on.
pub fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    const GETFL: c_int = 3;
    const SETFL: c_int = 4;
    const NONBLOCK: c_int = 0o4000;
    // SAFETY: takes numbers only.
    unsafe {
        let flags = check(fcntl(fd.as_raw_fd(), GETFL))?;
        check(fcntl(fd.as_raw_fd(), SETFL, flags | NONBLOCK)).map(|_| ())
    }
}

/// Who is at the other end of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Its process; 0 when that is outside our pid namespace.
    pub pid: c_int,
    /// Its user.
    pub uid: c_uint,
    gid: c_uint,
}

/// Asks the kernel who connected.
pub fn peer(socket: &impl AsRawFd) -> io::Result<Peer> {
    const SOL_SOCKET: c_int = 1;
    const SO_PEERCRED: c_int = 17;
    let mut peer = Peer::default();
    let mut length = size_of::<Peer>() as c_uint;
    let place = (&raw mut peer).cast::<c_void>();
    // SAFETY: the place and its length belong together.
    check(unsafe {
        getsockopt(
            socket.as_raw_fd(),
            SOL_SOCKET,
            SO_PEERCRED,
            place,
            &mut length,
        )
    })?;
    Ok(peer)
}

/// A new pseudo terminal: our side, and the program's.
pub fn open_terminal(rows: u16, columns: u16) -> io::Result<(File, OwnedFd)> {
    const TIOCSPTLCK: c_ulong = 0x4004_5431;
    const TIOCGPTPEER: c_ulong = 0x5441;
    const RDWR_NOCTTY_CLOEXEC: c_int = 0o2 | 0o400 | 0o2000000;
    let master = File::options().read(true).write(true).open("/dev/ptmx")?;
    let unlocked: c_int = 0;
    // SAFETY: the first takes a pointer to an int, the second flags of open.
    let slave = unsafe {
        check(ioctl(master.as_raw_fd(), TIOCSPTLCK, &raw const unlocked))?;
        check(ioctl(master.as_raw_fd(), TIOCGPTPEER, RDWR_NOCTTY_CLOEXEC))?
    };
    // SAFETY: just made, and nobody else's.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    set_terminal_size(&master, rows, columns)?;
    Ok((master, slave))
}

/// Tells a terminal its size.
pub fn set_terminal_size(terminal: &impl AsRawFd, rows: u16, columns: u16) -> io::Result<()> {
    const TIOCSWINSZ: c_ulong = 0x5414;
    let size: [u16; 4] = [rows, columns, 0, 0];
    // SAFETY: takes a pointer to four shorts.
    check(unsafe { ioctl(terminal.as_raw_fd(), TIOCSWINSZ, size.as_ptr()) }).map(|_| ())
}

/// Makes it the terminal of this process's session.
pub fn take_terminal(terminal: &impl AsRawFd) -> io::Result<()> {
    const TIOCSCTTY: c_ulong = 0x540e;
    // SAFETY: takes a number.
    check(unsafe { ioctl(terminal.as_raw_fd(), TIOCSCTTY, 0 as c_int) }).map(|_| ())
}

/// Sets the umask and gives the one before.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: takes a number and cannot fail.
    unsafe { umask_(mask) }
}

/// This process's effective user.
pub fn user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { geteuid_() }
}

/// Reserves room on the disk for a file, without changing its length.
pub fn reserve(file: &File, offset: u64, length: u64) -> io::Result<()> {
    const KEEP_SIZE: c_int = 1;
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    // SAFETY: takes numbers only.
    check(unsafe { fallocate(file.as_raw_fd(), KEEP_SIZE, offset, length) }).map(|_| ())
}

/// Bytes that are free on a file's disk, for who is no superuser, and its size.
pub fn room(file: &File) -> io::Result<(u64, u64)> {
    // The system's structure has five long numbers first, where numbers are long: sizes
    // of a block and of a fragment, all fragments, free ones, those for everybody. It is
    // not longer than this anywhere.
    let mut found: [c_ulong; 32] = [0; 32];
    // SAFETY: there is room for what is written.
    check(unsafe { fstatvfs_(file.as_raw_fd(), found.as_mut_ptr()) })?;
    let [_, size, all, _, free, ..] = found.map(u64::from);
    Ok((free.saturating_mul(size), all.saturating_mul(size)))
}

/// Changes to a directory that is open.
pub fn change_directory(directory: &File) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { fchdir(directory.as_raw_fd()) }).map(|_| ())
}

/// Becomes another program. Returns only if that failed.
pub fn execute(path: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        let strings = strings.iter().map(|s| s.as_ptr());
        strings.chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end in null, and all strings outlive the call.
    unsafe { execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process at once: nothing of the parent's is flushed or dropped in a child.
pub fn exit(code: u8) -> ! {
    // SAFETY: takes a number.
    unsafe { _exit(c_int::from(code)) }
}
