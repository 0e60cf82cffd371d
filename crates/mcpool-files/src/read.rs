//! Reading with a bound.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    path::Path,
};

/// Reads a regular file of at most `limit` bytes, behind symbolic links.
///
/// A pipe, a socket or a device is refused without being opened; one that takes the file's place
/// between the look and the opening is refused without being waited for.
///
/// # Errors
/// [`IsADirectory`](io::ErrorKind::IsADirectory), [`InvalidInput`](io::ErrorKind::InvalidInput)
/// for what is no regular file, [`FileTooLarge`](io::ErrorKind::FileTooLarge), and what the
/// system says. The messages name no path and no content.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, _) = open_regular(path, limit)?;
    read_stream(file, limit)
}

/// Opens a regular file of at most `limit` bytes, as [`read_regular`] does, and what is known of it.
pub(crate) fn open_regular(path: &Path, limit: u64) -> io::Result<(File, Metadata)> {
    // Opening a device can already do something.
    check(&std::fs::metadata(path)?, limit)?;
    let file = open(path)?;
    let metadata = file.metadata()?;
    check(&metadata, limit)?;
    Ok((file, metadata))
}

/// Reads to the end, and no more than `limit` bytes: for what may be a pipe, such as standard
/// input. It waits for the other side as long as that takes.
///
/// # Errors
/// [`FileTooLarge`](io::ErrorKind::FileTooLarge) as soon as there is more, and what the reader
/// says.
pub fn read_stream(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than the limit, to see that there is more.
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}

fn check(metadata: &Metadata, limit: u64) -> io::Result<()> {
    if metadata.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a directory",
        ));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file: pipes, sockets and devices are not read",
        ));
    }
    if metadata.len() > limit {
        return Err(too_large(limit));
    }
    Ok(())
}

fn too_large(limit: u64) -> io::Error {
    const MIB: u64 = 1024 * 1024;
    let limit = match limit {
        0 => "0 bytes".to_owned(),
        limit if limit.is_multiple_of(MIB) => format!("{} MiB", limit / MIB),
        limit if limit.is_multiple_of(1024) => format!("{} KiB", limit / 1024),
        limit => format!("{limit} bytes"),
    };
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("it is larger than {limit}"),
    )
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        // A pipe that took the file's place is opened without waiting for its other side, and a
        // terminal without becoming ours. Neither flag means anything for a regular file.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        let error = read_regular(&path, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it is larger than 4 bytes");
        let error = read_regular(folder.path(), 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = read_regular(&folder.path().join("none"), 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_has_no_end_is_read_up_to_its_bound() {
        let error = read_stream(io::repeat(b'x'), 64 * 1024).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 64 KiB");
        assert_eq!(read_stream(&b"ab"[..], 2).unwrap(), b"ab");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_and_a_device_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link, Path::new("/dev/zero"), Path::new("/dev/null")] {
            let error = read_regular(path, 10).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
        // Also when it comes after the look.
        let opened = open(&pipe).unwrap();
        assert!(check(&opened.metadata().unwrap(), 10).is_err());
    }
}
