//! Replacing a file in one step.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Replaces a file, or makes it: the text is written beside it, readable by the owner only,
/// synced, and renamed, so that a reader sees the old text or the new one.
///
/// A symbolic link at `path` is replaced by the file: give [`resolved`] to keep it.
///
/// # Errors
/// What the system says; the old file is then still there.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    replace(path, text, None)
}

/// As [`write_private`], but a file that is there already keeps its permissions on Unix: it is
/// another program's, and others may have to read it.
///
/// # Errors
/// As [`write_private`].
pub fn write_keeping_mode(path: &Path, text: &str) -> io::Result<()> {
    let permissions = match std::fs::metadata(path) {
        Ok(metadata) if cfg!(unix) => Some(metadata.permissions()),
        _ => None,
    };
    replace(path, text, permissions)
}

fn replace(path: &Path, text: &str, permissions: Option<Permissions>) -> io::Result<()> {
    let folder = folder_of(path);
    // Created with mode 0600 on Unix.
    let mut file = tempfile::Builder::new()
        .prefix(".mcpool-")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself must last as well. Not every file system can do this.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The file that a path means: absolute, with symbolic links followed; those of its directory
/// only while the file itself is not there.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = std::fs::canonicalize(path) {
        return path;
    }
    let folder = std::fs::canonicalize(folder_of(path));
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
    }
}

/// Where a path lies: absolute, with the symbolic links of its directory followed, and its own
/// name there, whatever a link in its place leads to.
#[must_use]
pub fn located(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => resolved(folder).join(name),
        _ => path,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_stays_one_and_the_file_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (file, link) = (folder.join("file"), folder.join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(resolved(&link), file);
        assert_eq!(resolved(&folder.join("x/../new")), folder.join("x/../new"));
        assert_eq!(resolved(&folder.join("new")), folder.join("new"));
        write_private(&resolved(&link), "new").unwrap();
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "new");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_of_another_program_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (there, new) = (folder.path().join("there"), folder.path().join("new"));
        std::fs::write(&there, "old").unwrap();
        std::fs::set_permissions(&there, Permissions::from_mode(0o664)).unwrap();
        for (file, wanted) in [(&there, 0o664), (&new, 0o600)] {
            write_keeping_mode(file, "new").unwrap();
            let mode = std::fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, wanted, "{}", file.display());
        }
    }
}
