//! The command that prints headers.

use std::{path::Path, process::Stdio, time::Duration};

use mcpool_core::{Error, ErrorKind, Result, Secret};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

/// How long a `headers_helper` may take.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

/// How much a `headers_helper` may print.
const HELPER_LIMIT: usize = 1024 * 1024;

/// Runs a shell command that prints a JSON object of headers. Dropping the future ends the
/// command and what it started.
pub(super) async fn run(helper: &str, base: &Path) -> Result<Vec<(String, Secret)>> {
    let output = tokio::time::timeout(HELPER_TIMEOUT, output(helper, base))
        .await
        .map_err(|_| {
            failed(&format!(
                "the `headers_helper` took over {} s",
                HELPER_TIMEOUT.as_secs()
            ))
        })??;
    // The parser's message could quote the output, and with it a secret: it is left out.
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&output)
        .ok()
        .and_then(|map| {
            map.into_iter()
                .map(|(name, value)| Some((name, Secret::new(value.as_str()?))))
                .collect()
        })
        .ok_or_else(|| {
            failed("the `headers_helper` must print a JSON object of header names and texts")
        })
}

/// What the command prints, when it ends well.
async fn output(helper: &str, base: &Path) -> Result<Vec<u8>> {
    let mut running =
        Running(command(helper, base).spawn().map_err(|error| {
            failed("the `headers_helper` cannot be started").with_source(error)
        })?);
    let unread =
        |error: std::io::Error| failed("the `headers_helper` cannot be read").with_source(error);
    let Some(stdout) = running.0.stdout.take() else {
        return Err(failed("the `headers_helper` has no output"));
    };
    let output = bounded(stdout, HELPER_LIMIT).await.map_err(unread)?;
    let Some(output) = output else {
        return Err(failed("the `headers_helper` printed over 1 MiB"));
    };
    let status = running.0.wait().await.map_err(unread)?;
    if !status.success() {
        return Err(failed(&format!("the `headers_helper` failed: {status}")));
    }
    Ok(output)
}

/// Reads to the end; `None` as soon as there is more than the limit.
async fn bounded(reader: impl AsyncRead + Unpin, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // One more than the limit, to see that there is more.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut bytes).await?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

fn command(helper: &str, base: &Path) -> Command {
    let mut command = if cfg!(windows) {
        let mut command = Command::new("cmd");
        command.arg("/C").arg(helper);
        command
    } else {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(helper);
        command
    };
    // A base that is gone must not make a helper fail that does not need it.
    if base.is_dir() {
        command.current_dir(base);
    }
    #[cfg(unix)]
    command.process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// The shell while it runs. What it started ends with it.
struct Running(Child);

#[cfg(unix)]
impl Drop for Running {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        // `None` once it was waited for: the number may be another's by then.
        let group = self
            .0
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn failed(message: &str) -> Error {
    Error::new(ErrorKind::Unresolved, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn what_has_no_end_is_read_up_to_the_bound() {
        assert_eq!(bounded(tokio::io::repeat(b'x'), 10).await.unwrap(), None);
        assert_eq!(
            bounded(&b"ab"[..], 2).await.unwrap().as_deref(),
            Some(&b"ab"[..])
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_helper_that_prints_for_ever_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo $$ > pid; yes";
        let error = run(script, folder.path()).await.unwrap_err();
        assert!(error.message().contains("over 1 MiB"), "{error}");
        // The group is gone with the shell: `yes` does not go on without it.
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        while rustix::process::test_kill_process_group(pid).is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
