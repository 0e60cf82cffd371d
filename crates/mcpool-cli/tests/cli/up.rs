//! `mcpool up`, `mcpool down`, and the commands that use what runs between them.

use std::{
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::support::{Place, Run, good, scripted, until};

/// A place with a runtime directory of its own, whose gateway is ended with it.
struct Home(Place);

impl Home {
    fn with(servers: Value) -> Self {
        let place = Place::with(servers);
        std::fs::create_dir(place.path().join("run")).unwrap();
        Self(place)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.0.command(args);
        command.env("XDG_RUNTIME_DIR", self.0.path().join("run"));
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }

    fn sockets(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.0.path().join("run/mcpool")) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "sock"))
            .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

/// A call is answered, no matter who has the connection.
fn adds(home: &Home) {
    let sum = home.run(&["call", "demo", "add", "a=1", "b=2"]);
    assert_eq!(
        (sum.code(), sum.stdout().trim()),
        (0, "3"),
        "{}",
        sum.stderr()
    );
}

/// The process of the server that a call is answered by.
fn pid(home: &Home, args: &[&str]) -> String {
    let run = home.run(args);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    run.stdout().trim().to_owned()
}

/// A server that answers each call with its own process id. In a config `$$` is one `$`.
fn says_pid() -> Value {
    scripted(
        r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$id" $$$$"#,
    )
}

