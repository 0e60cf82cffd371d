//! Start, death, close and drop of real processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mcpool_core::{
    Connector, Delivery, EnvInheritance, ErrorKind, HttpSpec, StdioSpec, Transport, TransportSpec,
};
use mcpool_stdio::{StderrEvent, StdioConnector};
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture, leaks};
use support::*;

async fn all_three_run(fixture: &StdioFixture) {
    until("launcher, server and detached child run", || {
        // The detached child runs in its own session once it has left its mark.
        let marks = std::fs::read_dir(fixture.marker().dir()).unwrap().count();
        fixture.marker().processes().len() == 3 && marks == 3
    })
    .await;
}

#[tokio::test]
async fn an_exit_is_reported_with_status_and_stderr() {
    let transport = open(sh("echo 'TOKEN is not set' >&2; exit 3")).await;
    let failure = loss(&transport).await;
    assert_eq!(failure.kind(), ErrorKind::ProcessExited);
    assert_eq!(failure.to_string(), "test: the server exited with status 3");
    assert_eq!(failure.stderr_tail()[0].text, "TOKEN is not set");
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!(diagnostics.exit_status.unwrap(), "exited with status 3");

    let error = ping(&transport).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProcessExited);
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert_eq!(error.stderr_tail()[0].text, "TOKEN is not set");
    within(transport.close()).await.unwrap();
    assert!(transport.monitor().failure().is_some(), "it stays known");
}

#[tokio::test]
async fn death_by_a_signal_is_named() {
    let transport = open(sh("kill -s KILL $$")).await;
    let failure = loss(&transport).await;
    assert_eq!(
        failure.message(),
        "the server was killed by signal 9 (SIGKILL)"
    );
}

#[tokio::test]
async fn pending_requests_say_what_is_known_of_their_delivery() {
    // The server says so when it has the first byte, and reads no more.
    let script = "head -c 1 >/dev/null; echo ready >&2; exec sleep 1000";
    let transport = open(sh(script)).await;
    let begun = big(&transport, 1 << 20);
    let waiting = ping(&transport);
    tokio::pin!(begun, waiting);
    tokio::select! {
        ended = &mut begun => panic!("nobody answers: {ended:?}"),
        () = until_ready(&transport) => {}
    }
    assert!(futures::poll!(&mut waiting).is_pending());
    leaks::kill_process(transport.monitor().diagnostics().pid.unwrap());
    let (begun, waiting) = tokio::join!(begun, waiting);
    let (begun, waiting) = (begun.unwrap_err(), waiting.unwrap_err());
    assert_eq!(begun.kind(), ErrorKind::ProcessExited, "{begun:?}");
    assert_eq!(begun.delivery(), Delivery::Unknown, "a part was written");
    assert_eq!(waiting.kind(), ErrorKind::ProcessExited, "{waiting:?}");
    assert_eq!(waiting.delivery(), Delivery::NotSent, "nothing was written");
}

#[tokio::test]
async fn what_a_program_wrote_to_stdout_stands_in_the_error() {
    let transport = open(sh("echo 'usage: server --stdio'; exit 2")).await;
    assert_eq!(
        loss(&transport).await.message(),
        "the server exited with status 2; its stdout began with \"usage: server --stdio\""
    );
}

#[tokio::test]
async fn a_server_that_closes_stdout_or_stdin_and_stays_is_lost() {
    let transport = open(hasty(sh("exec >/dev/null; exec sleep 1000"))).await;
    let failure = loss(&transport).await;
    assert_eq!(failure.kind(), ErrorKind::ConnectionLost);
    assert!(failure.message().contains("stdout"), "{failure}");

    let script = "exec </dev/null; echo closed >&2; exec sleep 1000";
    let transport = open(hasty(sh(script))).await;
    until_ready(&transport).await;
    let error = ping(&transport).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::NotSent);
    let failure = loss(&transport).await;
    assert!(failure.message().contains("no longer reads"), "{failure}");
    let monitor = transport.monitor();
    until("it is killed", || {
        monitor.diagnostics().exit_status.is_some()
    })
    .await;
}

#[tokio::test]
async fn an_obedient_server_is_closed_at_once() {
    let transport = open(sh("exec cat")).await;
    let began = Instant::now();
    within(transport.close()).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(1_900),
        "no grace was waited for"
    );
    within(transport.close()).await.unwrap();
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!(diagnostics.exit_status.unwrap(), "exited with status 0");
    assert_eq!(diagnostics.killed_processes, 0);
    let error = ping(&transport).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Closed, Delivery::NotSent)
    );
}

#[tokio::test]
async fn a_server_stuck_in_a_write_is_closed_in_order() {
    // It fills stdout, which nobody reads, before it looks at stdin.
    let transport = open(sh("head -c 10000000 /dev/zero; exec cat >/dev/null")).await;
    within(transport.close()).await.unwrap();
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!(diagnostics.exit_status.unwrap(), "exited with status 0");
}

