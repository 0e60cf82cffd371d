//! The application dies by SIGKILL, and no server stays.
//!
//! The application is this test binary itself, started again for the one test that is ignored.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use mcpool_core::{ConnectRequest, ServerSpec, StdioSpec, Transport};
use mcpool_stdio::StdioConnector;
use mcpool_testkit::{Behavior, eventually_blocking, fixtures::stdio::StdioFixture, leaks};
use support::PATIENCE;

/// What the application shall do, as JSON.
const ORDER: &str = "MCPOOL_TEST_ORDER";

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    command: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    gate: bool,
    /// Connect and close without end; else connect once and stay.
    churn: bool,
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
    let connector = StdioConnector::new().with_exec_gate(order.gate);
    let spec = Arc::new(ServerSpec::stdio("test", spec).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        println!("\nconnecting");
        loop {
            let connect = || connector.open(ConnectRequest::new(Arc::clone(&spec)));
            let (first, second) = tokio::join!(connect(), connect());
            let (mut first, second) = (first.unwrap(), second.unwrap());
            if !order.churn {
                // The fixture says nothing by itself, so this is until the kill.
                first.receive().await;
            }
            drop((first, second));
        }
    });
}

fn start(fixture: &StdioFixture, gate: bool, churn: bool) -> (Child, impl BufRead) {
    let process = fixture.process();
    let order = Order {
        command: process.command,
        args: process.args,
        env: process
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        gate,
        churn,
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

/// As `npx` with a server that ignores SIGTERM and the end of stdin, and a helper of that in a
/// session of its own.
fn stubborn() -> StdioFixture {
    StdioFixture::new(Behavior::new().with(|behavior| {
        behavior.wrapper = true;
        behavior.ignore_sigterm = true;
        behavior.ignore_eof = true;
        behavior.detached_child = true;
    }))
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
        let (mut application, _stdout) = start(&fixture, round % 2 == 1, false);
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
        let (mut application, stdout) = start(&fixture, round % 2 == 1, true);
        stdout
            .lines()
            .map_while(Result::ok)
            .find(|line| line == "connecting")
            .expect("the application starts");
        std::thread::sleep(Duration::from_micros(round.wrapping_mul(7_919) % 40_000));
        nothing_is_left(&fixture, &mut application, round);
    }
}
