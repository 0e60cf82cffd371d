//! The command that prints headers.

use std::{path::Path, process::Stdio, time::Duration};

use mcpool_core::{Error, ErrorKind, Result, Secret};

/// How long a `headers_helper` may take.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

/// How much a `headers_helper` may print.
const HELPER_LIMIT: usize = 1024 * 1024;

/// Runs a shell command that prints a JSON object of headers.
pub(super) async fn run(helper: &str, base: &Path) -> Result<Vec<(String, Secret)>> {
    let fail = |message: String| Error::new(ErrorKind::Unresolved, message);
    let mut command = if cfg!(windows) {
        let mut command = tokio::process::Command::new("cmd");
        command.arg("/C").arg(helper);
        command
    } else {
        let mut command = tokio::process::Command::new("/bin/sh");
        command.arg("-c").arg(helper);
        command
    };
    // A base that is gone must not make a helper fail that does not need it.
    if base.is_dir() {
        command.current_dir(base);
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            fail("the `headers_helper` cannot be started".to_owned()).with_source(error)
        })?;
    let output = tokio::time::timeout(HELPER_TIMEOUT, child.wait_with_output())
        .await
        .map_err(|_| {
            fail(format!(
                "the `headers_helper` took over {} s",
                HELPER_TIMEOUT.as_secs()
            ))
        })?
        .map_err(|error| {
            fail("the `headers_helper` cannot be read".to_owned()).with_source(error)
        })?;
    if !output.status.success() {
        return Err(fail(format!(
            "the `headers_helper` failed: {}",
            output.status
        )));
    }
    if output.stdout.len() > HELPER_LIMIT {
        return Err(fail("the `headers_helper` printed over 1 MiB".to_owned()));
    }
    // The parser's message could quote the output, and with it a secret: it is left out.
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&output.stdout)
        .ok()
        .and_then(|map| {
            map.into_iter()
                .map(|(name, value)| Some((name, Secret::new(value.as_str()?))))
                .collect()
        })
        .ok_or_else(|| {
            fail(
                "the `headers_helper` must print a JSON object of header names and texts"
                    .to_owned(),
            )
        })
}
