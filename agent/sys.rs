//! The few calls of the C library that `std` does not offer: signals and sessions.
//!
//! Invariant: a handler only stores, writes, sleeps and exits, which POSIX
//! allows in a handler; everything it needs was prepared before.

use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering::SeqCst};

unsafe extern "C" {
    fn signal(signal: i32, handler: usize) -> usize;
    fn kill(pid: i32, signal: i32) -> i32;
    fn write(fd: i32, bytes: *const u8, length: usize) -> isize;
    fn poll(fds: *const u8, count: u64, millis: i32) -> i32;
    fn _exit(code: i32) -> !;
    fn geteuid() -> u32;
    fn setsid() -> i32;
}

const DEFAULT: usize = 0;
const IGNORE: usize = 1;
const SIGNALS: usize = 65;

/// SIGINT.
pub const INT: i32 = 2;
/// SIGPIPE.
pub const PIPE: i32 = 13;
/// SIGTERM.
pub const TERM: i32 = 15;

static CODES: [AtomicI32; SIGNALS] = [const { AtomicI32::new(0) }; SIGNALS];
static DELAYS: [AtomicU64; SIGNALS] = [const { AtomicU64::new(0) }; SIGNALS];
static WORDS: [AtomicPtr<u8>; SIGNALS] = [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS];
static LENGTHS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];
static STREAMS: [AtomicI32; SIGNALS] = [const { AtomicI32::new(0) }; SIGNALS];

extern "C" fn leave(signal: i32) {
    let n = signal as usize % SIGNALS;
    let words = WORDS[n].load(SeqCst);
    // SAFETY: `words` is null or a leaked allocation of that length.
    unsafe {
        if !words.is_null() {
            write(STREAMS[n].load(SeqCst), words, LENGTHS[n].load(SeqCst));
        }
        let delay = DELAYS[n].load(SeqCst);
        if delay > 0 {
            poll(ptr::null(), 0, i32::try_from(delay).unwrap_or(i32::MAX));
        }
        _exit(CODES[n].load(SeqCst))
    }
}

/// When `number` arrives: writes `words` to the descriptor `stream`, waits, and exits.
pub fn exit_on(number: i32, code: i32, delay_ms: u64, stream: i32, words: Vec<u8>) {
    let n = number as usize % SIGNALS;
    let words: &'static mut [u8] = words.leak();
    CODES[n].store(code, SeqCst);
    DELAYS[n].store(delay_ms, SeqCst);
    STREAMS[n].store(stream, SeqCst);
    LENGTHS[n].store(words.len(), SeqCst);
    WORDS[n].store(words.as_mut_ptr(), SeqCst);
    // SAFETY: `leave` is a handler of the right type and safe in one.
    unsafe { signal(number, leave as extern "C" fn(i32) as usize) };
}

/// Ignores the signal from now on.
pub fn ignore(number: i32) {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { signal(number, IGNORE) };
}

/// Gives the signal its default effect.
pub fn restore(number: i32) {
    // SAFETY: SIG_DFL is a valid disposition.
    unsafe { signal(number, DEFAULT) };
}

/// Ends this process by the signal.
pub fn die(number: i32) -> ! {
    restore(number);
    // SAFETY: plain calls; our own pid.
    unsafe {
        kill(std::process::id() as i32, number);
        // Reached only if the signal does not kill.
        _exit(128 + number)
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // SAFETY: cannot fail.
    unsafe { geteuid() == 0 }
}

/// Leaves the session of the parent, as a daemon does.
pub fn new_session() {
    // SAFETY: fails harmlessly.
    unsafe { setsid() };
}

/// The number of a signal by name (with or without SIG) or number.
pub fn number(name: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 13] = [
        ("HUP", 1),
        ("INT", INT),
        ("QUIT", 3),
        ("ILL", 4),
        ("ABRT", 6),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", PIPE),
        ("ALRM", 14),
        ("TERM", TERM),
    ];
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    let by_name = NAMES.iter().find(|(n, _)| *n == bare).map(|(_, n)| *n);
    by_name.or_else(|| {
        bare.parse()
            .ok()
            .filter(|n| (1..SIGNALS as i32).contains(n))
    })
}
