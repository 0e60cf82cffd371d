//! The third-party servers that `cargo xtask servers` installs.

use std::{
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mcpool::{HttpSpec, StdioSpec};
use mcpool_testkit::{eventually, leaks::Marker};

/// Where the servers are.
#[derive(Debug)]
pub struct Servers(PathBuf);

impl Servers {
    /// The servers of this workspace: beside the running test, in `target/servers`.
    #[must_use]
    pub fn here() -> Self {
        Self(mcpool_testkit::machine::servers())
    }

    /// A program of an npm package, or `None` after saying that the test is skipped.
    #[must_use]
    pub fn node(&self, program: &str) -> Option<StdioSpec> {
        let path = self.0.join("node/node_modules/.bin").join(program);
        self.present(program, &path)
    }

    /// A program in a Python environment, or `None` after saying that the test is skipped.
    #[must_use]
    pub fn python(&self, environment: &str, program: &str) -> Option<StdioSpec> {
        let path = self.0.join(environment).join("bin").join(program);
        self.present(&format!("{program} in {environment}"), &path)
    }

    /// Our script on the Python SDK of that environment.
    #[must_use]
    pub fn sdk(&self, environment: &str, args: &[&str]) -> Option<StdioSpec> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/sdk_server.py");
        let python = self.python(environment, "python")?;
        Some(python.with_args([&[script], args].concat()))
    }

    fn present(&self, what: &str, path: &Path) -> Option<StdioSpec> {
        if path.exists() {
            return Some(StdioSpec::new(path.to_string_lossy()));
        }
        crate::skip(what, "not installed; run `cargo xtask servers`");
        None
    }
}

/// A third-party server that listens on a port. Dropping it kills it with its descendants.
#[derive(Debug)]
pub struct HttpServer {
    port: u16,
    child: Child,
    marker: Marker,
}

impl HttpServer {
    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn start(program: &StdioSpec, port: u16) -> Self {
        let marker = Marker::new();
        let (name, value) = marker.env();
        let mut command = Command::new(&program.command);
        command.args(&program.args).env(name, value);
        for (name, value) in &program.env {
            command.env(name, value.expose());
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => panic!("cannot start {}: {error}", program.command),
        };
        let server = Self {
            port,
            child,
            marker,
        };
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let up = eventually(Duration::from_secs(60), listens).await;
        assert!(up, "{} does not listen on {port}", program.command);
        server
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a path of it.
    #[must_use]
    pub fn at(&self, path: &str) -> HttpSpec {
        HttpSpec::new(format!("http://127.0.0.1:{}{path}", self.port))
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.marker.kill();
        let _ = self.child.wait();
    }
}
