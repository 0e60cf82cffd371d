//! Reading what decides who may do what: keys, certificates. Anybody who can change such a file
//! decides it as well.

use std::{fs::Metadata, io, path::Path};

use crate::read::{open_regular, read_stream};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Secrets, in plain text.
    Secrets,
    /// What others may read but not change: hashes of keys, certificates.
    Rules,
}

/// The content of a file that nobody else can change, as far as its owner and its mode say.
#[derive(Debug)]
pub struct Trusted {
    /// The content.
    pub bytes: Vec<u8>,
    /// What its mode allows that it should not, and the command that ends it: its group may change
    /// it, or any user may read its secrets.
    pub warning: Option<String>,
}

/// Reads a regular file as [`read_regular`](crate::read_regular) does, unless others may change it.
///
/// That a group may change a file, or any user read one with secrets, is a warning: it is usual
/// where files are mounted into containers. Without modes, as on Windows, nothing is looked at.
///
/// # Errors
/// As `read_regular`; [`PermissionDenied`](io::ErrorKind::PermissionDenied) with the command to run
/// when any user may change it, or when it belongs to a user that is neither this one nor root.
/// Root may read the files of all.
pub fn read_trusted(path: &Path, limit: u64, holds: Holds) -> io::Result<Trusted> {
    let (file, metadata) = open_regular(path, limit)?;
    let warning = check(path, &metadata, holds)?;
    Ok(Trusted {
        bytes: read_stream(file, limit)?,
        warning,
    })
}

#[cfg(unix)]
fn check(path: &Path, metadata: &Metadata, holds: Holds) -> io::Result<Option<String>> {
    use std::os::unix::fs::MetadataExt as _;

    let refused = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let path = path.display();
    let (owner, user) = (metadata.uid(), rustix::process::geteuid());
    if ![0, user.as_raw()].contains(&owner) && !user.is_root() {
        return refused(format!(
            "it belongs to another user (uid {owner}), who may change it: run `chown {} {path}` as \
             root, or use a copy",
            user.as_raw()
        ));
    }
    let mode = metadata.mode() & 0o777;
    let secret = holds == Holds::Secrets;
    if mode & 0o002 != 0 {
        let wanted = if secret { "600" } else { "go-w" };
        return refused(format!(
            "any user may change it (mode {mode:04o}): check what it holds, and run \
             `chmod {wanted} {path}`"
        ));
    }
    Ok(if secret && mode & 0o004 != 0 {
        Some(format!(
            "any user may read its secrets (mode {mode:04o}): run `chmod o-r {path}`"
        ))
    } else if mode & 0o020 != 0 {
        Some(format!(
            "its group may change it (mode {mode:04o}): run `chmod g-w {path}`"
        ))
    } else {
        None
    })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "there are no modes")]
fn check(_: &Path, _: &Metadata, _: Holds) -> io::Result<Option<String>> {
    Ok(None)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn what_any_user_may_change_is_refused_with_the_command_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "canary").unwrap();
        let with = |mode, holds| {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            read_trusted(&path, 10, holds)
        };
        for (mode, holds, run) in [
            (0o666, Holds::Rules, "chmod go-w"),
            (0o602, Holds::Secrets, "chmod 600"),
        ] {
            let error = with(mode, holds).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            let help = format!("`{run} {}`", path.display());
            assert!(error.to_string().contains(&help), "{error}");
        }
        for (mode, holds, run) in [
            (0o600, Holds::Secrets, None),
            (0o440, Holds::Secrets, None),
            (0o644, Holds::Rules, None),
            (0o644, Holds::Secrets, Some("chmod o-r")),
            (0o660, Holds::Rules, Some("chmod g-w")),
        ] {
            let read = with(mode, holds).unwrap();
            assert_eq!(read.bytes, b"canary");
            let said = read.warning.as_deref();
            assert_eq!(said.is_some(), run.is_some(), "{mode:o}: {said:?}");
            assert!(said.unwrap_or_default().contains(run.unwrap_or_default()));
        }
    }
}
