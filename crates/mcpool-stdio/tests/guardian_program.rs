//! The guardian that is a program: one for each application, while there are servers. Only one
//! test, since it counts the children, threads and files of this process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{collections::BTreeSet, time::Duration};

use mcpool_core::{ConnectRequest, ErrorKind, Incoming, Transport};
use mcpool_stdio::{GuardianProgram, StdioConnector, StdioTransport};
use mcpool_testkit::leaks;
use support::*;

fn guardians() -> Vec<u32> {
    guardians_with("guardian_role")
}

async fn open(connector: &StdioConnector, request: ConnectRequest) -> StdioTransport {
    connector.open(request).await.unwrap()
}

fn pid(transport: &StdioTransport) -> u32 {
    transport.monitor().diagnostics().pid.unwrap()
}

/// Fields of `/proc/<pid>/stat` after the name: state, parent, group, session, terminal.
fn stat(pid: u32) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ');
    fields.map(str::to_owned).collect()
}

/// What the descriptors of a process lead to.
fn files_of(pid: u32) -> BTreeSet<String> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}

fn guardian_of(transport: &StdioTransport) -> u32 {
    stat(pid(transport))[1].parse().unwrap()
}

#[tokio::test]
async fn one_guardian_while_there_are_servers() {
    let program = guardian_program();
    let connector = StdioConnector::new().with_guardian(program.clone());
    let threads = leaks::thread_count();
    // What the runner of the tests leaves open.
    let inherited = files_of(std::process::id());
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(open(&connector, sh("exec cat")).await);
        assert_eq!(guardians().len(), 1, "one, whatever the number of servers");
    }
    let guardian = guardian_of(&servers[0]);
    assert_eq!(guardians(), [guardian]);
    // One that answers has become what it is, and has closed what its start needed.
    for server in &servers {
        let note = mcpool_core::Notification::new("notifications/echoed", None);
        within(server.notify(&note)).await.unwrap();
        assert_eq!(said(server).await, Incoming::Notification(note));
    }
    let mut pipes = BTreeSet::new();
    for server in &servers {
        let stat = stat(pid(server));
        assert_eq!(stat[1], guardian.to_string(), "the parent");
        assert_eq!(stat[2], pid(server).to_string(), "a group of its own");
        assert_eq!(stat[3], guardian.to_string(), "the guardian's session");
        assert_eq!(stat[4], "0", "no terminal");
        for target in files_of(pid(server)).difference(&inherited) {
            let new = pipes.insert(target.clone());
            let is_pipe = target.starts_with("pipe:");
            assert!(new && is_pipe, "three pipes that no other has: {target}");
        }
    }
    assert_eq!(pipes.len(), 3 * servers.len());
    let environ = std::fs::read_to_string(format!("/proc/{guardian}/environ")).unwrap();
    assert_eq!(environ, "");
    for server in servers.drain(..) {
        within(server.close()).await.unwrap();
        let status = server.monitor().diagnostics().exit_status.unwrap();
        assert_eq!(status, "exited with status 0");
    }
    until("it ends with the last server", || guardians().is_empty()).await;

    // What the system says of a start comes through, and so do the working directory, the
    // variables and a status.
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("server");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let broken = mcpool_core::StdioSpec::new(script.to_str().unwrap());
    let error = connector.open(stdio(broken)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    assert!(error.message().contains("interpreter"), "{error}");
    let here = std::env::current_dir().unwrap();
    let server = open(&connector, marked("pwd >&2; echo $MARK >&2; exit 3", "a=b")).await;
    loss(&server).await;
    let diagnostics = server.monitor().diagnostics();
    assert_eq!(diagnostics.exit_status.unwrap(), "exited with status 3");
    let said: Vec<_> = diagnostics
        .stderr_tail
        .iter()
        .map(|line| &line.text)
        .collect();
    assert_eq!(said, [here.to_str().unwrap(), "a=b"]);
    drop(server);

    a_guardian_that_is_killed_takes_its_servers_along(&connector).await;
    a_guardian_that_is_stopped_stops_nobody(&connector).await;
    until("they have ended", || guardians().is_empty()).await;

    // Without a program there is still a shell.
    let nothing = GuardianProgram::new("/no/such/program", [""; 0]);
    let without = StdioConnector::new().with_guardian(nothing);
    let server = open(&without, sh("exec cat")).await;
    assert_eq!(stat(pid(&server))[1], std::process::id().to_string());
    within(server.close()).await.unwrap();

    // Connecting and closing again and again leaves no file, thread, task or process.
    let files = leaks::descriptor_count();
    for _ in 0..10 {
        let server = open(&connector, sh("exec cat")).await;
        within(server.close()).await.unwrap();
        drop(server);
        drop(open(&connector, sh("exec cat")).await);
    }
    until("no task is left", || leaks::task_count() == 0).await;
    until("no process is left", || {
        leaks::descendants(std::process::id()).is_empty()
    })
    .await;
    until("no file is left", || leaks::descriptor_count() == files).await;
    until("no thread of ours is left", || {
        !thread_names().iter().any(|name| name.starts_with("mcpool"))
    })
    .await;
    assert!(leaks::thread_count() <= threads + 8, "the runtime's own");
}

fn thread_names() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .collect()
}

async fn a_guardian_that_is_killed_takes_its_servers_along(connector: &StdioConnector) {
    let deaf = "trap '' TERM HUP; while :; do sleep 1000; done";
    let one = open(connector, sh(deaf)).await;
    let two = open(connector, sh(deaf)).await;
    let pids = [pid(&one), pid(&two)];
    let guardian = guardian_of(&one);
    leaks::kill_process(guardian);
    loss(&one).await;
    drop(two);
    until("the servers are dead", || {
        !pids.iter().any(|pid| leaks::is_alive(*pid))
    })
    .await;
    drop(one);
    // The next server has another.
    let next = open(connector, sh("exec cat")).await;
    assert_ne!(guardian_of(&next), guardian);
    within(next.close()).await.unwrap();
}

async fn a_guardian_that_is_stopped_stops_nobody(connector: &StdioConnector) {
    let server = open(
        connector,
        hasty(sh("trap '' TERM; while :; do sleep 1000; done")),
    )
    .await;
    let other = open(connector, sh("exec sleep 1000")).await;
    let guardian = guardian_of(&server);
    let signal = |name: &str| {
        let kill = std::process::Command::new("kill")
            .args(["-s", name, &guardian.to_string()])
            .status();
        assert!(kill.unwrap().success());
    };
    signal("STOP");
    let began = std::time::Instant::now();
    within(server.close()).await.unwrap_err();
    assert!(!leaks::is_alive(pid(&server)));
    drop(other);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    drop(server);
    signal("CONT");
}
