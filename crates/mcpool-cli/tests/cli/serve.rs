//! `mcpool serve`

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    process::{Child, Stdio},
    sync::mpsc,
};

use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    support::{PATIENCE, Place, Run, good, processes_with, scripted, scripted_life, until},
    transcript::closed_port,
};

#[test]
fn a_gateway_is_not_started_by_its_own_server() {
    let place = Place::with(json!({}));
    let said = place.path().join("said");
    let script = format!(
        "printenv MCPOOL_WITHIN > '{0}.new'; mv '{0}.new' '{0}'; exec cat",
        said.display()
    );
    let config = json!({"mcpServers": {"inner": {"command": "sh", "args": ["-c", script]}}});
    std::fs::write(place.path().join("servers.json"), config.to_string()).unwrap();
    let serve = |place: &Place| {
        let mut command = place.command(&["serve", "--stdio"]);
        command.stdin(Stdio::null());
        command
    };
    let mut outer = serve(&place).stdin(Stdio::piped()).spawn().unwrap();
    let within = until("its server is started", || {
        std::fs::read_to_string(&said).ok()
    });
    drop(outer.stdin.take());
    outer.wait().unwrap();
    let inner = Run::of(serve(&place).env("MCPOOL_WITHIN", within.trim()));
    assert_eq!(inner.code(), 2, "{}", inner.stderr());
    assert!(
        inner.stderr().contains("of its own config"),
        "{}",
        inner.stderr()
    );
    // One of another config may be behind it.
    let other = Place::with(json!({}));
    let behind = Run::of(serve(&other).env("MCPOOL_WITHIN", within.trim()));
    assert_eq!(behind.code(), 0, "{}", behind.stderr());
}

