//! The `mcpool-fixture` process misbehaves as its options say.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use mcpool_testkit::{
    Behavior, DiscoverReaction, Era, eventually_blocking, fixtures::stdio, leaks::Marker,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    marker: Marker,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.marker.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(change: impl FnOnce(&mut Behavior)) -> Self {
        let marker = Marker::new();
        let behavior = Behavior::new().with(|behavior| {
            behavior.pid_dir = Some(marker.dir().to_string_lossy().into_owned());
            change(behavior);
        });
        let (name, value) = marker.env();
        let mut child = Command::new(stdio::fixture_path())
            .args(behavior.to_args())
            .env(name, value)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
            marker,
        }
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stdout.read_until(b'\n', &mut line).unwrap();
        line
    }

    /// The next line that is JSON with `jsonrpc`.
    fn hear(&mut self) -> Value {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the server has ended");
            match serde_json::from_slice::<Value>(&line) {
                Ok(message) if message["jsonrpc"] == "2.0" => return message,
                _ => {}
            }
        }
    }

    fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        self.hear()
    }

    fn call(&mut self, id: u64, tool: &str, arguments: Value) -> Value {
        self.ask(
            id,
            "tools/call",
            json!({"name": tool, "arguments": arguments}),
        )
    }

    fn tools(&mut self, cursor: Option<&str>) -> Value {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
        self.ask(9, "tools/list", params)["result"].clone()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn processes(&self) -> usize {
        self.marker.processes().len()
    }
}

fn modern() -> Value {
    json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }})
}

#[test]
fn legacy_and_modern() {
    let mut server = Server::start(|_| {});
    let hello = server.ask(1, "initialize", json!({"protocolVersion": "2025-06-18"}));
    assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
    let refused = server.ask(2, "server/discover", modern());
    assert_eq!(refused["error"]["code"], -32601);
    let echoed = server.call(3, "echo", json!({"message": "hi"}));
    assert_eq!(echoed["result"]["content"][0]["text"], "hi");

    let mut server = Server::start(|b| b.era = Era::Both);
    let found = server.ask(1, "server/discover", modern());
    assert_eq!(found["result"]["supportedVersions"][0], "2026-07-28");
    assert_eq!(found["result"]["resultType"], "complete");
    assert!(server.ask(2, "initialize", json!({}))["result"].is_object());

    let mut server = Server::start(|b| b.era = Era::Modern);
    let refused = server.ask(1, "initialize", json!({"protocolVersion": "2025-11-25"}));
    assert_eq!(refused["error"]["code"], -32022);
    assert_eq!(server.ask(2, "ping", modern())["error"]["code"], -32601);
}

#[test]
fn reactions_to_discover() {
    let mut poisoned = Server::start(|b| b.discover = DiscoverReaction::Poisoned);
    poisoned.ask(1, "server/discover", modern());
    assert!(poisoned.ask(2, "initialize", json!({}))["error"].is_object());

    let mut silent = Server::start(|b| b.discover = DiscoverReaction::Silent);
    silent.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover"}));
    assert_eq!(silent.ask(2, "initialize", json!({}))["id"], 2);

    let mut exits = Server::start(|b| b.discover = DiscoverReaction::Exit);
    exits.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover"}));
    assert_eq!(exits.child.wait().unwrap().code(), Some(1));

    let mut mute = Server::start(|b| b.mute_after_initialize = true);
    mute.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    assert_eq!(mute.ask(2, "initialize", json!({}))["id"], 2);

    let mut wrong = Server::start(|b| b.protocol_version = Some("1999-01-01".into()));
    let hello = wrong.ask(1, "initialize", json!({"protocolVersion": "2025-11-25"}));
    assert_eq!(hello["result"]["protocolVersion"], "1999-01-01");
}

