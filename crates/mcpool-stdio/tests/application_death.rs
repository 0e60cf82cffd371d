//! The application ends, in any way, and no server stays.
//!
//! The application is this test binary itself, started again for the one test that is ignored;
//! so is the guardian that is a program. `MCPOOL_STRESS_ROUNDS` sets how often (default 10).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use mcpool_core::{StdioSpec, Transport};
use mcpool_stdio::StdioConnector;
use mcpool_testkit::{eventually_blocking, fixtures::stdio::StdioFixture, leaks};
use support::*;

/// What the application is to do, as JSON.
const ORDER: &str = "MCPOOL_TEST_ORDER";

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Guard {
    Shell,
    GatedShell,
    Program,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Conduct {
    /// Connect and stay.
    Stay,
    /// Connect and drop without end.
    Churn,
    /// Connect, leave the end of the servers to the guardian, and end.
    HandOver,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    command: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    guard: Guard,
    conduct: Conduct,
    /// Graces that a test does not want to wait for.
    hasty: bool,
}

/// The application.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn application() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let order: Order = serde_json::from_str(&order).unwrap();
    let mut spec = StdioSpec::new(order.command).with_args(order.args);
    for (name, value) in order.env {
        spec = spec.with_env(name, value);
    }
    let guardian = guardian_program();
    let connector = match order.guard {
        Guard::Shell => StdioConnector::new(),
        Guard::GatedShell => StdioConnector::new().with_exec_gate(true),
        Guard::Program => StdioConnector::new().with_guardian(guardian.clone()),
    };
    let request = if order.hasty {
        hasty(stdio(spec))
    } else {
        stdio(spec)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        println!("\nconnecting");
        loop {
            let connect = || connector.open(request.clone());
            let (first, second) = tokio::join!(connect(), connect());
            let (first, second) = (first.unwrap(), second.unwrap());
            match order.conduct {
                // The fixture does not end by itself, so this is until the kill.
                Conduct::Stay => drop(first.closed().await),
                Conduct::Churn => {}
                Conduct::HandOver => {
                    // Each has said that it is up, and lives until it is closed.
                    said(&first).await;
                    said(&second).await;
                    guardian.hand_over();
                    first.close().await.unwrap();
                    // By a drop it is the same.
                    return;
                }
            }
            drop((first, second));
        }
    });
}

/// Runs the application with these servers.
fn start(
    process: &StdioSpec,
    guard: Guard,
    conduct: Conduct,
    hasty: bool,
) -> (Child, impl BufRead + use<>) {
    let order = Order {
        command: process.command.clone(),
        args: process.args.clone(),
        env: process
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        guard,
        conduct,
        hasty,
    };
    let mut application = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "application", "--ignored", "--nocapture"])
        .env(ORDER, serde_json::to_string(&order).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(application.stdout.take().unwrap());
    (application, stdout)
}