#[test]
fn a_client_at_standard_input_is_served() {
    let place = Place::with(json!({"demo": good()}));
    let mut command = place.command(&["serve", "--stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut write = child.stdin.take().unwrap();
    let mut read = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |id: u64, method: &str, params: Value| -> Value {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(write, "{request}").unwrap();
        // Its server's tools may come meanwhile, and that is announced.
        let lines = read.by_ref().map(|line| line.unwrap());
        let answer: Value = lines
            .map(|line| serde_json::from_str::<Value>(&line).unwrap())
            .find(|message| message.get("method").is_none())
            .unwrap();
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"].clone()
    };
    let begun = ask(
        1,
        "initialize",
        json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"}}),
    );
    assert_eq!(begun["serverInfo"]["name"], "mcpool");
    // It waits for its server, however long that takes to start.
    let sum = ask(
        2,
        "tools/call",
        json!({"name": "demo__add", "arguments": {"a": 1, "b": 2}}),
    );
    assert_eq!(sum["content"][0]["text"], "3", "{sum}");
    drop(write);
    assert!(child.wait().unwrap().success());
}

#[test]
fn other_machines_are_served_with_keys_alone() {
    let place = Place::with(json!({}));
    let run = place.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("--keys"), "{}", run.stderr());
    std::fs::write(place.path().join("keys"), "# none yet\n").unwrap();
    let run = place.run(&["serve", "--listen", "0.0.0.0:0", "--keys", "keys"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("key add"), "{}", run.stderr());
}

#[test]
fn a_key_is_shown_once_kept_as_its_hash_and_taken_away() {
    let place = Place::empty();
    let run = place.run(&[
        "serve",
        "key",
        "add",
        "ada",
        "--profile",
        "p",
        "--rate",
        "5",
    ]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let key = run.stdout().trim().to_owned();
    assert!(key.starts_with("mcpool_"), "{key}");
    let file = place.path().join("config/mcpool/gateway-keys");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(
        kept.starts_with("ada sha256:") && kept.ends_with(" profile=p rate=5\n"),
        "{kept}"
    );
    assert!(!kept.contains(&key));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // By hand, without a line break at its end.
    std::fs::write(&file, format!("# ours\n{}", kept.trim_end())).unwrap();
    let run = place.run(&[
        "serve",
        "key",
        "add",
        "bob",
        "--expires",
        "2020-01-01T00:00:00Z",
    ]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let listed = place.run(&["serve", "key", "list"]).stdout();
    assert!(listed.contains("profile=p rate=5"), "{listed}");
    assert!(listed.contains("(expired)"), "{listed}");
    let run = place.run(&["serve", "key", "remove", "eve"]);
    assert_eq!(run.code(), 2);
    let run = place.run(&["serve", "key", "remove", "ada"]);
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let left = std::fs::read_to_string(&file).unwrap();
    assert!(left.starts_with("# ours\nbob sha256:"), "{left}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // A second key of one name is made when that is meant.
    let add = |more: &[&str]| place.run(&[&["serve", "key", "add", "bob"], more].concat());
    let refused = add(&[]);
    assert_eq!(refused.code(), 2, "{}", refused.stdout());
    assert!(
        refused.stderr().contains("--another"),
        "{}",
        refused.stderr()
    );
    assert_eq!(add(&["--another"]).code(), 0);
    let keys = place.run(&["serve", "key", "list", "--json"]).json(0);
    assert_eq!(
        keys["keys"],
        json!([
            {"name": "bob", "profile": null, "allows": "expires=2020-01-01T00:00:00Z",
                "expires_at": "2020-01-01T00:00:00Z", "expired": true},
            {"name": "bob", "profile": null, "allows": "everything", "expires_at": null,
                "expired": false},
        ])
    );
    let removed = place
        .run(&["serve", "key", "remove", "bob", "--json"])
        .json(0);
    assert_eq!(removed["removed"], 2);
    // A profile that does not exist gives nothing.
    let place = Place::with(json!({}));
    let config = json!({"mcpServers": {}, "profiles": {"p": {}}});
    std::fs::write(place.path().join("servers.json"), config.to_string()).unwrap();
    for (profile, is_known) in [("p", true), ("nope", false)] {
        let run = place.run(&["serve", "key", "add", profile, "--profile", profile]);
        assert_eq!(run.code(), 0);
        let warned = run.stderr().contains("the config has no profile");
        assert_eq!(warned, !is_known, "{}", run.stderr());
    }
    let run = place.run(&["serve", "key", "add", "two words"]);
    assert_eq!(run.code(), 2);
}

/// Ends a program by SIGTERM; its exit code.
fn terminated(child: &mut Child) -> Option<i32> {
    let id = Pid::from_raw(child.id().try_into().unwrap());
    kill(id, Signal::SIGTERM).unwrap();
    until("it ends", || child.try_wait().unwrap()).code()
}

/// A gateway at a port of its own, and its address.
fn serving(place: &Place, args: &[&str]) -> (Child, String, mpsc::Receiver<String>) {
    let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
    all.extend(args);
    let mut command = place.command(&all);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let at = lines
        .find_map(|line| {
            let line = line.unwrap();
            let rest = line.strip_prefix("serving at http://")?;
            Some(rest.strip_suffix("/mcp").unwrap().to_owned())
        })
        .expect("it serves");
    // It goes on to write there.
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            // The test has ended, perhaps.
            let _ = sender.send(line);
        }
    });
    (child, at, said)
}

/// One HTTP request on a connection of its own; the whole answer.
fn http(address: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{head}\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Begins a session; gives the header that names it.
fn in_a_session(address: &str) -> String {
    let begun = post(address, "", &initialize());
    let mut lines = begun.lines();
    let token = lines.find_map(|line| line.strip_prefix("mcp-session-id: "));
    format!("\r\nmcp-session-id: {}", token.unwrap().trim())
}

/// A message to the pool.
fn post(address: &str, headers: &str, message: &Value) -> String {
    let head = format!("POST /mcp HTTP/1.1{headers}");
    http(address, &head, &message.to_string())
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"}}})
}

#[test]
fn a_gateway_is_not_its_own_server() {
    let address = closed_port();
    let own = json!({"url": format!("http://{address}/mcp")});
    let place = Place::with(json!({"demo": good(), "own": own}));
    let mut command = place.command(&["serve", "--listen", &address]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    while !said
        .last()
        .is_some_and(|line: &String| line.starts_with("serving at"))
    {
        said.push(lines.next().expect("it serves").unwrap());
    }
    let warning = said.iter().find(|line| line.contains("left out")).unwrap();
    assert!(warning.contains("own"), "{warning}");
    let headers = in_a_session(&address);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let tools = until("the other server's tools are listed", || {
        let tools = post(&address, &headers, &list);
        tools.contains("demo__").then_some(tools)
    });
    assert!(!tools.contains("own__"), "{tools}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn sigterm_lets_calls_end_and_a_second_signal_does_not() {
    let mark = format!("mark-drain-{}", std::process::id());
    // The call ends when this file is there.
    let on_call = format!(
        ": {mark}; {}",
        r#"touch running; while ! [ -e go ]; do sleep 0.05; done
        printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"done"}]}}\n' "$id""#
    );
    for patient in [true, false] {
        let place = Place::with(json!({"slow": scripted(&on_call)}));
        let (mut child, address, said) = serving(&place, &[]);
        let headers = in_a_session(&address);
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "slow__t", "arguments": {}}});
        let running = std::thread::spawn({
            let (address, headers) = (address.clone(), headers.clone());
            move || post(&address, &headers, &call)
        });
        until("the call runs", || {
            place.path().join("running").exists().then_some(())
        });
        let end = |signal| kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        end(Signal::SIGTERM);
        until("new requests are refused", || {
            let refused = post(&address, &headers, &initialize());
            let is_refused = refused.starts_with("HTTP/1.1 503 ");
            is_refused.then(|| assert!(refused.contains("retry-after: 5"), "{refused}"))
        });
        if patient {
            std::fs::write(place.path().join("go"), "").unwrap();
            let answer = running.join().unwrap();
            assert!(answer.contains(r#""text":"done""#), "{answer}");
        } else {
            end(Signal::SIGINT);
            // The connection broke off.
            let _ = running.join();
        }
        let status = until("it ends", || child.try_wait().unwrap());
        let said: Vec<String> = said.iter().collect();
        assert_eq!(
            status.code(),
            Some(if patient { 143 } else { 130 }),
            "{said:?}"
        );
        until("its server has ended", || {
            (processes_with(&mark) == 0).then_some(())
        });
    }
}