#[test]
fn bytes_on_stdout() {
    let mut server = Server::start(|b| {
        b.noise = true;
        b.crlf = true;
        b.split_ms = 5;
        b.string_ids = true;
        b.answer_twice = true;
    });
    server.say(&json!({"jsonrpc": "2.0", "id": 5, "method": "ping"}));
    let lines: Vec<_> = (0..6).map(|_| server.line()).collect();
    assert!(lines.iter().any(|line| std::str::from_utf8(line).is_err()));
    assert!(lines.iter().any(|line| line.as_slice() == b"\r\n"));
    assert!(lines[5].ends_with(b"}\r\n"));
    let answer: Value = serde_json::from_slice(&lines[5]).unwrap();
    assert_eq!(answer["id"], "5");
    assert_eq!(server.hear(), answer, "answered twice");
}

#[test]
fn lists() {
    let mut server = Server::start(|b| {
        b.bad_schemas = true;
        b.duplicate_tools = true;
        b.extra_tools = 3;
    });
    let listed = server.tools(None);
    let tools = listed["tools"].as_array().unwrap();
    let named = |name: &str| tools.iter().filter(|tool| tool["name"] == name).count();
    assert_eq!(named("echo"), 2);
    assert_eq!(named("tool_2"), 1);
    let schema = |name: &str| {
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        tool.get("inputSchema").cloned()
    };
    assert_eq!(schema("bad_missing"), None);
    assert_eq!(schema("bad_null"), Some(Value::Null));
    assert!(schema("bad_array").unwrap().is_array());
    assert!(schema("bad_boolean").unwrap().is_boolean());

    let mut endless = Server::start(|b| b.repeat_cursor = true);
    assert_eq!(endless.tools(None)["nextCursor"], "again");
    assert_eq!(endless.tools(Some("again"))["nextCursor"], "again");

    let mut paged = Server::start(|b| {
        b.pages = 500;
        b.extra_tools = 980;
        b.empty_cursor = true;
    });
    let (mut cursor, mut pages, mut count) = (None::<String>, 0, 0);
    loop {
        let page = paged.tools(cursor.as_deref());
        pages += 1;
        count += page["tools"].as_array().unwrap().len();
        match page["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!((pages, count), (500, 1000));
}

#[test]
fn calls_that_go_wrong() {
    let effects = tempfile();
    let mut server = Server::start(|b| {
        b.hang_on_call = Some(1);
        b.crash_on_call = Some(3);
        b.list_changed_after_call = true;
        b.effects_file = Some(effects.clone());
    });
    server.say(&json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"},
    }));
    let changed = server.call(2, "count", json!({"key": "k"}));
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    assert_eq!(server.hear()["id"], 2);
    server.say(&json!({
        "jsonrpc": "2.0", "id": 3, "method": "tools/call",
        "params": {"name": "count", "arguments": {"key": "k"}},
    }));
    assert_eq!(server.line(), b"", "it died without an answer");
    assert!(!server.child.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(&effects).unwrap(), "k\n");
    std::fs::remove_file(effects).unwrap();

    let mut busy = Server::start(|b| b.one_call_at_a_time = true);
    let hang = json!({"name": "hang"});
    busy.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": hang}));
    assert!(busy.call(2, "echo", json!({}))["error"].is_object());
    let cancelled = json!({"requestId": 1});
    busy.say(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled,
    }));
    // Busy until the cancelled call has gone.
    let state = (3..)
        .map(|id| busy.call(id, "state", json!({})))
        .find(|answer| answer.get("error").is_none())
        .unwrap();
    assert_eq!(state["result"]["structuredContent"]["cancelled"], 1);
}

fn tempfile() -> String {
    let name = format!("mcpool-effects-{}", std::process::id());
    std::env::temp_dir()
        .join(name)
        .to_string_lossy()
        .into_owned()
}