fn rounds() -> u64 {
    std::env::var("MCPOOL_STRESS_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(10)
}

/// Which guardian's turn it is.
fn guard(round: u64) -> Guard {
    match round % 3 {
        0 => Guard::Program,
        1 => Guard::Shell,
        _ => Guard::GatedShell,
    }
}

fn signal(application: &Child, name: &str) {
    let pid = application.id().to_string();
    let kill = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(kill.unwrap().success());
}

fn nothing_is_left(fixture: &StdioFixture, application: &mut Child, round: u64) {
    application.kill().unwrap();
    application.wait().unwrap();
    assert!(
        eventually_blocking(PATIENCE, || fixture.marker().processes().is_empty()),
        "round {round}: {:?} are left",
        fixture.marker().processes()
    );
}

/// Killed when the whole family of both servers runs.
#[test]
fn a_killed_application_leaves_no_process() {
    let fixture = stubborn();
    for round in 0..rounds() {
        let process = fixture.process();
        let (mut application, _stdout) = start(&process, guard(round), Conduct::Stay, true);
        assert!(
            eventually_blocking(PATIENCE, || fixture.marker().processes().len() == 6),
            "two launchers, two servers, two detached children"
        );
        let children = leaks::descendants(application.id());
        nothing_is_left(&fixture, &mut application, round);
        // The guardian goes too; it was among the children.
        assert!(
            eventually_blocking(PATIENCE, || {
                !children.iter().any(|pid| leaks::is_alive(*pid))
            }),
            "round {round}: the guardian is left"
        );
    }
}

/// Killed at any moment of starting and stopping servers.
#[test]
fn an_application_killed_at_any_moment_leaves_no_process() {
    let fixture = stubborn();
    for round in 0..rounds() {
        let process = fixture.process();
        let (mut application, stdout) = start(&process, guard(round), Conduct::Churn, true);
        stdout
            .lines()
            .map_while(Result::ok)
            .find(|line| line == "connecting")
            .expect("the application starts");
        std::thread::sleep(Duration::from_micros(round.wrapping_mul(7_919) % 40_000));
        nothing_is_left(&fixture, &mut application, round);
    }
}

/// Ended by each signal, while a process runs that nothing ties to its server: twice forked, its
/// environment cleared, in a session of its own, deaf. The servers are deaf as well.
#[test]
fn an_orphan_with_nothing_of_its_server_does_not_outlive_the_application() {
    let script = format!(
        "trap '' TERM INT HUP; {LEAVE_ORPHAN} echo '{{\"jsonrpc\":\"2.0\",\"method\":\"up\"}}'; while :; do sleep 1000; done"
    );
    for round in 0..rounds() {
        for name in ["KILL", "TERM", "INT", "HUP"] {
            let mark = mark();
            let process = StdioSpec::new("/bin/sh")
                .with_args(["-c", &script])
                .with_env("MARK", mark.as_str());
            let (mut application, _stdout) = start(&process, Guard::Program, Conduct::Stay, true);
            assert!(
                eventually_blocking(PATIENCE, || processes_with(&mark).len() == 4),
                "two orphans, and what they wait for"
            );
            let children = leaks::descendants(application.id());
            signal(&application, name);
            assert!(application.wait().unwrap().signal().is_some());
            assert!(
                eventually_blocking(PATIENCE, || {
                    processes_with(&mark).is_empty()
                        && !children.iter().any(|pid| leaks::is_alive(*pid))
                }),
                "round {round}, SIG{name}: {:?} are left",
                processes_with(&mark)
            );
        }
    }
}

/// The application ends before its servers: they have their graces all the same, are read from
/// while they speak, and take nothing along.
#[test]
fn an_application_that_hands_over_ends_first_and_its_servers_in_peace() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let done = dir.path().join("done");
    // More than a pipe holds, on both streams, after the end of stdin.
    let script = format!(
        "{LEAVE_ORPHAN} echo '{{\"jsonrpc\":\"2.0\",\"method\":\"up\"}}'; cat >/dev/null
         while [ ! -e '{go}' ]; do sleep 0.01; done
         seq 100000; seq 100000 >&2; echo done >>'{done}'",
        go = go.display(),
        done = done.display(),
    );
    let lines = |path: &Path| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .count()
    };
    for round in 0..rounds() {
        let mark = mark();
        let _ = std::fs::remove_file(&go);
        let _ = std::fs::remove_file(&done);
        let process = StdioSpec::new("/bin/sh")
            .with_args(["-c", &script])
            .with_env("MARK", mark.as_str());
        let (mut application, _stdout) = start(&process, Guard::Program, Conduct::HandOver, false);
        assert!(application.wait().unwrap().success());
        assert_eq!(lines(&done), 0, "the servers wait still");
        assert!(
            eventually_blocking(PATIENCE, || processes_with(&mark).len() == 4),
            "and the orphans run"
        );
        assert_eq!(lines(&done), 0);
        std::fs::write(&go, "").unwrap();
        assert!(
            eventually_blocking(PATIENCE, || lines(&done) == 2),
            "round {round}: both end in peace"
        );
        assert!(
            eventually_blocking(PATIENCE, || processes_with(&mark).is_empty()),
            "round {round}: {:?} are left",
            processes_with(&mark)
        );
        assert!(
            eventually_blocking(PATIENCE, || servers_of(&script).is_empty()),
            "round {round}: the servers are left"
        );
    }
}

/// The processes that run this script.
fn servers_of(script: &str) -> Vec<u32> {
    processes_with(script.lines().next().unwrap_or_default())
}
