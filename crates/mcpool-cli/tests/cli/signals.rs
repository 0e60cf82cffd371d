//! A signal, at any moment, leaves no process behind. Each server carries an argument of its own
//! that distinguishes its processes from all others.

use std::{
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
};

use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    sys::{signal::Signal, termios::tcgetattr},
};
use serde_json::{Value, json};

use crate::support::{PROGRAM, Place, good, processes_with, scripted, until};

/// A server that never answers and has a child of its own.
fn hangs(mark: &str) -> Value {
    json!({"command": "sh", "args": ["-c", "sleep 1000 & wait", mark]})
}

/// A launcher like `npx`, whose child serves, and then neither SIGTERM nor the end of its input
/// ends what is left. The mark is a number of seconds, so that `sleep` carries it as well.
fn launcher(mark: &str) -> Value {
    let inner = format!("trap '' TERM; {PROGRAM} demo-server; while true; do sleep {mark}; done");
    json!({"command": "sh", "args": ["-c", r#"sh -c "$1" "$2"; true"#, "launcher", inner, mark]})
}

/// How often: a few times, or as `MCPOOL_STRESS` says.
fn rounds() -> usize {
    std::env::var("MCPOOL_STRESS").map_or(3, |text| text.parse().unwrap())
}

fn mark(test: &str) -> String {
    format!("mark-{test}-{}", std::process::id())
}

fn appears(mark: &str) {
    until("the server's process starts", || {
        (processes_with(mark) > 0).then_some(())
    });
}

fn disappears(mark: &str) {
    until("the server's process ends", || {
        (processes_with(mark) == 0).then_some(())
    });
}

#[test]
fn ctrl_c_while_connecting() {
    let mark = mark("int");
    let place = Place::with(json!({"slow": hangs(&mark), "good": good()}));
    let running = place.start(&["status"]);
    appears(&mark);
    running.signal(Signal::SIGINT);
    // What is known is shown.
    running.wait_for(|line| line.starts_with("slow") && line.contains("Ctrl-C"));
    assert_eq!(running.wait(), Some(130));
    disappears(&mark);
}

#[test]
fn sigterm_while_connecting() {
    let mark = mark("term");
    let place = Place::with(json!({"slow": hangs(&mark)}));
    let running = place.start(&["tools"]);
    appears(&mark);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), Some(143));
    assert_eq!(processes_with(&mark), 0);
}

#[test]
fn sigkill_while_connecting() {
    let mark = mark("kill");
    let place = Place::with(json!({"slow": hangs(&mark)}));
    let running = place.start(&["status"]);
    appears(&mark);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), None);
    disappears(&mark);
}

#[test]
fn sigkill_of_many_with_a_stubborn_launcher() {
    let mark = format!("1001.{}", std::process::id());
    let place = Place::with(json!({"stubborn": launcher(&mark)}));
    for _ in 0..rounds() {
        let running = place.start(&["watch", "--json"]);
        running.wait_for(|line| line.contains("\"connected\""));
        assert!(processes_with(&mark) > 0);
        running.signal(Signal::SIGKILL);
        assert_eq!(running.wait(), None);
    }
    disappears(&mark);
}

#[test]
fn watch_tells_of_a_death_and_of_the_return() {
    let mark = mark("watch");
    let mut server = good();
    // `demo-server` takes no arguments: mark it by the path that it is started through.
    let place = Place::empty();
    let link = place.path().join(&mark);
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    server["command"] = json!(link);
    let config = json!({"mcpServers": {"good": server}});
    std::fs::write(place.path().join("servers.json"), config.to_string()).unwrap();

    let running = place.start(&["watch", "--json"]);
    let connected = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["event"] == "connected"
    };
    running.wait_for(connected);
    let name = link.to_string_lossy();
    assert_eq!(processes_with(&name), 1);
    kill_by_argument(&name);
    running.wait_for(|line| line.contains("\"disconnected\""));
    running.wait_for(connected);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), Some(143));
    assert_eq!(processes_with(&name), 0);
}

