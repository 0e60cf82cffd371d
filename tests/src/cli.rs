//! Runs the `mcpool` binary.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use mcpool_testkit::{fixtures::stdio::built_binary, leaks::Marker};
use serde_json::Value;

/// The `mcpool` binary with a config file, and a mark on everything that it starts.
#[derive(Debug)]
pub struct Cli {
    marker: Marker,
    config: PathBuf,
    env: Vec<(&'static str, String)>,
    /// Another program than the one that is tested.
    program: Option<PathBuf>,
}

impl Cli {
    /// With this config, of which each stdio server gets the mark in its `env`.
    ///
    /// # Panics
    /// When the config cannot be written.
    #[must_use]
    pub fn new(mut config: Value) -> Self {
        let marker = Marker::new();
        let (name, value) = marker.env();
        if let Some(servers) = config["mcpServers"].as_object_mut() {
            for server in servers.values_mut() {
                if server.get("command").is_some() {
                    server["env"][name] = Value::from(value.clone());
                }
            }
        }
        let path = marker.dir().join("mcp.json");
        if let Err(error) = std::fs::write(&path, config.to_string()) {
            panic!("cannot write {}: {error}", path.display());
        }
        Self {
            marker,
            config: path,
            env: Vec::new(),
            program: None,
        }
    }

    /// Sets a variable of the program's own.
    #[must_use]
    pub fn with_env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Without a config, in an empty directory.
    #[must_use]
    pub fn without_config() -> Self {
        let marker = Marker::new();
        Self {
            config: PathBuf::new(),
            marker,
            env: Vec::new(),
            program: None,
        }
    }

    /// Runs this program in place of the one that is tested: another build of it.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// What finds every process that was started, the program itself included.
    #[must_use]
    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    /// A directory of the test's own.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.marker.dir()
    }

    fn command(&self, args: &[&str]) -> Command {
        let (name, value) = self.marker.env();
        let program = self.program.as_deref().unwrap_or_else(|| binary());
        let mut command = Command::new(program);
        if !self.config.as_os_str().is_empty() {
            command.arg("--config").arg(&self.config);
        }
        command
            .args(args)
            .current_dir(self.marker.dir())
            .env(name, value)
            .env("XDG_CONFIG_HOME", self.marker.dir())
            .env("XDG_DATA_HOME", self.marker.dir())
            .env("XDG_STATE_HOME", self.marker.dir().join("state"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env_remove("MCPOOL_CONFIG")
            .env_remove("MCPOOL_LOG");
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end in two minutes.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Finished {
        let start = Instant::now();
        let mut running = self.start(args);
        let ended = mcpool_testkit::eventually_blocking(Duration::from_secs(120), || {
            !matches!(running.child.try_wait(), Ok(None))
        });
        assert!(ended, "mcpool {args:?} does not end");
        let took = start.elapsed();
        Finished {
            output: running.finish(),
            took,
        }
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_with(args, Stdio::null())
    }

    /// Starts it with a pipe for its standard input: see [`Running::type_line`].
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_typing(&self, args: &[&str]) -> Running {
        self.start_with(args, Stdio::piped())
    }

    fn start_with(&self, args: &[&str], stdin: Stdio) -> Running {
        // To files: a pipe that nobody reads would stop it.
        let file = |name: &str| {
            let number = {
                use std::sync::atomic::{AtomicU64, Ordering};
                static NEXT: AtomicU64 = AtomicU64::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed)
            };
            self.dir().join(format!("{number}.{name}"))
        };
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let open = |path: &Path| match std::fs::File::create(path) {
            Ok(file) => Stdio::from(file),
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let child = self
            .command(args)
            .stdin(stdin)
            .stdout(open(&stdout))
            .stderr(open(&stderr))
            .spawn();
        match child {
            Ok(child) => Running {
                child,
                stdout,
                stderr,
            },
            Err(error) => panic!("cannot start mcpool: {error}"),
        }
    }
}

/// The program while it runs. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Kills it (SIGKILL), and waits for its end.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn kill(&mut self) {
        let killed = self.child.kill();
        if let Err(error) = killed.and_then(|()| self.child.wait()) {
            panic!("{error}");
        }
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Types a line.
    ///
    /// # Panics
    /// When it was not started with [`Cli::start_typing`], or has gone.
    pub fn type_line(&mut self, line: &str) {
        use std::io::Write;
        let written = match &mut self.child.stdin {
            Some(stdin) => writeln!(stdin, "{line}"),
            None => panic!("its standard input is closed"),
        };
        if let Err(error) = written {
            panic!("it does not read: {error}");
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn finish(&mut self) -> Output {
        match self.child.wait() {
            Ok(status) => Output {
                status,
                stdout: read(&self.stdout).into_bytes(),
                stderr: read(&self.stderr).into_bytes(),
            },
            Err(error) => panic!("{error}"),
        }
    }
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    output: Output,
    /// How long it took.
    pub took: Duration,
}

impl Finished {
    /// Its exit code; `None` when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// Its standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Its standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.output.stdout) {
            Ok(json) => json,
            Err(error) => panic!("no JSON: {error}\n{}{}", self.stdout(), self.stderr()),
        }
    }
}

/// The binary that is tested: `MCPOOL_BIN`, or the one beside the running test, built when it is
/// older than the sources.
fn binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("MCPOOL_BIN") {
            return path.into();
        }
        let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates");
        built_binary("mcpool-cli", "mcpool", Path::new(crates))
    })
}
