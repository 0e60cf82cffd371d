//! The files that `mcpool serve` reads: keys of clients, sealing keys, a certificate. All are
//! followed while it runs.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mcpool::gateway::{AccessKeys, SealingKeys, Tls};
use tokio::time::MissedTickBehavior;

use crate::{exit::Failure, off_thread::off_thread, render::out, text};

/// The longest file of these.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// How often the files are looked at. Secrets that are mounted into a container change by a
/// symbolic link that is turned, and on some file systems nothing tells of it.
const FILES_PAUSE: Duration = Duration::from_secs(1);

/// The keys of clients.
pub(super) fn access(path: &Path, text: &str) -> Result<AccessKeys, Failure> {
    AccessKeys::read(text).map_err(|error| not_used(path, &error.message()))
}

/// The sealing keys: the first line seals, the others still open.
pub(super) fn sealing(path: &Path, text: &str) -> Result<SealingKeys, Failure> {
    let failed = |why: &dyn std::fmt::Display| not_used(path, why);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let keys = SealingKeys::from_text(lines.next().unwrap_or_default());
    let keys = keys.map_err(|error| failed(&error.message()))?;
    lines
        .try_fold(keys, |keys, older| keys.with_older(older))
        .map_err(|error| failed(&error.message()))
}

/// The certificate and its key.
pub(super) fn tls(path: &Path, chain: &str, key: &str) -> Result<Tls, Failure> {
    Tls::from_pem(chain.as_bytes(), key.as_bytes())
        .map_err(|error| not_used(path, &error.message()))
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE).read_to_string(&mut text))
        .map_err(|error| not_used(path, &error))?;
    Ok(text)
}

/// A file that is written at its end, the user's alone when it is made.
pub(super) fn private(path: &Path) -> Result<std::fs::File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| not_used(path, &error))
}

/// A file that cannot be used.
pub(super) fn not_used(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(text!("{}: {}", path.display().to_string(), why.to_string()))
}

/// Files that belong together, as they were last read.
pub(super) struct Followed {
    paths: Vec<PathBuf>,
    texts: Vec<String>,
}

impl Followed {
    /// Reads them.
    pub(super) async fn read(paths: Vec<PathBuf>) -> Result<Self, Failure> {
        let (paths, texts) = off_thread(move || {
            let texts = read_all(&paths);
            (paths, texts)
        })
        .await?;
        Ok(Self {
            paths,
            texts: texts?,
        })
    }

    /// The text of one of them.
    pub(super) fn text(&self, at: usize) -> &str {
        self.texts.get(at).map_or("", String::as_str)
    }

    /// Gives them to `take` whenever they have changed. What cannot be used is told, and what is
    /// in use stays. Never ends.
    pub(super) async fn follow(mut self, take: impl Fn(&Self) -> Result<(), Failure>) {
        let mut ticks = tokio::time::interval(FILES_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let paths = self.paths.clone();
            let Ok(read) = off_thread(move || read_all(&paths)).await else {
                continue;
            };
            // In the middle of a change a file may be gone.
            let Ok(texts) = read else { continue };
            if texts == self.texts {
                continue;
            }
            self.texts = texts;
            match take(&self) {
                Ok(()) => {
                    let file = self.paths.first().map(|path| path.display().to_string());
                    tracing::info!(file, "a changed file was read");
                }
                // Somebody has just changed it, and does not look into a log.
                Err(failure) => out::tell(&text!(
                    "warning: {}; what was read before stays in use\n",
                    failure.message()
                )),
            }
        }
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
    paths.iter().map(|path| read(path)).collect()
}
