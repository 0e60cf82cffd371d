//! Processes that left their server in every way that there is, and what is dead when.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{sync::Arc, time::Duration};

use mcpool_core::{ConnectRequest, Transport};
use mcpool_stdio::{GuardianProgram, StdioConnector, StdioTransport};
use mcpool_testkit::leaks;
use support::*;

/// A program of its own, so that no other test's servers count.
fn guarded() -> StdioConnector {
    StdioConnector::new().with_guardian(guardian_program())
}

async fn open_on(connector: &StdioConnector, request: ConnectRequest) -> StdioTransport {
    connector.open(request).await.unwrap()
}

async fn the_orphan_runs(mark: &str) {
    until("the orphan runs, and what it waits for", || {
        processes_with(mark).len() == 2
    })
    .await;
}

const NOBODY: [u32; 0] = [];

#[tokio::test]
async fn an_orphan_with_nothing_of_its_servers_dies_with_the_last_of_them() {
    let connector = guarded();
    let script = format!("{LEAVE_ORPHAN} exec cat");
    let (first, second) = (mark(), mark());
    let one = open_on(&connector, marked(&script, &first)).await;
    let two = open_on(&connector, marked(&script, &second)).await;
    the_orphan_runs(&first).await;
    the_orphan_runs(&second).await;
    within(one.close()).await.unwrap();
    // Whose they are is not known while there are two.
    assert_eq!(processes_with(&second).len(), 2);
    within(two.close()).await.unwrap();
    assert_eq!(processes_with(&first), NOBODY, "with the last server");
    assert_eq!(processes_with(&second), NOBODY);

    let alone = open_on(&connector, marked(&script, &first)).await;
    the_orphan_runs(&first).await;
    leaks::kill_process(alone.monitor().diagnostics().pid.unwrap());
    loss(&alone).await;
    until("it dies with a server that was killed", || {
        processes_with(&first).is_empty()
    })
    .await;

    let dropped = open_on(&connector, marked(&script, &first)).await;
    the_orphan_runs(&first).await;
    drop(dropped);
    assert_eq!(processes_with(&first), NOBODY, "and when a drop returns");
}

/// The same without the double fork, which hides nothing as long as its parents run.
const LEAVE_CHILD: &str = r#"env -i setsid sh -c 'trap "" TERM INT HUP; while :; do sleep "$0"; done' "$MARK" </dev/null >/dev/null 2>&1 &
"#;

#[tokio::test]
async fn a_child_that_sheds_group_and_environment_is_found_while_its_parent_runs() {
    let connectors = [StdioConnector::new(), guarded()];
    for connector in connectors {
        let mark = mark();
        let script = format!("{LEAVE_CHILD} exec cat");
        let closed = open_on(&connector, marked(&script, &mark)).await;
        the_orphan_runs(&mark).await;
        within(closed.close()).await.unwrap();
        assert_eq!(processes_with(&mark), NOBODY, "after a close");

        let dropped = open_on(&connector, marked(&script, &mark)).await;
        the_orphan_runs(&mark).await;
        drop(dropped);
        assert_eq!(processes_with(&mark), NOBODY, "after a drop");
    }
}

async fn deaf(connector: &StdioConnector, mark: &str) -> StdioTransport {
    let script = format!("trap '' TERM; echo ready >&2; while :; do sleep {mark}; done");
    let transport = open_on(connector, sh(&script)).await;
    let monitor = transport.monitor();
    until("it is deaf and waits", || {
        !monitor.diagnostics().stderr_tail.is_empty() && processes_with(mark).len() == 2
    })
    .await;
    transport
}

