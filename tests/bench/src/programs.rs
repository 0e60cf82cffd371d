//! The `mcpool` program that lies beside this one, as a gateway or as a worker.

use std::{
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Outcome, process::Running};

/// How long it may take to serve.
const START: Duration = Duration::from_secs(30);

/// A program that serves. Dropping it kills it.
pub(crate) struct Program {
    process: Running,
    directory: tempfile::TempDir,
}

impl Program {
    /// Starts it with these servers in its config, and waits until it says this, which is given
    /// back with the rest of its line.
    pub(crate) fn start(servers: &Value, args: &[&str], says: &str) -> Outcome<(Self, String)> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("mcp.json");
        std::fs::write(&config, json!({ "mcpServers": servers }).to_string())?;
        let mut program = Self {
            process: Running(
                Command::new(std::env::current_exe()?.with_file_name("mcpool"))
                    .arg("--config")
                    .arg(&config)
                    .args(args)
                    .stdin(Stdio::null())
                    // To a file: a pipe that nobody reads would stop it.
                    .stderr(File::create(directory.path().join("stderr"))?)
                    .spawn()?,
            ),
            directory,
        };
        let line = program.says(says)?;
        Ok((program, line))
    }

    /// A gateway over HTTP, and its origin.
    pub(crate) fn gateway(servers: &Value, more: &[&str]) -> Outcome<(Self, String)> {
        let serve = ["serve", "--listen", "127.0.0.1:0"];
        let args: Vec<&str> = serve.into_iter().chain(more.iter().copied()).collect();
        let (program, line) = Self::start(servers, &args, "serving at ")?;
        let origin = line.strip_prefix("serving at ");
        let origin = origin.and_then(|url| url.strip_suffix("/mcp"));
        let origin = origin.ok_or_else(|| format!("the gateway said {line:?}"))?;
        Ok((program, origin.to_owned()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.0.id()
    }

    fn says(&mut self, words: &str) -> Outcome<String> {
        let began = Instant::now();
        loop {
            let said = std::fs::read_to_string(self.stderr())?;
            // Whole lines.
            let said = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if let Some(line) = said.lines().find(|line| line.starts_with(words)) {
                return Ok(line.to_owned());
            }
            if self.process.0.try_wait()?.is_some() || began.elapsed() > START {
                return Err(format!("mcpool does not serve: {said}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stderr(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }
}

/// This program as a server over stdio, as a config has it.
pub(crate) fn this_as_server() -> Outcome<Value> {
    let this = std::env::current_exe()?;
    Ok(json!({"command": this, "args": ["serve-stdio"]}))
}