#[cfg(unix)]
#[test]
fn a_file_of_keys_that_anybody_may_change_is_refused() {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    let place = Place::with(json!({}));
    let with = |name: &str, mode| {
        let path = place.path().join(name);
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let run = place.run(&["serve", "key", "add", "ada", "--keys", "keys"]);
    assert_eq!(run.code(), 0);
    with("keys", 0o666);
    let run = place.run(&["serve", "--listen", "127.0.0.1:0", "--keys", "keys"]);
    assert_eq!(run.code(), 2);
    let said = run.stderr();
    assert!(
        said.contains("any user may change it (mode 0666)"),
        "{said}"
    );
    assert!(said.contains("`chmod go-w keys`"), "{said}");
    // Secrets that anybody may read are used, and named.
    with("keys", 0o600);
    std::fs::write(
        place.path().join("sealing"),
        format!("{}\n", "07".repeat(32)),
    )
    .unwrap();
    with("sealing", 0o644);
    let mut command = place.command(&["serve", "--listen", "127.0.0.1:0", "--key-file", "sealing"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let warned = lines
        .map_while(Result::ok)
        .find(|line| line.contains("`chmod o-r sealing`"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(warned.is_some_and(|line| line.starts_with("warning: sealing: ")));
}

#[test]
fn keys_are_read_again_when_their_file_changes() {
    let place = Place::with(json!({}));
    let add = |name: &str| {
        let run = place.run(&["serve", "key", "add", name, "--keys", "keys"]);
        format!("\r\nauthorization: Bearer {}", run.stdout().trim())
    };
    let ada = add("ada");
    // Without a name it is the user's file.
    assert_eq!(place.run(&["serve", "key", "add", "eve"]).code(), 0);
    let (mut child, address, _said) = serving(&place, &["--keys"]);
    assert_eq!(&post(&address, &ada, &initialize())[9..12], "401");
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, address, said) = serving(&place, &["--keys", "keys"]);
    let status = |key: &str| post(&address, key, &initialize())[9..12].to_owned();
    assert_eq!(status(&ada), "200");
    assert_eq!(status(""), "401");
    let bob = add("bob");
    until("the new key is good", || {
        (status(&bob) == "200").then_some(())
    });
    let run = place.run(&["serve", "key", "remove", "ada", "--keys", "keys"]);
    assert_eq!(run.code(), 0);
    until("the old key is not", || {
        (status(&ada) == "401").then_some(())
    });
    // A file that is broken changes nothing.
    std::fs::write(place.path().join("keys"), "what is this\n").unwrap();
    while !said
        .recv_timeout(PATIENCE)
        .unwrap()
        .contains("stays in use")
    {}
    assert_eq!(status(&bob), "200");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn ten_thousand_idle_connections_hold_up_nobody() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // As many as the machine allows: some descriptors are needed for other things.
    let many = usize::try_from(hard.saturating_sub(1_000))
        .unwrap()
        .min(10_000);
    let place = Place::with(json!({}));
    let most = many.to_string();
    let (mut child, address, _said) = serving(&place, &["--max-connections", &most]);
    let probe = || http(&address, "GET /healthz HTTP/1.1", "");
    let mut idle = Vec::new();
    for count in 1..many {
        idle.push(TcpStream::connect(&address).unwrap());
        // The kernel holds some hundreds that wait to be accepted.
        if count % 256 == 0 {
            assert!(probe().ends_with("alive\n"));
        }
    }
    until("the last place is free", || {
        probe().ends_with("alive\n").then_some(())
    });
    idle.push(TcpStream::connect(&address).unwrap());
    until("there is no place", || {
        let mut one_more = TcpStream::connect(&address).unwrap();
        one_more.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut first = [0; 12];
        one_more.read_exact(&mut first).unwrap();
        (&first == b"HTTP/1.1 503").then_some(())
    });
    idle.clear();
    until("there is place again", || {
        let mut stream = TcpStream::connect(&address).unwrap();
        let mut answer = String::new();
        let _ = write!(
            stream,
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        let _ = stream.read_to_string(&mut answer);
        answer.ends_with("alive\n").then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_socket_is_its_users_alone_and_goes_with_the_program() {
    let place = Place::with(json!({"demo": good()}));
    let start = || {
        place
            .command(&["serve", "--socket", "gateway"])
            .spawn()
            .unwrap()
    };
    let path = place.path().join("gateway");
    let connected = || until("it serves", || UnixStream::connect(&path).ok());
    // What a killed one leaves is in nobody's way.
    let mut killed = start();
    connected();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut child = start();
    let mut stream = connected();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let second = place.run(&["serve", "--socket", "gateway"]);
    assert_eq!(second.code(), 2, "{}", second.stderr());
    writeln!(stream, "{}", initialize()).unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.contains(r#""protocolVersion":"2025-11-25""#), "{line}");
    assert_eq!(terminated(&mut child), Some(143));
    assert!(!path.exists());
}

/// Standard error is a pipe that is full, and stays so.
#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let place = Place::with(json!({"bad": {"command": "false"}, "demo": good()}));
    // No entry of the audit can be written, and the log has much to say.
    let mut command = place.command(&["-vv", "serve", "--audit", "/dev/full", "--stdio"]);
    let (unread, mut full) = std::io::pipe().unwrap();
    let flags = |flags| nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    flags(nix::fcntl::OFlag::O_NONBLOCK);
    while (&full).write(&[b' '; 4096]).is_ok() {}
    while (&full).write(b" ").is_ok() {}
    flags(nix::fcntl::OFlag::empty());
    full.flush().unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(full).spawn().unwrap();
    let mut write = child.stdin.take().unwrap();
    writeln!(write, "{}", initialize()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("serverInfo"));
    // It waits for the server, of which there is something to say.
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    writeln!(write, "{list}").unwrap();
    let mut answers = lines.by_ref().map(Result::unwrap);
    answers.find(|line| line.contains("\"tools\"")).unwrap();
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "demo__add", "arguments": {"a": 1, "b": 2}}});
    for _ in 0..3 {
        writeln!(write, "{call}").unwrap();
        let mut answers = lines.by_ref().map(Result::unwrap);
        answers.find(|line| line.contains(r#""text":"3""#)).unwrap();
    }
    assert_eq!(terminated(&mut child), Some(143));
    drop(unread);
}

#[test]
fn a_profile_of_the_config_is_served_and_followed_and_measured() {
    let place = Place::with(json!({"demo": good()}));
    let write = |rename: &str| {
        let config = json!({
            "mcpServers": {"demo": good()},
            "profiles": {"sums": {"allow": ["demo__add"], "rename": {"demo__add": rename}}},
        });
        std::fs::write(place.path().join("servers.json"), config.to_string()).unwrap();
    };
    write("plus");
    let run = place.run(&["serve", "--profile", "other"]);
    assert_eq!(run.code(), 2);
    let (mut child, address, _said) = serving(&place, &["--profile", "sums", "--metrics"]);
    let headers = in_a_session(&address);
    let call = |name: &str| {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": name, "arguments": {"a": 1, "b": 2}}});
        post(&address, &headers, &call)
    };
    assert!(call("plus").contains(r#""text":"3""#));
    assert!(call("demo__add").contains("-32602"));
    write("sum");
    until("the new name is good", || {
        call("sum").contains(r#""text":"3""#).then_some(())
    });
    assert!(call("plus").contains("-32602"));
    // What is measured is of the whole pool, and this is a part.
    let refused = http(&address, "GET /metrics HTTP/1.1", "");
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, address, _said) = serving(&place, &["--metrics"]);
    until("it is connected", || {
        let measured = http(&address, "GET /metrics HTTP/1.1", "");
        measured
            .contains("mcpool_up{server=\"demo\"} 1")
            .then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_server_that_stands_in_no_config_is_not_served_in_silence() {
    let place = Place::with(json!({"demo": good()}));
    let run = place.run(&["--stdio", "some-server", "serve"]);
    assert_eq!(run.code(), 2, "{}", run.stdout());
    assert!(
        run.stderr().contains("stands in no config"),
        "{}",
        run.stderr()
    );
}

#[test]
fn clients_that_do_not_share_a_server_leave_nothing_behind_a_gateway_that_is_killed() {
    let mark = format!("mark-own-{}", std::process::id());
    let on_call = r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\n' "$id""#;
    // It stays after the end of its input.
    let mut server = scripted_life("trap '' TERM", on_call, "while :; do sleep 1; done");
    server["args"].as_array_mut().unwrap().push(json!(mark));
    server["sharing"] = json!("client");
    let place = Place::with(json!({"own": server}));
    let (mut child, address, _said) = serving(&place, &[]);
    for client in 1..=2 {
        let headers = in_a_session(&address);
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "own__t", "arguments": {}}});
        let answer = post(&address, &headers, &call);
        assert!(answer.contains(r#""content":[]"#), "{answer}");
        until("each has one", || {
            (processes_with(&mark) == client).then_some(())
        });
    }
    child.kill().unwrap();
    child.wait().unwrap();
    until("both are gone", || {
        (processes_with(&mark) == 0).then_some(())
    });
}
