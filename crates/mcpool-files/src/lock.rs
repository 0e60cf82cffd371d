//! One process at a time.
//!
//! The locks lie in a directory of the user's own, not on what they guard: `flock` asks for no
//! more than a readable file, so that any user who can read a project could hold up everybody who
//! edits its configuration.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use etcetera::BaseStrategy as _;
use sha2::{Digest as _, Sha256};

/// The pauses between two looks at a lock that is held. A blocking lock could not be given up.
const POLL_MIN: Duration = Duration::from_millis(2);
const POLL_MAX: Duration = Duration::from_millis(100);

/// How much is read of what a holder says of itself.
const HOLDER_BYTES: u64 = 1024;

/// A directory of locks that only its owner can take.
#[derive(Debug, Clone)]
pub struct Locks {
    directory: PathBuf,
}

/// A lock that is held. Dropping it releases it, and so does the end of the process.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Locks {
    /// Locks in this directory, which is made when the first lock is taken.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The user's own: `mcpool/locks` below `$XDG_STATE_HOME` or `~/.local/state`, below
    /// `%APPDATA%` on Windows.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) when the user has no home directory.
    pub fn of_user() -> io::Result<Self> {
        let base = etcetera::choose_base_strategy().map_err(|_| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "the home directory is not known; set HOME",
            )
        })?;
        let state = base.state_dir().unwrap_or_else(|| base.data_dir());
        Ok(Self::new(state.join("mcpool").join("locks")))
    }

    /// Takes the lock of a path, whether there is a file or not; `None` while another holds it.
    /// The path must be spelled the same by all: see [`resolved`](crate::resolved).
    ///
    /// # Errors
    /// What the system says; [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the
    /// directory belongs to another user.
    pub fn try_lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        make_private(&self.directory)?;
        let path = self.file_of(path);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        loop {
            let file = options.open(&path)?;
            match file.try_lock() {
                // Who held it before removed the file between our opening and our locking.
                Ok(()) if !is_at(&file, &path) => {}
                Ok(()) => {
                    let lock = Lock { file, path };
                    // Who holds it is for messages only.
                    let _ = lock.sign();
                    return Ok(Some(lock));
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Takes the lock of a path, and waits for it at most so long.
    ///
    /// # Errors
    /// As [`try_lock`](Self::try_lock); [`TimedOut`](io::ErrorKind::TimedOut), which names the
    /// process that holds it.
    pub fn lock(&self, path: &Path, patience: Duration) -> io::Result<Lock> {
        let start = Instant::now();
        let mut pause = POLL_MIN;
        loop {
            if let Some(lock) = self.try_lock(path)? {
                return Ok(lock);
            }
            if start.elapsed() >= patience {
                let holder = self.holder(path);
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "{holder} has been changing it for over {} s; try again, or end that process",
                        patience.as_secs()
                    ),
                ));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(POLL_MAX);
        }
    }

    /// Who holds the lock of a path, as far as it says.
    #[must_use]
    pub fn holder(&self, path: &Path) -> String {
        let mut text = String::new();
        let read = File::open(self.file_of(path))
            .and_then(|file| file.take(HOLDER_BYTES).read_to_string(&mut text));
        let mut words = text.split_whitespace();
        match (read, words.next().map(str::parse::<u32>), words.next()) {
            (Ok(_), Some(Ok(pid)), Some(program)) => format!("process {pid} ({program})"),
            _ => "another process".to_owned(),
        }
    }

    fn file_of(&self, path: &Path) -> PathBuf {
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
        self.directory.join(name + ".lock")
    }
}

impl Lock {
    /// Writes down who holds it.
    fn sign(&self) -> io::Result<()> {
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(Path::file_stem);
        let program: String = program
            .map(|name| name.to_string_lossy())
            .unwrap_or_default()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
            .take(64)
            .collect();
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{} {program}", std::process::id())
    }
}

/// Removes the file, so that the directory does not grow, and unlocks explicitly: a child process
/// that was forked meanwhile has the descriptor as well, and closing ours alone would not release
/// the lock.
impl Drop for Lock {
    fn drop(&mut self) {
        // Where an open file cannot be removed it stays, and is used again.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// Whether a file is still the one that lies at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let (ours, there) = (file.metadata().map(id), std::fs::metadata(path).map(id));
    matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
}

/// An open file cannot be removed there.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

/// Makes a directory that is the user's own and nobody else's, and mends one that has been opened
/// to others since.
fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    #[cfg(unix)]
    {
        use std::{
            fs::Permissions,
            os::unix::fs::{MetadataExt as _, PermissionsExt as _},
        };
        let metadata = std::fs::metadata(directory)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} belongs to another user", directory.display()),
            ));
        }
        if metadata.mode() & 0o077 != 0 {
            std::fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_holds_it_and_the_next_learns_who() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::new(folder.path().join("state/locks"));
        let path = Path::new("/etc/mcp.json");
        let held = locks.try_lock(path).unwrap().unwrap();
        assert!(locks.try_lock(path).unwrap().is_none());
        assert!(
            locks
                .try_lock(Path::new("/etc/other.json"))
                .unwrap()
                .is_some()
        );
        let error = locks.lock(path, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let pid = std::process::id();
        assert!(
            error.to_string().starts_with(&format!("process {pid} (")),
            "{error}"
        );
        drop(held);
        locks.lock(path, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_lock_that_is_released_is_taken_by_who_waits() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::new(folder.path());
        let path = Path::new("x");
        let held = locks.try_lock(path).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| locks.lock(path, Duration::from_secs(60)));
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn of_many_one_has_it_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::new(folder.path());
        let path = Path::new("x");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _held = locks.lock(path, Duration::from_secs(60)).unwrap();
                        let before = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(before, 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_gets_at_the_locks() {
        use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/locks");
        let locks = Locks::new(&directory);
        drop(locks.try_lock(Path::new("x")).unwrap());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        let _held = locks.try_lock(Path::new("x")).unwrap().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        let file = std::fs::read_dir(&directory).unwrap().next().unwrap();
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}
