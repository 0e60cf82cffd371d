//! The `mcpool` binary, as its users run it: against real servers, broken servers, `kill -9` and
//! Ctrl-C.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use mcpool_e2e::{Cli, HttpServer, Servers, free_port};
use mcpool_testkit::{
    Behavior, DiscoverReaction, eventually_blocking,
    fixtures::{http::HttpFixture, sse::SseFixture, stdio::fixture_path},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(30);

/// Rounds of the tests that repeat; `MCPOOL_STRESS=1` runs the hundred of the acceptance list.
fn rounds() -> usize {
    match std::env::var_os("MCPOOL_STRESS") {
        Some(_) => 100,
        None => 6,
    }
}

fn fixture(change: impl FnOnce(&mut Behavior)) -> Value {
    let behavior = Behavior::new().with(change);
    json!({"command": fixture_path(), "args": behavior.to_args()})
}

/// A launcher as `npx` is one, whose server ignores SIGTERM and the end of stdin.
fn stubborn() -> Value {
    fixture(|behavior| {
        behavior.wrapper = true;
        behavior.ignore_sigterm = true;
        behavior.ignore_eof = true;
    })
}

fn one(name: &str, server: Value) -> Cli {
    let mut config = json!({"mcpServers": {}});
    config["mcpServers"][name] = server;
    Cli::new(config)
}

fn named<'a>(status: &'a Value, name: &str) -> &'a Value {
    let servers = status["servers"].as_array().unwrap();
    let found = servers.iter().find(|server| server["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {status}"))
}

