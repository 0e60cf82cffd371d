//! The log of a gateway in the background: its standard error, in a file that does not grow for
//! ever. What was written before is in one more file, beside it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use crate::{off_thread::off_thread, pool, render::out};

/// Bytes of the log from which on another one is begun. Between two looks it may grow past them.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// How often it is looked at.
const LOG_PAUSE: Duration = Duration::from_secs(5);

/// Bytes of the end of the log that are shown when the gateway did not start.
const MAX_LOG_SHOWN: u64 = 4 * 1024;

/// Where the log of the gateway at this socket is.
pub(super) fn path_of(socket: &Path) -> io::Result<PathBuf> {
    let name = socket.file_stem().unwrap_or_default().to_string_lossy();
    Ok(pool::state()?.join(format!("gateway-{name}.log")))
}

/// Begins a log, the user's alone. The one before it stays beside it.
pub(super) fn begin(log: &Path) -> io::Result<File> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::rename(log, log.with_extension("log.1")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600).open(log)
}

/// The end of a log.
pub(super) fn tail(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let from = file.metadata()?.len().saturating_sub(MAX_LOG_SHOWN);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(MAX_LOG_SHOWN).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Keeps the log small, if it is what this process writes its standard error to. Never ends.
pub(super) async fn keep_small(log: PathBuf) {
    let mut ticks = tokio::time::interval(LOG_PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let log = log.clone();
        let turned = off_thread(move || {
            let written = out::file_of_stderr()?;
            match turned(&written, &log, MAX_LOG_BYTES)? {
                Some(next) => nix::unistd::dup2_stderr(next).map_err(io::Error::from),
                None => Ok(()),
            }
        });
        if let Ok(Err(error)) = turned.await {
            tracing::warn!(%error, "the log is too long, and no other one can be begun");
        }
    }
}

/// The log to write from now on, when the one that is written has become too long.
fn turned(written: &File, log: &Path, limit: u64) -> io::Result<Option<File>> {
    let (ours, named) = (written.metadata()?, std::fs::metadata(log)?);
    let is_log = (ours.dev(), ours.ino()) == (named.dev(), named.ino());
    if !is_log || ours.len() <= limit {
        return Ok(None);
    }
    begin(log).map(Some)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_that_is_too_long_is_put_aside_and_one_older_goes() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("state/gateway.log");
        let mut file = begin(&log).unwrap();
        for line in ["one\n", "two\n", "three\n"] {
            assert!(turned(&file, &log, 4).unwrap().is_none());
            file.write_all(line.as_bytes()).unwrap();
            file.write_all(line.as_bytes()).unwrap();
            file = turned(&file, &log, 4).unwrap().unwrap();
        }
        file.write_all(b"four\n").unwrap();
        assert_eq!(tail(&log).unwrap(), "four\n");
        assert_eq!(
            tail(&log.with_extension("log.1")).unwrap(),
            "three\nthree\n"
        );
        assert_eq!(std::fs::read_dir(log.parent().unwrap()).unwrap().count(), 2);
        // What is written elsewhere is no business of the log's.
        let mut other = File::create(folder.path().join("other")).unwrap();
        other.write_all(b"much of it\n").unwrap();
        assert!(turned(&other, &log, 4).unwrap().is_none());
    }
}