#[tokio::test]
async fn sigterm_comes_before_sigkill() {
    let server = sh("while :; do sleep 1000; done");
    let transport = open(with_graces(server, Duration::from_millis(50), PATIENCE)).await;
    within(transport.close()).await.unwrap();
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!(
        diagnostics.exit_status.unwrap(),
        "was killed by signal 15 (SIGTERM)"
    );
}

#[tokio::test]
async fn close_kills_the_whole_stubborn_family() {
    let fixture = stubborn();
    let transport = open(hasty(stdio(fixture.process()))).await;
    all_three_run(&fixture).await;
    let began = Instant::now();
    let error = within(transport.close()).await.unwrap_err();
    assert!(error.message().contains("killed"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(fixture.marker().processes(), [] as [u32; 0]);
    assert_eq!(transport.monitor().diagnostics().killed_processes, 3);
    assert!(transport.monitor().failure().is_none());
}

#[tokio::test]
async fn a_server_behind_a_launcher_may_finish_in_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flushed");
    // The launcher exits with the end of stdin and does not wait for the server behind it.
    let script = format!(
        "exec 3<&0; (cat <&3 >/dev/null; sleep 0.05; echo done >'{}') & cat >/dev/null",
        file.display()
    );
    let server = with_graces(sh(&script), Duration::from_secs(2), 4 * PATIENCE);
    let transport = open(server).await;
    within(transport.close()).await.unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "done\n");
    assert_eq!(transport.monitor().diagnostics().killed_processes, 0);
}

#[tokio::test]
async fn what_stays_behind_an_obedient_leader_is_killed_in_a_close() {
    let fixture = stubborn();
    let process = fixture.process();
    let server = std::iter::once(process.command.as_str())
        .chain(process.args.iter().map(String::as_str))
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>()
        .join(" ");
    let mut launcher = process.clone();
    launcher.command = "/bin/sh".into();
    launcher.args = vec!["-c".into(), format!("{server} & exec cat >/dev/null")];
    let launcher = with_graces(stdio(launcher), PATIENCE, Duration::from_millis(100));
    let transport = open(launcher).await;
    until("leader, launcher, server and detached child run", || {
        let marks = std::fs::read_dir(fixture.marker().dir()).unwrap().count();
        fixture.marker().processes().len() == 4 && marks == 3
    })
    .await;
    within(transport.close()).await.unwrap();
    assert_eq!(fixture.marker().processes(), [] as [u32; 0]);
    let diagnostics = transport.monitor().diagnostics();
    assert_eq!(diagnostics.exit_status.unwrap(), "exited with status 0");
    assert_eq!(diagnostics.killed_processes, 3);
}

#[tokio::test]
async fn a_close_that_had_to_kill_says_so_each_time() {
    let transport = open(hasty(sh(
        "trap '' TERM; echo ready >&2; while :; do sleep 1000; done",
    )))
    .await;
    let monitor = transport.monitor();
    until_ready(&transport).await;
    for _ in 0..2 {
        let error = within(transport.close()).await.unwrap_err();
        assert_eq!(error.operation(), Some("close"));
        assert!(error.message().contains("killed"), "{error}");
    }
    let status = monitor.diagnostics().exit_status.unwrap();
    assert_eq!(status, "was killed by signal 9 (SIGKILL)");
}

#[tokio::test]
async fn close_keeps_to_its_total_and_may_be_dropped_and_begun_again() {
    let mut server = sh("trap '' TERM; echo ready >&2; while :; do sleep 1000; done");
    server.shutdown.total = Duration::from_secs(2);
    let transport = open(server).await;
    until_ready(&transport).await;
    let began = Instant::now();
    for _ in 0..3 {
        let part = tokio::time::timeout(Duration::from_millis(10), transport.close());
        assert!(part.await.is_err(), "it is not killed so soon");
    }
    within(transport.close()).await.unwrap_err();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(1_600),
        "graces were kept: {took:?}"
    );
    assert!(
        took < Duration::from_secs(3),
        "the total was kept: {took:?}"
    );
    assert!(!leaks::is_alive(
        transport.monitor().diagnostics().pid.unwrap()
    ));
}

#[tokio::test]
async fn what_a_server_leaves_behind_at_its_own_exit_is_killed() {
    let fixture = stubborn();
    let transport = open(stdio(fixture.process())).await;
    all_three_run(&fixture).await;
    leaks::kill_process(transport.monitor().diagnostics().pid.unwrap());
    loss(&transport).await;
    until("all are dead", || fixture.marker().processes().is_empty()).await;
    within(transport.close()).await.unwrap();
    assert_eq!(transport.monitor().diagnostics().killed_processes, 2);
}

#[tokio::test]
async fn drop_kills_the_whole_stubborn_family_before_it_returns() {
    let fixture = stubborn();
    let transport = open(stdio(fixture.process())).await;
    all_three_run(&fixture).await;
    let monitor = transport.monitor();
    drop(transport);
    assert_eq!(fixture.marker().processes(), [] as [u32; 0]);
    assert_eq!(monitor.diagnostics().killed_processes, 3);
    assert!(monitor.diagnostics().exit_status.is_some());
}

