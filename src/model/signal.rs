//! Names of signals, as Linux numbers them (signal(7); the numbers of x86 and Arm).

const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The name of signal `number`.
#[must_use]
pub fn name(number: i32) -> Option<&'static str> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    NAMES.get(index).copied()
}

/// The number of a signal given as `TERM`, `SIGTERM`, `sigterm` or `15`.
#[must_use]
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return name(number).map(|_| number);
    }
    let upper = text.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    let index = NAMES.iter().position(|name| *name == full)?;
    i32::try_from(index + 1).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_and_numbers_agree() {
        for number in 1..=31 {
            assert_eq!(super::name(number).and_then(super::number), Some(number));
        }
        assert_eq!(super::number("term"), Some(15));
        assert_eq!(super::number("9"), Some(9));
        assert_eq!(super::number("0"), None);
        assert_eq!(super::number("nope"), None);
    }
}
