//! The limit of open files. Each server takes a few, and the soft limit is still 1024 in most
//! places, for programs that use `select`.

/// Raises the soft limit as far as it may be, and gives what it was: servers get that one, since
/// nobody knows what they use.
#[cfg(unix)]
pub(crate) fn raise() -> Option<u64> {
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};

    /// Enough for over ten thousand servers. Some programs walk through all numbers below the limit, and
    /// the hard limit can be a billion.
    const WANTED: u64 = 65_536;
    /// As much as macOS takes, whatever its hard limit says (OPEN_MAX).
    const MODEST: u64 = 10_240;

    let (soft, hard) = getrlimit(RLIMIT_NOFILE).ok()?;
    [WANTED, MODEST]
        .into_iter()
        .map(|wanted| wanted.min(hard))
        .any(|wanted| wanted > soft && setrlimit(RLIMIT_NOFILE, wanted, hard).is_ok())
        .then_some(soft)
}

/// There is no such limit.
#[cfg(not(unix))]
pub(crate) fn raise() -> Option<u64> {
    None
}
