//! Programs that run beside a check: servers, and gateways in front of them.

use std::{
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{
    Outcome,
    tools::{self, cargo, target},
};

/// A process that ends with this.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds `mcpool` with the features of the other checks, so that nothing is built twice.
pub(crate) fn build() -> Outcome {
    let build = ["build", "--quiet", "--locked", "--workspace"];
    tools::run(cargo(build).args(["--all-features", "--bin", "mcpool"]))
}

/// A program of the workspace, as the tests build it.
pub(crate) fn binary(name: &str) -> PathBuf {
    target()
        .join("debug")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// The first line that a process writes. What it writes later is read and dropped.
pub(crate) fn first_line(
    stream: Option<impl Read + Send + 'static>,
    whose: &str,
) -> Outcome<String> {
    let mut lines = BufReader::new(stream.ok_or("a process without a stream")?).lines();
    let line = lines
        .next()
        .ok_or_else(|| format!("{whose} ended at once"))?
        .map_err(|error| format!("{whose}: {error}"))?;
    thread::spawn(move || lines.for_each(drop));
    Ok(line)
}

/// A gateway over HTTP, and its address without the path.
pub(crate) fn gateway(config: &Path, args: &[&str]) -> Outcome<(Running, String)> {
    let mut gateway = Command::new(binary("mcpool"))
        .arg("--config")
        .arg(config)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the gateway: {error}"))?;
    let said = first_line(gateway.stderr.take(), "the gateway")?;
    let running = Running(gateway);
    let address = said
        .strip_prefix("serving at ")
        .and_then(|pool| pool.strip_suffix("/mcp"))
        .ok_or_else(|| format!("the gateway said {said:?}"))?;
    Ok((running, address.to_owned()))
}
