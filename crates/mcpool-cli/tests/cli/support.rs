//! Runs the program on a config in a directory of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// Long enough for a loaded machine; nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mcpool");

/// A server that works: the program's own demo server.
pub(crate) fn good() -> Value {
    json!({"command": PROGRAM, "args": ["demo-server"]})
}

/// A stdio server in `sh` that speaks just enough, and does this on `tools/call`.
pub(crate) fn scripted(on_call: &str) -> Value {
    scripted_life("", on_call, "")
}

/// The same, with what it does before it listens and after the end of its input.
pub(crate) fn scripted_life(birth: &str, on_call: &str, death: &str) -> Value {
    let script = format!(
        r#"{birth}
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s","version":"1"}}}}}}\n' "$id" ;;
    *'"tools/list"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"tools":[{{"name":"t","inputSchema":{{"type":"object"}}}}]}}}}\n' "$id" ;;
    *'"tools/call"'*) {on_call} ;;
    *'"id"'*) printf '{{"jsonrpc":"2.0","id":%s,"error":{{"code":-32601,"message":"no"}}}}\n' "$id" ;;
  esac
done
{death}"#
    );
    json!({"command": "sh", "args": ["-c", script]})
}

/// A directory with a config.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn with(servers: Value) -> Self {
        let place = Self::empty();
        place.write(servers);
        place
    }

    /// Writes the config.
    pub(crate) fn write(&self, servers: Value) {
        let config = json!({ "mcpServers": servers });
        // At once: a program that follows it sees no half of it.
        let written = self.path().join("servers.json.new");
        std::fs::write(&written, config.to_string()).unwrap();
        std::fs::rename(written, self.path().join("servers.json")).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The program with these arguments, in this directory, with no config of the user's.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .current_dir(self.path())
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env("XDG_DATA_HOME", self.path().join("data"))
            .env("XDG_STATE_HOME", self.path().join("state"))
            .env("HOME", self.path())
            .env_remove("MCPOOL_CONFIG")
            .env_remove("MCPOOL_LOG")
            .args(args)
            .stdin(Stdio::null());
        if self.path().join("servers.json").exists() {
            command.args(["--config", "servers.json"]);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// The program under this soft limit of open files.
    pub(crate) fn command_with_open_files(&self, soft: u64, args: &[&str]) -> Command {
        self.command_after(&format!("ulimit -S -n {soft}"), args)
    }

    /// The program as a shell starts it that has done this before.
    pub(crate) fn command_after(&self, before: &str, args: &[&str]) -> Command {
        let plain = self.command(args);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!(r#"{before} && exec "$0" "$@""#)])
            .arg(PROGRAM)
            .args(plain.get_args())
            .current_dir(self.path())
            .stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }

    /// Starts it and gives its lines of standard output as they come.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        self.start_command(self.command(args))
    }

    /// The same for a command that was made by this place.
    pub(crate) fn start_command(&self, mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Running { child, lines }
    }
}

/// What came of a run.
pub(crate) struct Run(Output);

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self(command.output().unwrap())
    }

    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Standard output as one JSON document, after a look at the exit code.
    pub(crate) fn json(&self, code: i32) -> Value {
        assert_eq!(self.code(), code, "{}\n{}", self.stdout(), self.stderr());
        serde_json::from_slice(&self.0.stdout).unwrap()
    }
}

/// The program while it runs. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Waits for a line that satisfies this.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("no such line");
            if wanted(&line) {
                return line;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end and gives the exit code; `None` when a signal killed it.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let status = until("the program ends", || self.child.try_wait().unwrap());
        status.code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls for what no event reports, within [`PATIENCE`].
pub(crate) fn until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "it did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes a server leave a process that nothing ties to it: twice forked, its environment cleared,
/// in a session of its own, deaf. It, and the `sleep` that it waits for, have `$MARK` among their
/// arguments.
pub(crate) const LEAVE_ORPHAN: &str = r#"(env -i setsid sh -c 'trap "" TERM INT HUP; while :; do sleep "$0"; done' "$MARK" </dev/null >/dev/null 2>&1 &)"#;

/// How many processes have this among their arguments.
pub(crate) fn processes_with(argument: &str) -> usize {
    let found = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let mut text = Vec::new();
            std::fs::File::open(entry.path().join("cmdline"))
                .and_then(|mut file| file.read_to_end(&mut text))
                .is_ok_and(|_| {
                    text.split(|byte| *byte == 0)
                        .any(|word| word == argument.as_bytes())
                })
        });
    found.count()
}

/// The names of an object's members, in their order.
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}