#[test]
fn of_several_that_start_one_there_is_one_gateway() {
    let home = Home::with(json!({"demo": good()}));
    let begin = |_| {
        let mut command = home.command(&["up"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let all: Vec<_> = (0..8).map(begin).collect();
    let mut started = 0;
    for one in all {
        let done = one.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{stderr}");
        let stdout = String::from_utf8_lossy(&done.stdout);
        started += usize::from(stdout.starts_with("started a gateway, "));
    }
    assert_eq!(started, 1);
    adds(&home);
}

#[test]
fn one_that_ends_is_waited_for() {
    let home = Home::with(json!({"demo": good()}));
    assert_eq!(home.run(&["up"]).code(), 0);
    let lock = home.sockets()[0].with_extension("lock");
    assert_eq!(home.run(&["down"]).code(), 0);
    // As the one that is ending has it until its servers have ended.
    let held = std::fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    let inode = format!(":{} ", held.metadata().unwrap().ino());
    let mut next = home.command(&["up"]).spawn().unwrap();
    until("it waits for the lock, or gives up", || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let waits = |line: &str| line.contains("->") && line.contains(&inode);
        (locks.lines().any(waits) || next.try_wait().unwrap().is_some()).then_some(())
    });
    held.unlock().unwrap();
    assert!(next.wait().unwrap().success());
    adds(&home);
}

#[test]
fn why_it_did_not_start_is_shown_line_by_line() {
    let home = Home::with(json!({"demo": good()}));
    let long = home.0.path().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let up = Run::of(home.command(&["up"]).env("XDG_RUNTIME_DIR", long));
    assert_eq!(up.code(), 2);
    let said = up.stderr();
    assert!(said.contains("did not start:\n"), "{said}");
    assert!(!said.contains("\\n"), "{said}");
}

#[test]
fn a_log_that_grows_is_begun_again_while_the_gateway_runs() {
    let home = Home::with(json!({"demo": good()}));
    let up = home.run(&["up"]);
    assert_eq!(up.code(), 0, "{}", up.stderr());
    let said = up.stdout().to_owned();
    let log = said.lines().find_map(|line| {
        let line = line.strip_prefix("its log is ")?;
        line.split_once(';').map(|(path, _)| PathBuf::from(path))
    });
    let log = log.unwrap_or_else(|| panic!("{said}"));
    let older = log.with_extension("log.1");
    // As if it had said so much.
    let grown = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    grown.set_len(16 * 1024 * 1024 + 1).unwrap();
    until("another log is begun", || {
        let kept = std::fs::metadata(&older).ok()?;
        let fresh = std::fs::metadata(&log).ok()?;
        (kept.len() > 16 * 1024 * 1024 && fresh.len() == 0).then_some(())
    });
    assert_eq!(home.run(&["down"]).code(), 0);
    let last = std::fs::read_to_string(&log).unwrap();
    // With nothing that runs nothing is waited for.
    assert_eq!(last.lines().last(), Some("ending"), "{last}");
}

#[test]
fn a_shell_completes_the_tools_of_a_server_that_a_gateway_has() {
    let home = Home::with(json!({"demo": good()}));
    let config = home.0.path().join("own.json");
    std::fs::rename(home.0.path().join("servers.json"), &config).unwrap();
    let command = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("MCPOOL_CONFIG", &config);
        command
    };
    let complete = |words: &[&str]| {
        let mut command = command(&["--", "mcpool"]);
        command.env("MCPOOL_COMPLETE", "fish").args(words);
        Run::of(&mut command).stdout()
    };
    // Nothing is started to find out.
    assert_eq!(complete(&["call", "demo", "ad"]).trim(), "");
    let up = Run::of(&mut command(&["up"]));
    assert_eq!(up.code(), 0, "{}", up.stderr());
    until("the gateway has the tools", || {
        (complete(&["call", "demo", "ad"]).trim() == "add").then_some(())
    });
    assert_eq!(complete(&["tools", "demo", "ad"]).trim(), "add");
    assert_eq!(complete(&["call", "nobody", "ad"]).trim(), "");
    assert_eq!(Run::of(&mut command(&["down"])).code(), 0);
}

#[test]
fn commands_use_the_connections_of_a_gateway_that_runs() {
    let home = Home::with(json!({"s": says_pid(), "demo": good()}));
    let cold = pid(&home, &["call", "s", "t"]);
    let up = home.run(&["up"]);
    assert_eq!(up.code(), 0, "{}", up.stderr());
    assert!(
        up.stdout().starts_with("started a gateway, process "),
        "{}",
        up.stdout()
    );
    let socket = home.sockets().pop().unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&socket), mode(socket.parent().unwrap())),
        (0o600, 0o700)
    );
    // The first call may find the server on its way, and goes there by itself.
    let warm = until("the gateway has its server", || {
        let one = pid(&home, &["call", "s", "t"]);
        (one == pid(&home, &["call", "s", "t"])).then_some(one)
    });
    assert_ne!(cold, warm);
    assert_ne!(pid(&home, &["call", "s", "t", "--direct"]), warm);
    assert_eq!(pid(&home, &["call", "s", "t"]), warm);
    adds(&home);
    let tools = home.run(&["tools", "demo"]);
    assert!(tools.stdout().contains("add(a: "), "{}", tools.stdout());
    // How the gateway has them, not how the gateway is reached.
    let status: Value = serde_json::from_str(&home.run(&["status", "--json"]).stdout()).unwrap();
    assert_eq!(status["servers"][0]["transport"], "stdio", "{status}");
    let again = home.run(&["up"]);
    assert!(
        again.stdout().contains("runs already"),
        "{}",
        again.stdout()
    );
    let down = home.run(&["down"]);
    assert!(
        down.stdout().contains("has ended"),
        "{}{}",
        down.stdout(),
        down.stderr()
    );
    assert!(home.sockets().is_empty());
    assert!(home.run(&["down"]).stdout().contains("no gateway runs"));
    assert_ne!(pid(&home, &["call", "s", "t"]), warm);
}

