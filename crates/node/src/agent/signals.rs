//! Signals by the names that manifests and images give them.

/// Their numbers on Linux are those of the usual architectures; the real-time ones go by their distance from the ends.
const NAMED: [(&str, i32); 32] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("PROF", libc::SIGPROF),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("RTMIN", FIRST_REAL_TIME),
];
/// The C library keeps two before it for itself.
const FIRST_REAL_TIME: i32 = 34;
const LAST: i32 = 64;

/// `SIGQUIT`, `quit`, `3` and `SIGRTMIN+3`; `None` for what is no signal, an empty text too.
pub(super) fn number(text: &str) -> Option<i32> {
    let name = text.trim().to_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return Some(number).filter(|number| (1..=LAST).contains(number));
    }
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |end: &str, base: i32, sign: i32| {
        let distance: u8 = name.strip_prefix(end)?.parse().ok()?;
        Some(base + sign * i32::from(distance)).filter(|number| (FIRST_REAL_TIME..=LAST).contains(number))
    };
    let named = NAMED.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let last = (name == "RTMAX").then_some(LAST);
    named.or(last).or_else(|| real_time("RTMIN+", FIRST_REAL_TIME, 1)).or_else(|| real_time("RTMAX-", LAST, -1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_signals() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("3", Some(3)),
            ("SIGWINCH", Some(28)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMAX", Some(64)),
            ("SIGRTMIN+99", None),
            ("SIGRTMIN+-1", None),
            ("0", None),
            ("65", None),
            ("", None),
            ("SIGNOBODY", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
