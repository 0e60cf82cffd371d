//! Real third-party servers over every transport that they speak: connect, list, call, check the
//! answer, and look that nothing is left.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{process::Command, time::Duration};

use mcpool::{
    Client, ClientFactory, ConnectOptions, ConnectionManager, ErrorKind, Refresh, Request,
    RequestOptions, ServerSpec, StandardFactory, StdioSpec, Verbs as _,
};
use mcpool_e2e::{HttpServer, Servers, free_port};
use mcpool_testkit::{
    eventually,
    leaks::{self, Marker},
};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(30);

/// What is known of a server.
struct Expected {
    tools: usize,
    protocol: &'static str,
    call: Option<(&'static str, Value, String)>,
}

impl Expected {
    fn new(tools: usize, protocol: &'static str) -> Self {
        Self {
            tools,
            protocol,
            call: None,
        }
    }

    /// A call and what its answer holds.
    fn answers(mut self, tool: &'static str, arguments: Value, holds: impl Into<String>) -> Self {
        self.call = Some((tool, arguments, holds.into()));
        self
    }
}

const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

fn spec_of(name: &str, process: StdioSpec, marker: &Marker) -> ServerSpec {
    let (variable, value) = marker.env();
    ServerSpec::stdio(name, process.with_env(variable, value)).unwrap()
}

async fn examine(client: &dyn Client, expected: &Expected) {
    let info = client.info().unwrap();
    assert_eq!(
        info.protocol.as_str(),
        expected.protocol,
        "{:?}",
        info.evidence
    );
    let listing = client.list_tools().await.unwrap();
    let names: Vec<_> = listing.values().map(|tool| &tool.name).collect();
    assert_eq!(listing.items.len(), expected.tools, "{names:?}");
    assert_eq!(listing.rejected, []);
    client.probe(LONG).await.unwrap();
    if let Some((tool, arguments, holds)) = &expected.call {
        let result = client.call_tool(tool, arguments).await.unwrap();
        let answer: Value = result.raw().parse().unwrap();
        assert_ne!(answer["isError"], true, "{answer}");
        let text = answer["content"].to_string() + &answer["structuredContent"].to_string();
        assert!(text.contains(holds.as_str()), "{holds:?} is not in {text}");
    }
}

/// Closed in good order, and dropped without a word: nothing may be left either way.
async fn over_stdio(name: &str, process: StdioSpec, expected: Expected) {
    let marker = Marker::new();
    let spec = spec_of(name, process, &marker);
    let factory = StandardFactory::new();
    let client = factory
        .connect(&spec, &ConnectOptions::new())
        .await
        .unwrap();
    assert!(!marker.processes().is_empty());
    examine(client.as_ref(), &expected).await;
    client.close().await;
    assert_eq!(marker.processes(), [0_u32; 0], "left after close");

    let client = factory
        .connect(&spec, &ConnectOptions::new())
        .await
        .unwrap();
    assert!(!marker.processes().is_empty());
    drop(client);
    let gone = eventually(LONG, || marker.processes().is_empty()).await;
    assert!(gone, "left after drop: {:?}", marker.processes());
}

async fn over_network(server: &HttpServer, spec: &ServerSpec, expected: Expected) {
    let factory = StandardFactory::new();
    let client = factory.connect(spec, &ConnectOptions::new()).await.unwrap();
    examine(client.as_ref(), &expected).await;
    client.close().await;
    drop(client);
    drop(factory);
    // The pool of the process keeps an idle connection for 60 s, for the next session, and looks
    // every 60 s. Most servers close theirs sooner; one that was opened and never used is left to
    // the pool.
    let bound = Duration::from_secs(2 * 60) + LONG;
    let gone = eventually(bound, || leaks::connections_to(server.port()) == 0).await;
    assert!(gone, "sockets are left after close");
}

fn echo(expected: Expected) -> Expected {
    expected.answers("echo", json!({"message": "hi"}), "Echo: hi")
}

fn everything() -> Expected {
    echo(Expected::new(13, LEGACY))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_over_stdio() {
    let Some(process) = Servers::here().node("mcp-server-everything") else {
        return;
    };
    over_stdio("everything", process.with_args(["stdio"]), everything()).await;
}

async fn everything_on(transport: &str) -> Option<HttpServer> {
    let process = Servers::here().node("mcp-server-everything")?;
    let port = free_port();
    let process = process
        .with_args([transport])
        .with_env("PORT", port.to_string());
    Some(HttpServer::start(&process, port).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_over_sse() {
    let Some(server) = everything_on("sse").await else {
        return;
    };
    let spec = ServerSpec::sse("everything", server.at("/sse")).unwrap();
    over_network(&server, &spec, everything()).await;
    let found = ServerSpec::url("everything", server.at("/sse").url).unwrap();
    over_network(&server, &found, everything()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_over_streamable_http() {
    let Some(server) = everything_on("streamableHttp").await else {
        return;
    };
    let spec = ServerSpec::http("everything", server.at("/mcp")).unwrap();
    over_network(&server, &spec, everything()).await;
    let found = ServerSpec::url("everything", server.at("/mcp").url).unwrap();
    over_network(&server, &found, everything()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filesystem() {
    let Some(process) = Servers::here().node("mcp-server-filesystem") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let file = dir.join("note.txt");
    std::fs::write(&file, "a note for the test").unwrap();
    let expected = Expected::new(14, LEGACY).answers(
        "read_text_file",
        json!({"path": file}),
        "a note for the test",
    );
    let process = process.with_args([dir.to_string_lossy()]);
    over_stdio("filesystem", process, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    let Some(process) = Servers::here().node("mcp-server-memory") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("memory.jsonl");
    let process = process.with_env("MEMORY_FILE_PATH", file.to_string_lossy().into_owned());
    let entity = json!({"name": "mcpool", "entityType": "crate", "observations": ["it connects"]});
    let expected = Expected::new(9, LEGACY).answers(
        "create_entities",
        json!({"entities": [entity]}),
        "it connects",
    );
    over_stdio("memory", process, expected).await;
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(kept.contains("it connects"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_thinking() {
    let Some(process) = Servers::here().node("mcp-server-sequential-thinking") else {
        return;
    };
    let thought = json!({
        "thought": "one step", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1,
    });
    let expected =
        Expected::new(1, LEGACY).answers("sequentialthinking", thought, "thoughtHistoryLength");
    over_stdio("thinking", process, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time() {
    let Some(process) = Servers::here().python("python", "mcp-server-time") else {
        return;
    };
    let noon = json!({
        "source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo",
    });
    let expected = Expected::new(2, MODERN).answers("convert_time", noon, "T21:00:00+09:00");
    over_stdio("time", process, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git() {
    let Some(process) = Servers::here().python("python", "mcp-server-git") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let init = Command::new("git")
        .args(["init", "--quiet", "--initial-branch=trunk"])
        .arg(dir.path())
        .status();
    if !init.is_ok_and(|status| status.success()) {
        return mcpool_e2e::skip("mcp-server-git", "git is not in PATH");
    }
    std::fs::write(dir.path().join("new.txt"), "new").unwrap();
    let arguments = json!({"repo_path": dir.path()});
    let expected = Expected::new(12, MODERN).answers("git_status", arguments, "new.txt");
    over_stdio("git", process, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn context7_over_stdio_and_http() {
    let Some(process) = Servers::here().node("context7-mcp") else {
        return;
    };
    // Its tools need the internet: it is listed only.
    let expected = Expected::new(2, MODERN);
    over_stdio("context7", process.clone(), expected).await;
    let port = free_port();
    let args = ["--transport", "http", "--port", &port.to_string()];
    let server = HttpServer::start(&process.with_args(args), port).await;
    let spec = ServerSpec::http("context7", server.at("/mcp")).unwrap();
    over_network(&server, &spec, Expected::new(2, MODERN)).await;
}

async fn python_sdk(environment: &str, stdio: &'static str, http: &'static str) {
    let servers = Servers::here();
    let Some(process) = servers.sdk(environment, &["stdio"]) else {
        return;
    };
    let added = |protocol| Expected::new(2, protocol).answers("add", json!({"a": 2, "b": 3}), "5");
    over_stdio("sdk", process, added(stdio)).await;
    let start = async |transport: &str| {
        let port = free_port();
        let process = servers.sdk(environment, &[transport, &port.to_string()]);
        HttpServer::start(&process.unwrap(), port).await
    };
    let server = start("sse").await;
    let spec = ServerSpec::sse("sdk", server.at("/sse")).unwrap();
    over_network(&server, &spec, added(LEGACY)).await;
    let server = start("streamable-http").await;
    let spec = ServerSpec::http("sdk", server.at("/mcp")).unwrap();
    over_network(&server, &spec, added(http)).await;

    // A tool that fails is an answer, not an error.
    let factory = StandardFactory::new();
    let client = factory
        .connect(&spec, &ConnectOptions::new())
        .await
        .unwrap();
    let why = json!({"message": "on purpose"});
    let failed = client.call_tool("fail", why).await.unwrap();
    assert_eq!(failed.is_error, Some(true));
    let read = client.read_resource("sdk://greeting").await.unwrap();
    let read = read.raw().get();
    assert!(read.contains("Hello from the SDK"), "{read}");
    let request = Request::new("no/such/method");
    let unknown = client.request(&request, &RequestOptions::new()).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Rpc);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_1_over_all_transports() {
    python_sdk("python-sdk1", LEGACY, LEGACY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_2_over_all_transports() {
    python_sdk("python-sdk2", MODERN, MODERN).await;
}

/// All of them in one manager: connected in parallel, one view of all tools, one shutdown.
#[tokio::test(flavor = "multi_thread")]
async fn all_in_one_manager() {
    let servers = Servers::here();
    let marker = Marker::new();
    let processes = [
        ("everything", servers.node("mcp-server-everything")),
        ("memory", servers.node("mcp-server-memory")),
        ("thinking", servers.node("mcp-server-sequential-thinking")),
        ("time", servers.python("python", "mcp-server-time")),
        ("sdk1", servers.sdk("python-sdk1", &["stdio"])),
        ("sdk2", servers.sdk("python-sdk2", &["stdio"])),
    ];
    let mut specs = Vec::new();
    for (name, process) in processes {
        let Some(process) = process else { return };
        let file = marker.dir().join("memory.jsonl");
        let process = process.with_env("MEMORY_FILE_PATH", file.to_string_lossy().into_owned());
        specs.push(spec_of(name, process, &marker));
    }
    let manager = ConnectionManager::new(std::sync::Arc::new(StandardFactory::new()));
    manager.start(specs).await.unwrap().all_connected().unwrap();
    for (name, connected) in manager.connect_all().await {
        connected.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let tools = manager.tools(Refresh::IfStale).await;
    assert_eq!(tools.len(), 13 + 9 + 1 + 2 + 2 + 2);
    let arguments = json!({"a": 20, "b": 22});
    for server in ["sdk1", "sdk2"] {
        let tool = format!("{server}__add");
        let answer = manager.call(&tool, &arguments).await.unwrap();
        let answer = answer.raw().get();
        assert!(answer.contains("42"), "{answer}");
    }
    manager.shutdown(LONG).await;
    assert_eq!(marker.processes(), [0_u32; 0], "left after shutdown");
}