#[test]
fn watch_applies_good_changes_of_the_config_and_tells_of_bad_ones() {
    let place = Place::with(json!({"one": good()}));
    let file = place.path().join("servers.json");
    let running = place.start(&["watch", "--json"]);
    let wait_for = |server: Value, event: &str| {
        running.wait_for(|line| {
            let told: Value = serde_json::from_str(line).unwrap();
            // What did not change keeps its connection.
            assert!(
                told["event"] != "disconnected" || told["server"] != "one",
                "{line}"
            );
            told["server"] == server && told["event"] == event
        })
    };
    wait_for(json!("one"), "connected");
    let both = json!({"mcpServers": {"one": good(), "two": good()}}).to_string();
    std::fs::write(&file, &both).unwrap();
    wait_for(json!("two"), "connected");
    std::fs::write(&file, &both[..both.len() / 2]).unwrap();
    // It is about no server.
    let told = wait_for(Value::Null, "config_rejected");
    assert!(told.contains("servers.json"), "{told}");
    let one = json!({"mcpServers": {"one": good()}}).to_string();
    std::fs::write(&file, one).unwrap();
    wait_for(json!("two"), "disconnected");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), Some(143));
}

#[test]
fn a_watch_that_a_signal_ends_prints_its_summary() {
    let place = Place::with(json!({"one": good()}));
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let running = place.start(&["watch"]);
        // It is connected a moment before it is ready.
        running.wait_for(|line| line.contains("one has 2 tools"));
        running.signal(signal);
        running.wait_for(|line| line.starts_with("watched for"));
        running.wait_for(|line| line.contains("one: ready, never lost"));
        assert_eq!(running.wait(), Some(code));
    }
}

fn kill_by_argument(argument: &str) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let text = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if text
            .split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
        {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
    }
}

#[test]
fn ctrl_c_ends_a_bench_and_shows_what_there_is() {
    let marks = Place::empty();
    let mark = marks.path().join("called");
    let touch = format!(
        r#"touch {}; printf '{{"jsonrpc":"2.0","id":%s,"result":{{"content":[]}}}}\n' "$id""#,
        mark.display()
    );
    let place = Place::with(json!({"s": scripted(&touch)}));
    let running = place.start(&["bench", "s", "t", "-d", "1h", "--warmup", "0", "--json"]);
    until("the first call", || mark.exists().then_some(()));
    running.signal(Signal::SIGINT);
    let line = running.wait_for(|line| line.contains("\"interrupted\""));
    assert!(line.contains("true"), "{line}");
    assert_eq!(running.wait(), Some(130));
}

/// A terminal of this size, which has no reader but the test.
fn terminal(columns: u16, rows: u16) -> OpenptyResult {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    openpty(Some(&size), None).unwrap()
}

/// Starts a watch on a terminal.
fn watch_on(place: &Place, slave: OwnedFd) -> std::process::Child {
    let mut command = place.command(&["watch"]);
    command
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave);
    command.spawn().unwrap()
}

fn end_of(child: &mut std::process::Child) -> Option<i32> {
    let status = until("the program ends", || child.try_wait().unwrap());
    status.code()
}

#[test]
fn one_sigterm_ends_a_watch_whose_terminal_nobody_reads() {
    let mark = mark("unread");
    let place = Place::with(json!({"slow": hangs(&mark)}));
    let OpenptyResult { master, slave } = terminal(120, 40);
    let before = tcgetattr(&slave).unwrap();
    let mut child = watch_on(&place, slave.try_clone().unwrap());
    appears(&mark);
    // The terminal takes no more: one writer waits in it, and others wait for that one.
    let mut writer = std::fs::File::from(slave.try_clone().unwrap());
    std::thread::spawn(move || while writer.write_all(&[b'.'; 4096]).is_ok() {});
    let path = nix::unistd::ttyname(&slave).unwrap();
    let mut prober = std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .unwrap();
    until("the terminal is full", || {
        prober.write(b".").is_err().then_some(())
    });
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(end_of(&mut child), Some(143));
    disappears(&mark);
    // Its lines are edited again, though nobody has read a byte.
    assert_eq!(tcgetattr(&slave).unwrap().local_flags, before.local_flags);
    drop(master);
}

#[test]
fn a_watch_believes_no_terminal_that_is_larger_than_any() {
    let place = Place::with(json!({"good": good()}));
    let OpenptyResult { master, slave } = terminal(u16::MAX, u16::MAX);
    let mut child = watch_on(&place, slave);
    let mut screen = std::fs::File::from(master);
    let (mut seen, mut buffer, mut typed) = (Vec::new(), [0; 4096], false);
    // Reading fails once the program has closed the terminal.
    while let Ok(length @ 1..) = screen.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..length]);
        if !typed && String::from_utf8_lossy(&seen).contains("quit") {
            screen.write_all(b"q").unwrap();
            typed = true;
        }
    }
    let seen = String::from_utf8_lossy(&seen);
    assert_eq!(end_of(&mut child), Some(0), "{seen}");
    assert!(seen.len() < 1 << 20, "{} bytes", seen.len());
}