#[test]
fn another_config_has_another_gateway_and_a_broken_one_none() {
    let home = Home::with(json!({"demo": good()}));
    assert_eq!(home.run(&["up"]).code(), 0);
    std::fs::write(home.0.path().join("other.json"), r#"{"mcpServers":{}}"#).unwrap();
    let mut down = home.command(&["down"]);
    down.args(["--config", "other.json"]);
    assert!(Run::of(&mut down).stdout().contains("no gateway runs"));
    std::fs::write(home.0.path().join("other.json"), "{").unwrap();
    let mut up = Command::new(crate::support::PROGRAM);
    up.args(["up", "--config", "other.json"])
        .current_dir(home.0.path())
        .env("XDG_RUNTIME_DIR", home.0.path().join("run"))
        .env("XDG_STATE_HOME", home.0.path().join("state"))
        .env("HOME", home.0.path());
    let up = Run::of(&mut up);
    assert_eq!(up.code(), 2, "{}", up.stderr());
    assert_eq!(home.sockets().len(), 1);
    // From anywhere.
    let down = home.run(&["down", "--all"]);
    assert_eq!(
        (down.code(), &*down.stdout()),
        (0, "the gateway has ended\n")
    );
    assert_eq!(home.run(&["down", "--all"]).stdout(), "no gateway runs\n");
}

#[test]
fn an_address_that_a_running_gateway_does_not_serve_is_not_promised() {
    let home = Home::with(json!({"demo": good()}));
    let up = home
        .run(&["up", "--json", "--listen", "127.0.0.1:0"])
        .json(0);
    assert_eq!(up["started"], true);
    let mcp = up["mcp"][0].as_str().unwrap();
    let address = mcp.strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/mcp").unwrap();
    assert_eq!(up["page"], json!([format!("http://{address}/")]));
    assert!(std::net::TcpStream::connect(address).is_ok());
    // The same again is what it is.
    for listen in [address, "127.0.0.1:0"] {
        let again = home.run(&["up", "--json", "--listen", listen]).json(0);
        assert_eq!(
            (&again["started"], &again["pid"]),
            (&json!(false), &up["pid"])
        );
        assert_eq!(again["mcp"], up["mcp"]);
    }
    let other = home.run(&["up", "--listen", "127.0.0.1:1"]);
    assert_eq!(other.code(), 2, "{}", other.stdout());
    let said = other.stderr();
    for words in ["does not listen on 127.0.0.1:1", address, "down` ends it"] {
        assert!(said.contains(words), "{said}");
    }
    let down = home.run(&["down", "--json"]).json(0);
    assert_eq!(down["ended"][0]["pid"], up["pid"]);
    assert_eq!(home.run(&["down", "--json"]).json(0), json!({"ended": []}));
    // One without an address serves its socket alone.
    assert_eq!(home.run(&["up"]).code(), 0);
    let other = home.run(&["up", "--listen", address]);
    assert_eq!(other.code(), 2, "{}", other.stdout());
    assert!(other.stderr().contains("on its socket alone"));
}

#[test]
fn the_log_says_which_servers_do_not_come_up_and_that_a_config_is_not_used() {
    let home = Home::with(json!({
        "bad": {"command": "sh", "args": ["-c", "echo 'Error: TOKEN must be set' >&2; exit 3"]},
    }));
    let up = home.run(&["up", "--json"]).json(0);
    let log = PathBuf::from(up["log"].as_str().unwrap());
    let read = || std::fs::read_to_string(&log).unwrap();
    until("the failure is said", || {
        let said = read();
        let is_said = said.contains("bad could not be connected (attempt 1): ");
        (is_said && said.contains("Error: TOKEN must be set")).then_some(())
    });
    std::fs::write(home.0.path().join("servers.json"), "{").unwrap();
    until("the config is refused", || {
        read()
            .contains("the changed config is not used")
            .then_some(())
    });
}

#[test]
fn what_a_killed_gateway_leaves_is_in_nobodys_way() {
    let home = Home::with(json!({"demo": good()}));
    assert_eq!(home.run(&["up"]).code(), 0);
    let socket = home.sockets().pop().unwrap();
    let again = home.run(&["up"]).stdout();
    let id = again
        .split("process ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    kill(Pid::from_raw(id.unwrap().parse().unwrap()), Signal::SIGKILL).unwrap();
    // Nobody listens there any more: the socket is there, and the commands go without.
    adds(&home);
    assert!(socket.exists());
    let up = home.run(&["up"]);
    assert!(
        up.stdout().starts_with("started a gateway, process "),
        "{}{}",
        up.stdout(),
        up.stderr()
    );
}

#[test]
fn a_gateway_of_another_version_is_named_and_not_used() {
    let home = Home::with(json!({"demo": good()}));
    assert_eq!(home.run(&["up"]).code(), 0);
    let socket = home.sockets().pop().unwrap();
    home.run(&["down"]);
    let listener = UnixListener::bind(&socket).unwrap();
    let other = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut client, _) = listener.accept().unwrap();
        let _ = client.read(&mut [0; 1024]).unwrap();
        let body = r#"{"api":2,"version":"9.9.9","pid":2,"servers":[]}"#;
        write!(client, "HTTP/1.0 200 OK\r\n\r\n{body}").unwrap();
    });
    let sum = home.run(&["call", "demo", "add", "a=1", "b=2"]);
    assert_eq!((sum.code(), sum.stdout().trim()), (0, "3"));
    assert!(sum.stderr().contains("mcpool 9.9.9"), "{}", sum.stderr());
    other.join().unwrap();
}
