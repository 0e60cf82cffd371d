//! How the program and its servers end: who ends first, who gets its graces, and that nothing is
//! left, whatever the servers left behind.
//!
//! `MCPOOL_STRESS` says how often the endurance tests repeat (default: a few times).
#![cfg(target_os = "linux")]

use std::{io::Read as _, process::Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    LEAVE_ORPHAN, Place, Running, processes_with, scripted, scripted_life, until,
};

fn rounds() -> usize {
    std::env::var("MCPOOL_STRESS").map_or(3, |text| text.parse().unwrap())
}

/// Answers a call.
const ANSWER: &str = r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"hi"}]}}\n' "$id""#;

/// A word that only these processes have: a number of seconds, so that `sleep` can carry it.
fn mark(test: u32) -> String {
    format!("{test}.{}", std::process::id())
}

fn with_mark(mut server: Value, mark: &str) -> Value {
    server["env"] = json!({ "MARK": mark });
    server
}

fn gone(mark: &str) {
    until("every process with the mark ends", || {
        (processes_with(mark) == 0).then_some(())
    });
}

/// A server that, when its input has ended, says more than its pipes hold, waits for the file `go`
/// and writes the file `done`.
fn slow_to_end() -> Value {
    let death = "seq 100000; seq 100000 >&2
        while [ ! -e go ]; do sleep 0.01; done; echo done >>done";
    scripted_life("", ANSWER, death)
}

#[test]
fn a_command_ends_with_its_answer_and_its_servers_in_peace() {
    // The guardian has the limit among its arguments.
    let limit = 3001;
    for (args, code) in [
        (["call", "slow", "t"].as_slice(), 0),
        (&["call", "slow", "t", "--json"], 0),
        (&["tools"], 0),
        (&["tools", "slow"], 0),
        (&["status"], 0),
        (&["health"], 0),
        (&["doctor"], 0),
        (&["call", "slow", "unknown-tool"], 2),
    ] {
        let place = Place::with(json!({ "slow": slow_to_end() }));
        let done = || std::fs::read_to_string(place.path().join("done")).unwrap_or_default();
        let output = place.command_with_open_files(limit, args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert_eq!(done(), "", "{args:?}: its server has not ended yet");
        std::fs::write(place.path().join("go"), "").unwrap();
        until("its server ends in peace", || {
            (done() == "done\n").then_some(())
        });
        gone(&limit.to_string());
    }
}

#[test]
fn a_server_that_does_not_obey_is_ended_when_the_program_has() {
    let mark = mark(1_003);
    // Deaf to everything, with a grandchild that is as well, and an orphan.
    let deaf = format!(
        "trap '' TERM HUP INT; {LEAVE_ORPHAN}; setsid sh -c 'trap \"\" TERM; while :; do sleep \"$0\"; done' \"$MARK\" &"
    );
    let server = scripted_life(&deaf, ANSWER, "while :; do sleep \"$MARK\"; done");
    let place = Place::with(json!({ "deaf": with_mark(server, &mark) }));
    let run = place.run(&["call", "deaf", "t"]);
    assert_eq!((run.code(), run.stdout().as_str()), (0, "hi\n"));
    assert!(processes_with(&mark) > 0, "it has its graces");
    gone(&mark);
}

/// The endurance test of one-shot calls: each leaves a detached grandchild and an orphan.
#[test]
fn one_shot_calls_leave_nothing() {
    let mark = mark(1_004);
    let birth = format!("{LEAVE_ORPHAN}; setsid sleep \"$MARK\" &");
    let server = with_mark(scripted_life(&birth, ANSWER, ""), &mark);
    let place = Place::with(json!({ "leaves": server }));
    let args = ["call", "leaves", "t"];
    let mut left = rounds();
    while left > 0 {
        let batch: Vec<Running> = (0..left.min(10)).map(|_| place.start(&args)).collect();
        left -= batch.len();
        for running in batch {
            running.wait_for(|line| line == "hi");
            assert_eq!(running.wait(), Some(0));
        }
    }
    gone(&mark);
}

/// Every way in which the program is ended from outside, while servers run that are deaf and left
/// a process that nothing ties to them.
#[test]
fn no_signal_leaves_anything() {
    let signals = [
        (Signal::SIGKILL, 3_002, mark(1_011)),
        (Signal::SIGTERM, 3_003, mark(1_012)),
        (Signal::SIGINT, 3_004, mark(1_013)),
        (Signal::SIGHUP, 3_005, mark(1_014)),
    ];
    for _ in 0..rounds().div_ceil(3) {
        // At once, since each waits for the servers' graces.
        std::thread::scope(|scope| {
            for (signal, limit, mark) in &signals {
                scope.spawn(|| a_signal_leaves_nothing(*signal, *limit, mark));
            }
        });
    }
}

fn a_signal_leaves_nothing(signal: Signal, limit: u64, mark: &str) {
    let birth = format!("trap '' TERM HUP INT; {LEAVE_ORPHAN}; setsid sleep \"$MARK\" &");
    let death = "while :; do sleep \"$MARK\"; done";
    let server = || with_mark(scripted_life(&birth, ANSWER, death), mark);
    let place = Place::with(json!({ "one": server(), "two": server() }));
    let watch = place.command_with_open_files(limit, &["watch", "--json"]);
    let running = place.start_command(watch);
    for _ in 0..2 {
        running.wait_for(|line| line.contains("\"connected\""));
    }
    until("both have left their processes", || {
        (processes_with(mark) == 6).then_some(())
    });
    running.signal(signal);
    let code = running.wait();
    match signal {
        Signal::SIGKILL => assert_eq!(code, None),
        signal => {
            assert_eq!(code, Some(128 + signal as i32));
            assert_eq!(processes_with(mark), 0, "an orderly end waits for all");
        }
    }
    gone(mark);
    gone(&limit.to_string());
}

/// A second signal does not wait: what is left is killed, and is dead when the program ends.
#[test]
fn a_second_signal_kills_at_once() {
    let mark = mark(1_006);
    let server = scripted_life(
        &format!("trap '' TERM HUP INT; {LEAVE_ORPHAN}"),
        ANSWER,
        "echo >end; while :; do sleep \"$MARK\"; done",
    );
    let place = Place::with(json!({ "deaf": with_mark(server, &mark) }));
    let running = place.start(&["watch", "--json"]);
    running.wait_for(|line| line.contains("\"connected\""));
    running.signal(Signal::SIGINT);
    until("its server is asked to end", || {
        place.path().join("end").exists().then_some(())
    });
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), Some(143));
    assert_eq!(processes_with(&mark), 0);
}

