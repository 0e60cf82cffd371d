//! Writing a file so that a reader sees the old text or the new one, and nothing between.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Runs a change of a file while no other mcpool process changes one in the same directory.
///
/// The lock lies on the directory: the file itself is replaced, and a lock on it would be lost.
pub(crate) fn locked<T>(path: &Path, change: impl FnOnce() -> T) -> io::Result<T> {
    let folder = folder_of(path);
    #[cfg(unix)]
    let file = File::open(folder)?;
    // A directory cannot be locked there.
    #[cfg(not(unix))]
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(".mcpool.lock"))?;
    let mut lock = fd_lock::RwLock::new(file);
    let guard = lock.write()?;
    let result = change();
    drop(guard);
    Ok(result)
}

/// Replaces a file: a temporary one beside it, readable by the owner only, synced, renamed.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = folder_of(path);
    // Created with mode 0600 on Unix.
    let mut file = tempfile::Builder::new()
        .prefix(".mcpool-")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself must last as well. Not every file system can do this.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The file that a path means: behind symbolic links, so that a link is not replaced by a file.
pub(crate) fn target(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