#[test]
fn progress_pings_and_questions() {
    let mut server = Server::start(|b| b.ping_every_ms = 50);
    assert_eq!(server.hear()["method"], "ping");

    let mut server = Server::start(|_| {});
    let slow = json!({
        "name": "slow",
        "arguments": {"steps": 3, "step_ms": 1},
        "_meta": {"progressToken": "t"},
    });
    let first = server.ask(1, "tools/call", slow);
    assert_eq!(first["params"]["progressToken"], "t");
    assert_eq!(server.hear()["params"]["progress"], 2);
    assert_eq!(server.hear()["params"]["progress"], 3);
    assert_eq!(server.hear()["id"], 1);
    let asked = server.call(2, "ask", json!({"method": "roots/list"}));
    assert_eq!(asked["method"], "roots/list");
    server.say(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}}));
    let answer = server.hear();
    assert!(answer["result"]["structuredContent"]["result"]["roots"].is_array());
}

#[test]
fn starts_that_go_wrong() {
    let mut server = Server::start(|b| b.exit_at_start = Some(1));
    let mut stderr = String::new();
    let mut pipe = server.child.stderr.take().unwrap();
    pipe.read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("usage:"));
    assert_eq!(server.child.wait().unwrap().code(), Some(1));

    let mut garbage = Server::start(|b| b.garbage_only = true);
    for _ in 0..4 {
        let line = garbage.line();
        let message = serde_json::from_slice::<Value>(&line).unwrap_or_default();
        assert!(!line.is_empty() && message.get("jsonrpc").is_none());
    }

    // It blocks until its stderr is read: that is what the behaviour is for.
    let mut noisy = Server::start(|b| b.startup_stderr_bytes = 4 * 1024 * 1024);
    let mut pipe = noisy.child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || pipe.read_to_end(&mut Vec::new()).unwrap());
    assert_eq!(noisy.ask(1, "ping", json!({}))["id"], 1);
    noisy.stdin = None;
    assert!(reader.join().unwrap() >= 4 * 1024 * 1024);
}

#[test]
fn ends_that_go_wrong() {
    let mut good = Server::start(|_| {});
    good.ask(1, "ping", json!({}));
    good.stdin = None;
    assert_eq!(good.child.wait().unwrap().code(), Some(0));

    let mut stubborn = Server::start(|b| {
        b.ignore_eof = true;
        b.ignore_sigterm = true;
        b.detached_child = true;
    });
    stubborn.ask(1, "ping", json!({}));
    assert!(eventually_blocking(LONG, || stubborn.processes() == 2));
    stubborn.stdin = None;
    kill(stubborn.pid(), Signal::SIGTERM).unwrap();
    let gone = eventually_blocking(Duration::from_millis(300), || stubborn.processes() < 2);
    assert!(!gone, "neither the end of stdin nor SIGTERM ends it");
    stubborn.marker.kill();
    assert!(eventually_blocking(LONG, || stubborn.processes() == 0));

    let mut wrapped = Server::start(|b| {
        b.wrapper = true;
        b.ignore_eof = true;
    });
    wrapped.ask(1, "ping", json!({}));
    assert_eq!(wrapped.processes(), 2);
    kill(wrapped.pid(), Signal::SIGTERM).unwrap();
    wrapped.child.wait().unwrap();
    assert_eq!(wrapped.processes(), 1, "the launcher passes no signal on");
}

#[test]
fn multi_round_trips_and_listen() {
    let mut server = Server::start(|b| b.era = Era::Modern);
    let mut params = modern();
    params["name"] = json!("need_input");
    params["arguments"] = json!({"rounds": 1});
    let first = server.ask(1, "tools/call", params.clone());
    assert_eq!(first["result"]["resultType"], "input_required");
    params["requestState"] = first["result"]["requestState"].clone();
    params["inputResponses"] = json!({"roots": {"roots": []}});
    let second = server.ask(2, "tools/call", params);
    assert_eq!(second["result"]["resultType"], "complete");

    let mut listen = modern();
    listen["notifications"] = json!({"toolsListChanged": true});
    let heard = server.ask(3, "subscriptions/listen", listen);
    assert_eq!(heard["method"], "notifications/subscriptions/acknowledged");
    let mut add = modern();
    add["name"] = json!("add_tool");
    let changed = server.ask(4, "tools/call", add);
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    let meta = &changed["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/subscriptionId"], 3);
}
