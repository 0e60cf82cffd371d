//! The files of hosts: read whole, written whole.

use std::{io, path::Path};

use mcpool_core::{Error, ErrorKind, Result};
use mcpool_files::{Lock, Locks};

use crate::{edit::LOCK_PATIENCE, loader::MAX_BYTES};

/// The text of a host's file; `None` when it is not there. Blocks.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) when it cannot be read, is no regular file, is
/// larger than 16 MiB or is not UTF-8.
pub fn read_host_file(path: &Path) -> Result<Option<String>> {
    let bytes = match mcpool_files::read_regular(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail("read", path, error)),
    };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        fail(
            "read",
            path,
            io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
        )
    })
}

/// Writes a host's file, and its directory when it is not there: locked against other processes of
/// mcpool, beside it, synced, renamed. It keeps its permissions; a new one is readable by the owner
/// only, as it may hold secrets. A symbolic link stays one. Blocks, for at most 10 s while another
/// process changes the same file.
///
/// `before` is what was read of it: hosts take no lock, and what one of them has written since is
/// not written over.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) when it does not say `before` any more, or cannot
/// be written; as [`read_host_file`].
pub fn write_host_file(path: &Path, before: Option<&str>, text: &str) -> Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .map_err(|error| fail("create the directory of", path, error))?;
    }
    let target = mcpool_files::resolved(path);
    let _lock = lock_unchanged(path, &target, before)?;
    mcpool_files::write_keeping_mode(&target, text).map_err(|error| fail("write", path, error))
}

/// Removes a host's file, as carefully as [`write_host_file`] writes it. Blocks as that.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) when it does not say `before` any more, or cannot
/// be removed; as [`read_host_file`].
pub fn remove_host_file(path: &Path, before: Option<&str>) -> Result<()> {
    let target = mcpool_files::resolved(path);
    let _lock = lock_unchanged(path, &target, before)?;
    std::fs::remove_file(&target).map_err(|error| fail("remove", path, error))
}

/// Locks a file that still says what was read of it.
fn lock_unchanged(path: &Path, target: &Path, before: Option<&str>) -> Result<Lock> {
    let lock = Locks::of_user()
        .and_then(|locks| locks.lock(target, LOCK_PATIENCE))
        .map_err(|error| fail("lock", path, error))?;
    if read_host_file(target)?.as_deref() == before {
        return Ok(lock);
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "{} was changed by another program meanwhile: nothing was written to it; try again",
            path.display()
        ),
    ))
}

fn fail(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("cannot {what} {}: {error}", path.display()),
    )
    .with_source(error)
}