#[test]
fn the_program_may_open_more_files_and_its_servers_as_many_as_before() {
    let told = r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$id" "$(ulimit -S -n)""#;
    let place = Place::with(json!({ "limits": scripted(told) }));
    let call = place
        .command_with_open_files(300, &["call", "limits", "t"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&call.stdout), "300\n", "{call:?}");

    let watch = place.command_with_open_files(300, &["watch", "--json"]);
    let running = place.start_command(watch);
    running.wait_for(|line| line.contains("\"connected\""));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.id())).unwrap();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let mut values = files.split_whitespace().map(|word| word.parse::<u64>());
    let (soft, hard) = (values.next().unwrap(), values.next().unwrap());
    assert_eq!(soft, hard.map_or(Ok(65_536), |hard| Ok(hard.min(65_536))));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), Some(143));
}

/// 40 servers need more than 64 files.
#[test]
fn more_servers_than_the_soft_limit_has_room_for() {
    let servers: serde_json::Map<String, Value> = (0..40)
        .map(|number| (format!("s{number}"), scripted(ANSWER)))
        .collect();
    let place = Place::with(Value::Object(servers));
    let output = place
        .command_with_open_files(64, &["status", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn the_guardian_is_nothing_to_be_started_by_hand() {
    let place = Place::empty();
    let run = place.run(&["__guardian"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("mcpool itself"), "{}", run.stderr());
    assert!(!place.run(&["--help"]).stdout().contains("guardian"));
}

/// Who waits for the end of the program's output does not wait for a server or the guardian.
#[test]
fn the_output_ends_with_the_program() {
    let place = Place::with(json!({ "slow": slow_to_end() }));
    let mut child = place
        .command(&["call", "slow", "t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "hi\n");
    assert!(child.wait().unwrap().success());
    assert!(!place.path().join("done").exists());
    std::fs::write(place.path().join("go"), "").unwrap();
    until("its server ends in peace", || {
        place.path().join("done").exists().then_some(())
    });
}