#[test]
fn drop_works_when_the_runtime_has_stopped_or_gone() {
    for gone in [false, true] {
        let fixture = stubborn();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let transport = runtime.block_on(async {
            let transport = open(stdio(fixture.process())).await;
            all_three_run(&fixture).await;
            transport
        });
        let pid = transport.monitor().diagnostics().pid.unwrap();
        // From here on nobody drives the runtime.
        let runtime = (!gone).then_some(runtime);
        drop(transport);
        assert_eq!(fixture.marker().processes(), [] as [u32; 0]);
        // Not even a zombie is left of our child.
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        drop(runtime);
    }
}

#[tokio::test]
async fn a_cancelled_connect_leaves_no_process() {
    let fixture = StdioFixture::new(Behavior::new());
    let connector = StdioConnector::new();
    for round in 0..20_u64 {
        let connect = connector.connect(stdio(fixture.process()));
        let _ = tokio::time::timeout(Duration::from_micros(round * 100), connect).await;
    }
    until("all are dead", || fixture.marker().processes().is_empty()).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_environment_and_directory_are_those_of_the_spec() {
    let dir = tempfile::tempdir().unwrap();
    let cat = StdioSpec::new("cat")
        .with_cwd(dir.path())
        .with_env("A", "b=c d")
        .with_env("ODD.NAME", "x")
        .with_inherit_env(EnvInheritance::Nothing);
    let transport = open(stdio(cat)).await;
    let pid = transport.monitor().diagnostics().pid.unwrap();
    let environ = || std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    // The kernel lets the parent go on a moment before the new program has its environment.
    until("its environment is there", || !environ().is_empty()).await;
    let environ = environ();
    let mut vars: BTreeMap<_, _> = environ
        .split_terminator('\0')
        .map(|variable| variable.split_once('=').unwrap())
        .collect();
    assert!(vars.remove("MCPOOL_SERVER_ID").is_some());
    assert_eq!(vars, BTreeMap::from([("A", "b=c d"), ("ODD.NAME", "x")]));
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(cwd, dir.path().canonicalize().unwrap());
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group, pid.to_string(), "a process group of its own");
}

#[tokio::test]
async fn errors_of_a_start() {
    let connect = async |spec: StdioSpec| {
        let mut request = stdio(spec);
        request.server = "files".parse().unwrap();
        StdioConnector::new().open(request).await.unwrap_err()
    };
    let error = connect(StdioSpec::new("no-such-command-anywhere")).await;
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    assert!(error.is_permanent());
    let shown = error.to_string();
    assert!(
        shown.starts_with("files: connect: the command no-such-command"),
        "{shown}"
    );

    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("server");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::os::unix::fs::symlink(&script, dir.path().join("link")).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = connect(StdioSpec::new(script.to_str().unwrap())).await;
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    assert!(error.message().contains("interpreter"), "{error}");

    let mut request = stdio(StdioSpec::new("sh"));
    request.target = Arc::new(TransportSpec::Http(HttpSpec::new("http://127.0.0.1:1/")));
    let error = StdioConnector::new().open(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
}

#[tokio::test]
async fn stderr_is_a_stream_without_the_secrets_of_the_spec() {
    let connector = StdioConnector::new();
    let mut of_all = connector.stderr();
    let script = "read -r line; echo \"bad token $TOKEN\" >&2; echo \"and $KEY\" >&2; \
                  printf '\\033[2J\\n' >&2; echo $TOKEN; exec cat >/dev/null";
    let spec = StdioSpec::new("/bin/sh")
        .with_args(["-c", script])
        .with_env("TOKEN", "/canary/value=")
        .with_env("KEY", "--BEGIN KEY--\ncanary-line-1\n--END KEY--");
    let transport = connector.open(stdio(spec)).await.unwrap();
    let mut of_one = transport.stdio_monitor().stderr();
    let note = mcpool_core::Notification::new("notifications/initialized", None);
    within(transport.notify(&note)).await.unwrap();
    for stream in [&mut of_all, &mut of_one] {
        for text in [
            "bad token [redacted]",
            "and [redacted]",
            "[redacted]",
            "[redacted]",
            r"\u{1b}[2J",
        ] {
            let Some(StderrEvent::Line { server, line }) = within(stream.next()).await else {
                panic!("no line");
            };
            assert_eq!(server.as_str(), "test");
            assert_eq!(line.text, text);
        }
    }
    let monitor = transport.monitor();
    until("its stdout is read", || {
        monitor.diagnostics().skipped_lines == 1
    })
    .await;
    assert_eq!(monitor.diagnostics().skipped_samples, ["[redacted]"]);
    within(transport.close()).await.unwrap();
    assert_eq!(within(of_one.next()).await, None, "it ends with the server");
}
