//! Files and directories that only the user may read, checked each time that they are used: modes
//! are loosened by backups, copies and mistakes, and nobody notices.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use mcpool_core::{Error, ErrorKind, Result};

/// Makes a directory, and what is missing above it, for the user alone.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Opens a file to read it. Does not wait for pipes, and does not follow a link at its end.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;

        use rustix::fs::OFlags;

        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    }
    options.open(path)
}

/// Reads a file of at most `limit` bytes that only the user may read; `None` when there is none.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal), which says what to do, when others may read it, and when it
/// cannot be read.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = |error: io::Error| problem(path, "cannot be read").with_source(error);
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(problem(path, "is not a regular file"));
    }
    check_owner(path, &metadata, "600")?;
    match mcpool_files::read_stream(file, limit) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(problem(path, &error.to_string())),
    }
}

/// Checks that only the user may enter a directory.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal), which says what to do; when it is not there as well.
pub(crate) fn check_directory(path: &Path) -> Result<()> {
    let metadata =
        fs::metadata(path).map_err(|error| problem(path, "cannot be read").with_source(error))?;
    if !metadata.is_dir() {
        return Err(problem(path, "is not a directory"));
    }
    check_owner(path, &metadata, "700")
}

#[cfg(unix)]
fn check_owner(path: &Path, metadata: &fs::Metadata, wanted: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let user = rustix::process::geteuid();
    if metadata.uid() != user.as_raw() && !user.is_root() {
        return Err(problem(
            path,
            "belongs to another user: remove it, or say where else credentials are kept",
        ));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(problem(
            path,
            &format!(
                "is open to other users (mode {mode:04o}): run `chmod {wanted} {}`, and log in \
                 again if somebody may have read it",
                path.display()
            ),
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "the user's directories are private by what they inherit there"
)]
fn check_owner(_: &Path, _: &fs::Metadata, _: &str) -> Result<()> {
    Ok(())
}

fn problem(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("{} {what}", path.display()))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn loosened_modes_are_noticed_and_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.json");
        fs::write(&file, "canary").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o600, 0o400, 0o700] {
            set(&file, mode);
            assert_eq!(read(&file, 6).unwrap().unwrap(), b"canary");
        }
        for mode in [0o640, 0o604, 0o660, 0o606, 0o601] {
            set(&file, mode);
            let error = read(&file, 6).unwrap_err();
            let help = format!("run `chmod 600 {}`", file.display());
            assert!(error.message().contains(&help), "{error}");
            assert!(!format!("{error:?}").contains("canary"));
        }
        set(&file, 0o600);
        assert!(read(&file, 5).unwrap_err().message().contains("larger"));
        assert!(read(&folder.path().join("none"), 5).unwrap().is_none());
        for mode in [0o750, 0o705, 0o701, 0o770, 0o777] {
            set(folder.path(), mode);
            let error = check_directory(folder.path()).unwrap_err();
            assert!(error.message().contains("run `chmod 700 "), "{error}");
        }
        set(folder.path(), 0o700);
        check_directory(folder.path()).unwrap();
        assert!(check_directory(&file).is_err());
    }

    #[test]
    fn neither_a_link_nor_a_pipe_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.json");
        let link = folder.path().join("link.json");
        fs::write(&file, "canary").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&file, 100).is_ok());
        std::os::unix::fs::symlink(&file, &link).unwrap();
        read(&link, 100).unwrap_err();
        let pipe = folder.path().join("pipe.json");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let error = read(&pipe, 100).unwrap_err();
        assert!(error.message().contains("not a regular file"), "{error}");
    }
}