fn nothing_left(cli: &Cli, within: Duration) {
    let gone = eventually_blocking(within, || cli.marker().processes().is_empty());
    assert!(gone, "left: {:?}", cli.marker().processes());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_over_three_transports_in_one_file() {
    let Some(program) = Servers::here().node("mcp-server-everything") else {
        return;
    };
    let start = async |transport: &str| {
        let port = free_port();
        let process = program
            .clone()
            .with_args([transport])
            .with_env("PORT", port.to_string());
        HttpServer::start(&process, port).await
    };
    let (sse, http) = tokio::join!(start("sse"), start("streamableHttp"));
    let cli = Cli::new(json!({"mcpServers": {
        "local": {"command": program.command, "args": ["stdio"]},
        "events": {"type": "sse", "url": sse.at("/sse").url},
        "streamable": {"type": "http", "url": http.at("/mcp").url},
    }}));
    let status = cli.run(&["--json", "status"]);
    assert_eq!(status.code(), Some(0), "{}", status.stderr());
    let transports = [
        ("local", "stdio"),
        ("events", "sse"),
        ("streamable", "http"),
    ];
    for (name, transport) in transports {
        let status = status.json();
        let server = named(&status, name);
        assert_eq!(server["state"], "ready", "{server}");
        assert_eq!(server["transport"], transport, "{server}");
        assert_eq!(server["tools"], 13, "{server}");
        assert_eq!(server["error"], Value::Null, "{server}");
        assert!(server["connect_ms"].is_u64(), "{server}");
        assert!(server["protocol"].is_string(), "{server}");
    }
    let tools = cli.run(&["--json", "tools"]).json();
    let tools = tools["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 3 * 13);
    for tool in tools {
        assert!(tool["input_schema"].is_object(), "{tool}");
        assert!(tool["description"].is_string(), "{tool}");
        assert!(tool["qualified_name"].is_string(), "{tool}");
    }
    for (name, _) in transports {
        let called = cli.run(&["--json", "call", name, "echo", "message=hi"]);
        assert_eq!(called.code(), Some(0), "{}", called.stderr());
        assert_eq!(called.json()["content"][0]["text"], "Echo: hi");
    }
    nothing_left(&cli, LONG);
}

/// Six good servers and four that are broken in four ways.
struct Ten {
    cli: Cli,
    _sse: SseFixture,
    _http: HttpFixture,
}

/// The slowest good server takes so long to start.
const SLOWEST: Duration = Duration::from_millis(1500);

fn ten() -> Ten {
    let sse = SseFixture::start(Behavior::new()).unwrap();
    let http = HttpFixture::start(Behavior::modern()).unwrap();
    let cli = Cli::new(json!({"mcpServers": {
        "plain": fixture(|_| {}),
        "slow": fixture(|b| b.start_delay_ms = u64::try_from(SLOWEST.as_millis()).unwrap()),
        "noisy": fixture(|b| { b.noise = true; b.crlf = true; }),
        "silent": fixture(|b| b.discover = DiscoverReaction::Silent),
        "events": {"type": "sse", "url": sse.url()},
        "modern": {"type": "http", "url": http.url()},
        "missing": {"command": "mcpool-no-such-command-anywhere"},
        "exits": fixture(|b| b.exit_at_start = Some(1)),
        "mute": fixture(|b| { b.never_answer = true; b.startup_stderr_bytes = 128; }),
        "garbage": fixture(|b| b.garbage_only = true),
    }}));
    Ten {
        cli,
        _sse: sse,
        _http: http,
    }
}

const GOOD: [&str; 6] = ["plain", "slow", "noisy", "silent", "events", "modern"];

#[test]
fn broken_servers_do_not_hide_the_good_ones_and_say_why() {
    let ten = ten();
    let status = ten
        .cli
        .run(&["--json", "--connect-timeout", "8s", "status"]);
    assert_eq!(status.code(), Some(4), "{}", status.stderr());
    let json = status.json();
    assert_eq!(json["servers"].as_array().unwrap().len(), 10);
    for name in GOOD {
        assert_eq!(named(&json, name)["state"], "ready", "{json}");
    }
    let error = |name: &str| {
        let server = named(&json, name);
        assert_ne!(server["state"], "ready", "{server}");
        server["error"].clone()
    };
    let stderr = |error: &Value| error["stderr_tail"].to_string();
    assert_eq!(error("missing")["kind"], "command_not_found");
    let exits = error("exits");
    assert_eq!(exits["kind"], "process_exited", "{exits}");
    assert!(stderr(&exits).contains("TOKEN is not set"), "{exits}");
    let mute = error("mute");
    assert_eq!(mute["kind"], "timeout", "{mute}");
    assert!(stderr(&mute).contains("eeee"), "{mute}");
    let garbage = error("garbage");
    assert!(
        stderr(&garbage).contains("this is not an MCP server"),
        "{garbage}"
    );
    nothing_left(&ten.cli, LONG);
}

/// The tools of the good ones are there while the broken ones are still waited for.
#[tokio::test(flavor = "multi_thread")]
async fn good_servers_are_usable_in_the_time_of_the_slowest_good_one() {
    use mcpool::{ConnectionManager, ServerSpec, StandardFactory, StdioSpec, Verbs as _};

    let marker = mcpool_testkit::leaks::Marker::new();
    let spec = |name: &str, change: &dyn Fn(&mut Behavior)| {
        let (variable, value) = marker.env();
        let process = StdioSpec::new(fixture_path().to_string_lossy())
            .with_args(Behavior::new().with(change).to_args())
            .with_env(variable, value);
        ServerSpec::stdio(name, process)
            .unwrap()
            .with_start(mcpool::StartMode::Background)
    };
    let slowest = u64::try_from(SLOWEST.as_millis()).unwrap();
    let manager = ConnectionManager::new(std::sync::Arc::new(StandardFactory::new()));
    let start = Instant::now();
    let _report = manager
        .start(vec![
            spec("mute", &|b| b.never_answer = true),
            spec("garbage", &|b| b.garbage_only = true),
            spec("exits", &|b| b.exit_at_start = Some(1)),
            spec("plain", &|_| {}),
            spec("noisy", &|b| b.noise = true),
            spec("slow", &|b| b.start_delay_ms = slowest),
        ])
        .await
        .unwrap();
    let call = async |name: &str| {
        let called = manager
            .server(name)
            .unwrap()
            .call_tool("echo", json!({"message": "hi"}))
            .await;
        called.unwrap_or_else(|error| panic!("{name}: {error}"));
        start.elapsed()
    };
    let (plain, noisy, slow) = tokio::join!(call("plain"), call("noisy"), call("slow"));
    // The startup timeout, for which the mute one is waited, is 30 s.
    assert!(plain < Duration::from_secs(10), "{plain:?}");
    assert!(noisy < Duration::from_secs(10), "{noisy:?}");
    assert!(slow < SLOWEST + Duration::from_secs(10), "{slow:?}");
    assert!(plain < slow && noisy < slow, "{plain:?} {noisy:?} {slow:?}");
    println!("usable after: plain {plain:?}, noisy {noisy:?}, slow {slow:?}");
    manager.shutdown(LONG).await;
    let gone = eventually_blocking(LONG, || marker.processes().is_empty());
    assert!(gone, "left: {:?}", marker.processes());
}

#[test]
fn exit_codes() {
    let cli = one("fixture", fixture(|_| {}));
    assert_eq!(cli.run(&["status"]).code(), Some(0));
    assert_eq!(cli.run(&["health"]).code(), Some(0));
    assert_eq!(cli.run(&["no-such-command"]).code(), Some(2));
    assert_eq!(cli.run(&["call", "nobody", "echo"]).code(), Some(2));
    let fail = cli.run(&["call", "fixture", "fail", "message=on purpose"]);
    assert_eq!(fail.code(), Some(5), "{}", fail.stderr());
    let crash = cli.run(&["call", "fixture", "crash"]);
    assert_eq!(crash.code(), Some(6), "{}", crash.stderr());
    nothing_left(&cli, LONG);

    let broken = one(
        "broken",
        json!({"command": "mcpool-no-such-command-anywhere"}),
    );
    assert_eq!(broken.run(&["status"]).code(), Some(4));
    let syntax = Cli::without_config();
    let file = syntax.dir().join("bad.json");
    std::fs::write(&file, "{ not json").unwrap();
    let file = file.to_string_lossy().into_owned();
    assert_eq!(syntax.run(&["--config", &file, "status"]).code(), Some(2));

    let options = {
        let mut options = mcpool_testkit::fixtures::http::HttpOptions::default();
        options.token = Some("secret".into());
        options
    };
    let locked = HttpFixture::start_with(Behavior::new(), options).unwrap();
    let cli = one("locked", json!({"type": "http", "url": locked.url()}));
    let status = cli.run(&["--json", "status"]);
    assert_eq!(
        status.code(),
        Some(3),
        "{}{}",
        status.stdout(),
        status.stderr()
    );
}

#[test]
fn call_prints_the_result_of_the_server_untouched() {
    let cli = one("fixture", fixture(|_| {}));
    let added = cli.run(&[
        "--json",
        "call",
        "fixture",
        "add",
        "--args",
        r#"{"a":2,"b":3}"#,
    ]);
    assert_eq!(added.json()["structuredContent"]["sum"], 5.0);
    let typed = cli.run(&["--json", "call", "fixture", "add", "a=2", "b=40"]);
    assert_eq!(typed.json()["structuredContent"]["sum"], 42.0);
    let failed = cli.run(&["--json", "call", "fixture", "fail", "message=why"]);
    assert_eq!(failed.code(), Some(5));
    assert_eq!(failed.json()["isError"], true);
    let resources = cli.run(&["--json", "resources"]);
    assert!(resources.stdout().contains("fixture://one"));
    let prompts = cli.run(&["--json", "prompts"]);
    assert!(prompts.stdout().contains("greet"));
}

#[test]
fn bench_says_how_fast() {
    let cli = one("fixture", fixture(|_| {}));
    let args = r#"{"message":"hi"}"#;
    let bench = [
        "--json", "bench", "fixture", "echo", "--args", args, "-n", "200", "-c", "4",
    ];
    let bench = cli.run(&bench);
    assert_eq!(bench.code(), Some(0), "{}", bench.stderr());
    let bench = bench.json();
    assert_eq!(
        (&bench["calls"], &bench["concurrency"]),
        (&json!(200), &json!(4))
    );
    assert_eq!(bench["errors"], 0);
    for key in [
        "connect_ms",
        "calls_per_s",
        "p50_us",
        "p90_us",
        "p99_us",
        "rss_bytes",
    ] {
        assert!(
            bench[key].as_f64().is_some_and(|n| n > 0.0),
            "{key}: {bench}"
        );
    }
    let order = ["p50_us", "p90_us", "p99_us"].map(|key| bench[key].as_f64().unwrap());
    assert!(order.is_sorted(), "{bench}");
}

#[test]
fn the_demo_needs_nothing_and_leaves_nothing() {
    let cli = Cli::without_config();
    let demo = cli.run(&["demo"]);
    assert_eq!(demo.code(), Some(0), "{}{}", demo.stdout(), demo.stderr());
    assert!(
        demo.stdout().contains("processes left: 0"),
        "{}",
        demo.stdout()
    );
    nothing_left(&cli, LONG);
}

/// `kill -9` of the program, at its start and in the middle of a call.
#[test]
fn kill_9_leaves_nothing() {
    let cli = one("stubborn", stubborn());
    for round in 0..rounds() {
        let mut running = cli.start(&["call", "stubborn", "hang"]);
        // The program itself, then the launcher, then the server behind it.
        let wanted = 2 + round % 2;
        let up = eventually_blocking(LONG, || cli.marker().processes().len() >= wanted);
        assert!(up, "round {round}: {:?}", running.finish());
        running.kill();
        nothing_left(&cli, LONG);
    }
}

#[test]
fn a_clean_exit_leaves_nothing() {
    let cli = one("stubborn", stubborn());
    for round in 0..rounds() {
        let called = cli.run(&["call", "stubborn", "echo", "message=hi"]);
        assert_eq!(called.code(), Some(0), "round {round}: {}", called.stderr());
        // The command ends with its answer, its servers within their shutdown policy.
        nothing_left(&cli, LONG);
    }
}

/// Ctrl-C while it connects, calls, watches.
#[test]
fn ctrl_c_leaves_nothing() {
    let mut config = json!({"mcpServers": {"stubborn": stubborn()}});
    config["mcpServers"]["slow"] = fixture(|b| {
        b.start_delay_ms = 60_000;
        b.ignore_sigterm = true;
    });
    let cli = Cli::new(config);
    let commands: [&[&str]; 4] = [
        &["call", "stubborn", "hang"],
        &["call", "slow", "echo"],
        &["status"],
        &["--json", "watch"],
    ];
    for command in commands {
        let mut running = cli.start(command);
        let up = eventually_blocking(LONG, || cli.marker().processes().len() >= 2);
        assert!(up, "{command:?}: {:?}", running.finish());
        let pid = Pid::from_raw(i32::try_from(running.child.id()).unwrap());
        let start = Instant::now();
        kill(pid, Signal::SIGINT).unwrap();
        let ended = eventually_blocking(LONG, || !matches!(running.child.try_wait(), Ok(None)));
        assert!(ended, "{command:?} goes on after SIGINT");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(15), "{command:?} took {took:?}");
        nothing_left(&cli, Duration::from_secs(2));
        let code = running.finish().status.code();
        let watches = command.contains(&"watch");
        assert!(
            code == Some(130) || (watches && code == Some(0)),
            "{command:?}: {code:?}"
        );
    }
}

/// The same by dropping the manager in a program whose runtime has already stopped.
#[test]
fn a_manager_dropped_after_its_runtime_leaves_nothing() {
    use mcpool::{ConnectionManager, ServerSpec, StandardFactory, StdioSpec};

    let marker = mcpool_testkit::leaks::Marker::new();
    let behavior = Behavior::new().with(|behavior| {
        behavior.wrapper = true;
        behavior.ignore_sigterm = true;
        behavior.ignore_eof = true;
    });
    for round in 0..rounds() {
        let (variable, value) = marker.env();
        let process = StdioSpec::new(fixture_path().to_string_lossy())
            .with_args(behavior.to_args())
            .with_env(variable, value);
        let spec = ServerSpec::stdio("stubborn", process).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let manager = ConnectionManager::new(std::sync::Arc::new(StandardFactory::new()));
        runtime.block_on(async {
            let _report = manager.start(vec![spec]).await.unwrap();
            manager.server("stubborn").unwrap().connect().await.unwrap();
        });
        assert!(marker.processes().len() >= 2);
        drop(runtime);
        drop(manager);
        let gone = eventually_blocking(LONG, || marker.processes().is_empty());
        assert!(gone, "round {round}: left {:?}", marker.processes());
    }
}
