//! The guardian that is a shell: one for each application, while there are servers. Only one
//! test, since it counts the children of this process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use mcpool_core::Transport;
use mcpool_stdio::{Guardian, StdioConnector};
use mcpool_testkit::leaks;
use support::*;

fn guardians() -> Vec<u32> {
    guardians_with("mcpool-guardian")
}

#[tokio::test]
async fn one_guardian_while_there_are_servers() {
    let without = StdioConnector::new().with_guardian(Guardian::Off);
    let unguarded = without.open(sh("exec cat")).await.unwrap();
    assert_eq!(guardians().len(), 0, "switched off");
    within(unguarded.close()).await.unwrap();

    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(open(sh("exec cat")).await);
        assert_eq!(guardians().len(), 1, "one, whatever the number of servers");
    }
    let guardian = guardians()[0];
    let files = std::fs::read_dir(format!("/proc/{guardian}/fd")).unwrap();
    let own: Vec<_> = files
        .map(|file| std::fs::read_link(file.unwrap().path()).unwrap())
        .filter(|target| target.to_string_lossy().starts_with("pipe:"))
        .collect();
    let servers_pipes: Vec<_> = servers
        .iter()
        .map(|server| server.monitor().diagnostics().pid.unwrap())
        .flat_map(|pid| (0..3).map(move |fd| format!("/proc/{pid}/fd/{fd}")))
        .map(|path| std::fs::read_link(path).unwrap())
        .collect();
    assert!(
        own.iter().all(|pipe| !servers_pipes.contains(pipe)),
        "it holds none of the servers' pipes"
    );
    let environ = std::fs::read_to_string(format!("/proc/{guardian}/environ")).unwrap();
    assert!(environ.starts_with("PATH=") && environ.matches('\0').count() == 1);

    // Anybody who kills it does no harm: the next server starts another.
    leaks::kill_process(guardian);
    until("it is dead", || !leaks::is_alive(guardian)).await;
    servers.push(open(sh("exec cat")).await);
    let second = guardians();
    assert_eq!(second.len(), 1);
    assert_ne!(second[0], guardian);

    // One that was stopped must not stop us.
    std::process::Command::new("kill")
        .args(["-s", "STOP", &second[0].to_string()])
        .status()
        .unwrap();
    servers.push(open(sh("exec cat")).await);
    for server in servers {
        assert_eq!(guardians().len(), 1);
        within(server.close()).await.unwrap();
    }
    assert_eq!(guardians().len(), 0, "it ends with the last server");

    // Connecting and closing again and again leaves no file, task or process.
    let files = leaks::descriptor_count();
    for _ in 0..20 {
        let server = open(sh(ANSWER_ALL)).await;
        ping(&server).await.unwrap();
        within(server.close()).await.unwrap();
        drop(server);
        drop(open(sh("exec cat")).await);
    }
    until("no task is left", || leaks::task_count() == 0).await;
    assert_eq!(leaks::descriptor_count(), files);
    assert_eq!(leaks::descendants(std::process::id()), [] as [u32; 0]);
}
