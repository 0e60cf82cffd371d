//! Whether this process ran out of something.

use std::io;

/// Whether the system refused because this process, or the machine, is out of a resource:
/// descriptors, memory, buffers. The error is then
/// [`Exhausted`](crate::ErrorKind::Exhausted): no evidence against a server, a file or a program.
///
/// ```
/// use mcpool_core::is_exhausted;
///
/// let too_many_files = if cfg!(windows) { 10_024 } else { 24 };
/// assert!(is_exhausted(&std::io::Error::from_raw_os_error(too_many_files)));
/// assert!(!is_exhausted(&std::io::ErrorKind::ConnectionRefused.into()));
/// ```
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::OutOfMemory {
        return true;
    }
    match error.raw_os_error() {
        // EMFILE and ENFILE are the same on every Unix; ENOBUFS is not.
        Some(23 | 24) if cfg!(unix) => true,
        Some(105) if cfg!(any(target_os = "linux", target_os = "android")) => true,
        Some(55) if cfg!(any(target_vendor = "apple", target_os = "freebsd")) => true,
        // ERROR_TOO_MANY_OPEN_FILES, WSAEMFILE, WSAENOBUFS.
        Some(4 | 10_024 | 10_055) if cfg!(windows) => true,
        _ => false,
    }
}