#[tokio::test]
async fn what_is_forced_is_dead_when_it_returns() {
    for connector in [StdioConnector::new(), guarded()] {
        let mark = mark();
        let none = deaf(&connector, &mark).await;
        within(none.close_within(Duration::ZERO)).await.unwrap_err();
        assert_eq!(processes_with(&mark), NOBODY, "no time at all");
        let status = none.monitor().diagnostics().exit_status.unwrap();
        assert!(status.contains("SIGKILL"), "{status}");

        // A close that takes its time is hurried.
        let hurried = deaf(&connector, &mark).await;
        let part = tokio::time::timeout(Duration::from_millis(10), hurried.close());
        assert!(part.await.is_err());
        let began = std::time::Instant::now();
        within(hurried.close_within(Duration::from_millis(50)))
            .await
            .unwrap_err();
        assert_eq!(processes_with(&mark), NOBODY, "little time");
        assert!(began.elapsed() < Duration::from_millis(1_500));

        let killed = deaf(&connector, &mark).await;
        let monitor = killed.monitor();
        monitor.kill();
        assert_eq!(processes_with(&mark), NOBODY, "by its monitor");
        monitor.kill();
        drop(killed);
        monitor.kill();

        let stuck = Arc::new(deaf(&connector, &mark).await);
        let monitor = stuck.monitor();
        let close = tokio::spawn(async move { stuck.close().await });
        tokio::task::yield_now().await;
        monitor.kill();
        assert_eq!(processes_with(&mark), NOBODY, "in the middle of a close");
        let _ = within(close).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_given_up_leaves_nothing_when_its_drop_returns() {
    for connector in [StdioConnector::new(), guarded()] {
        let mark = mark();
        let request = sh(&format!("sleep {mark}; :"));
        for round in 0..40_u64 {
            let connect = connector.open(request.clone());
            let _ = tokio::time::timeout(Duration::from_micros(round * 100), connect).await;
            assert_eq!(processes_with(&mark), NOBODY, "round {round}");
        }
    }
}

/// A new process does not wait for the end of an old one that was stopped.
#[tokio::test]
async fn a_server_starts_while_another_is_being_ended() {
    for connector in [StdioConnector::new(), guarded()] {
        let mark = mark();
        let old = deaf(&connector, &mark).await;
        let pid = old.monitor().diagnostics().pid.unwrap();
        let stopped = std::process::Command::new("kill")
            .args(["-s", "STOP", &pid.to_string()])
            .status();
        assert!(stopped.unwrap().success());
        let (sender, ended) = tokio::sync::oneshot::channel();
        let ending = tokio::spawn(async move {
            let outcome = old.close().await;
            let _ = sender.send(());
            outcome
        });
        let new = open_on(&connector, sh(ANSWER_ALL)).await;
        ping(&new).await.unwrap();
        assert!(ended.is_empty(), "the old one has its graces still");
        within(ending).await.unwrap().unwrap_err();
        assert_eq!(processes_with(&mark), NOBODY);
        within(new.close()).await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_server_that_obeys_sigterm_is_woken_to_do_so() {
    for connector in [StdioConnector::new(), guarded()] {
        let request = sh("trap 'exit 7' TERM; echo ready >&2; while :; do sleep 0.01; done");
        let request = with_graces(request, Duration::from_millis(50), PATIENCE);
        let server = open_on(&connector, request).await;
        let monitor = server.monitor();
        until("it listens to SIGTERM", || {
            !monitor.diagnostics().stderr_tail.is_empty()
        })
        .await;
        let pid = monitor.diagnostics().pid.unwrap();
        let stopped = std::process::Command::new("kill")
            .args(["-s", "STOP", &pid.to_string()])
            .status();
        assert!(stopped.unwrap().success());
        within(server.close()).await.unwrap();
        let status = monitor.diagnostics().exit_status.unwrap();
        assert_eq!(status, "exited with status 7");
    }
}

/// Graces that were handed over are cut short by a kill all the same.
#[tokio::test]
async fn a_kill_also_kills_what_was_left_to_the_guardian() {
    let program = guardian_program();
    let connector = StdioConnector::new().with_guardian(program.clone());
    let mark = mark();
    let left = deaf(&connector, &mark).await;
    let monitor = left.monitor();
    program.hand_over();
    within(left.close()).await.unwrap();
    assert_eq!(processes_with(&mark).len(), 2, "it has its graces");
    monitor.kill();
    assert_eq!(processes_with(&mark), NOBODY);
}

/// A program that is no guardian: a shell takes its place.
#[tokio::test]
async fn a_program_that_is_no_guardian_is_found_out() {
    let wrong = GuardianProgram::new(which::which("true").unwrap(), [""; 0]);
    let connector = StdioConnector::new().with_guardian(wrong);
    for _ in 0..2 {
        let server = open_on(&connector, sh(ANSWER_ALL)).await;
        ping(&server).await.unwrap();
        within(server.close()).await.unwrap();
    }
}
