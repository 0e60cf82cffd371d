//! The files that `mcpool serve` reads: keys of clients, sealing keys, a certificate. All are
//! followed while it runs.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::LocalBoxFuture;
use mcpool::gateway::{AccessKeys, SealingKeys, Tls};
use mcpool_files::{Holds, read_trusted};
use tokio::time::MissedTickBehavior;

use crate::{
    exit::Failure,
    off_thread::off_thread,
    render::{out, text::Text},
    text,
};

/// The longest file of these.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// How often the files are looked at. Secrets that are mounted into a container change by a
/// symbolic link that is turned, and on some file systems nothing reports it.
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

/// Reads a file. One that is too long is refused: half of it would be other keys.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let bytes = mcpool_files::read_regular(path, MAX_KEY_FILE);
    let bytes = bytes.map_err(|error| not_used(path, &error))?;
    text_in(path, bytes)
}

fn text_in(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| not_used(path, &"it is not text"))
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

/// What is made of files, and the future that puts what is made of each later change in its place.
/// The future never ends.
///
/// # Errors
/// When a file cannot be read, or nothing can be made of them.
pub(super) async fn followed<T, M>(
    paths: Vec<(PathBuf, Holds)>,
    make: M,
    replace: fn(&T, &T),
) -> Result<(T, LocalBoxFuture<'static, ()>), Failure>
where
    T: Clone + 'static,
    M: Fn(&[String]) -> Result<T, Failure> + 'static,
{
    let Texts { texts, warnings } = texts_of(&paths).await?;
    warn(&warnings);
    let made = make(&texts)?;
    let in_use = made.clone();
    let following = async move {
        let mut texts = texts;
        let mut unread = 0_u32;
        let mut ticks = tokio::time::interval(FILES_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let changed = match texts_of(&paths).await {
                Ok(read) => {
                    unread = 0;
                    if read.texts == texts {
                        continue;
                    }
                    warn(&read.warnings);
                    texts = read.texts;
                    make(&texts)
                }
                Err(failure) => {
                    // In the middle of a change a file may be gone, for a moment.
                    unread = unread.saturating_add(1);
                    if unread != 2 {
                        continue;
                    }
                    Err(failure)
                }
            };
            match changed {
                Ok(new) => {
                    replace(&in_use, &new);
                    let file = paths.first().map(|(path, _)| path.display().to_string());
                    tracing::info!(file, "a changed file was read");
                }
                // Somebody has just changed it, and does not look into a log.
                Err(failure) => out::tell(&text!(
                    "warning: {}; what was read before stays in use\n",
                    failure.message()
                )),
            }
        }
    };
    Ok((made, Box::pin(following)))
}

/// One of the texts that were read together.
pub(super) fn text_of(texts: &[String], at: usize) -> &str {
    texts.get(at).map_or("", String::as_str)
}

/// What stands in files that are read together.
#[derive(Default)]
struct Texts {
    texts: Vec<String>,
    /// What their modes should not allow.
    warnings: Vec<Text>,
}

async fn texts_of(paths: &[(PathBuf, Holds)]) -> Result<Texts, Failure> {
    let paths = paths.to_owned();
    off_thread(move || {
        let mut all = Texts::default();
        for (path, holds) in &paths {
            let read = read_trusted(path, MAX_KEY_FILE, *holds);
            let read = read.map_err(|error| not_used(path, &error))?;
            all.texts.push(text_in(path, read.bytes)?);
            let shown = path.display().to_string();
            let warning = read
                .warning
                .map(|why| text!("warning: {}: {}\n", shown, why));
            all.warnings.extend(warning);
        }
        Ok(all)
    })
    .await?
}

fn warn(warnings: &[Text]) {
    for warning in warnings {
        out::tell(warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_file_is_never_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let line = "# a comment\n";
        let fits = usize::try_from(MAX_KEY_FILE).unwrap() / line.len();
        std::fs::write(&path, line.repeat(fits)).unwrap();
        assert!(read(&path).is_ok());
        std::fs::write(&path, line.repeat(fits + 1)).unwrap();
        let refused = read(&path).unwrap_err();
        let said = refused.to_text();
        assert!(
            said.as_str().contains("larger than 64 KiB"),
            "{}",
            said.as_str()
        );
    }
}
