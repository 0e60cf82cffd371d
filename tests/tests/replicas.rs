//! Two gateways behind HAProxy, round robin and without affinity, of which one is killed again and
//! again: older and newer clients call through it, and what the servers run is written down.
//!
//! The suite runs a sample; `MCPOOL_ENDURANCE=1` (`cargo xtask ci --long`) runs 10 000 calls.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mcpool_client::StandardFactory;
use mcpool_core::{
    Delivery, Error, HttpSpec, ProtocolChoice, ProtocolVersion, Raw, RpcError, ServerName,
    ServerPolicy, ServerRequest, ServerRequestHandler, ServerSpec, Verbs as _,
};
use mcpool_e2e::{Balancer, Cli, Gateway, rounds};
use mcpool_manager::{CallOptions, ConnectionManager, ServerHandle};
use mcpool_testkit::{Behavior, eventually, fixtures::stdio::fixture_path};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A client that answers what it is asked with its method.
struct Answers;

#[async_trait]
impl ServerRequestHandler for Answers {
    fn capabilities(&self, _: &ServerName) -> Raw {
        Raw::from_text(r#"{"elicitation":{"form":{}}}"#.to_owned()).unwrap()
    }

    async fn answer(&self, _: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        Ok(Raw::of(&json!({"action": "accept", "content": {"asked": request.method}})).unwrap())
    }
}

/// Clients of both eras behind the balancer.
async fn clients(port: u16) -> (ConnectionManager, [ServerHandle; 2]) {
    let factory = StandardFactory::new().with_handler(Arc::new(Answers));
    let manager = ConnectionManager::new(Arc::new(factory));
    let mut policy = ServerPolicy::default();
    policy.reconnect.base = Duration::from_millis(20);
    policy.reconnect.cap = Duration::from_millis(200);
    policy.reconnect.max_attempts = None;
    policy.timeouts.startup = Duration::from_secs(5);
    let versions = [ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28];
    let specs = versions.map(|version| {
        let url = format!("http://127.0.0.1:{port}/mcp");
        ServerSpec::http(format!("v{version}"), HttpSpec::new(url))
            .unwrap()
            .with_protocol(ProtocolChoice::Pinned(version))
            .with_policy(policy.clone())
    });
    let names = specs.clone().map(|spec| spec.name.clone());
    manager
        .start(specs.to_vec())
        .await
        .unwrap()
        .all_connected()
        .unwrap();
    let handles = names.map(|name| {
        let options = CallOptions::new().with_timeout(Duration::from_secs(10));
        manager
            .server(name.as_str())
            .unwrap()
            .with_call_options(options)
    });
    (manager, handles)
}

/// What became of the calls.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    unknown: usize,
    not_run: usize,
    /// Answered and not in the journal, or certainly not run and in it, or another call's answer.
    wrong: Vec<String>,
}

/// What is known of a call: its answer, or its delivery as the error or the result says.
fn known(outcome: Result<Value, Error>, key: &str) -> Result<bool, &'static str> {
    let delivery = |delivery: Delivery| match delivery {
        Delivery::NotSent | Delivery::Rejected => "not_run",
        _ => "unknown",
    };
    match outcome {
        Err(error) => Err(delivery(error.delivery())),
        Ok(result) => match result["_meta"]["mcpool/delivery"].as_str() {
            Some("not_sent" | "rejected") => Err("not_run"),
            Some(_) => Err("unknown"),
            None => Ok(result["content"][0]["text"] == key),
        },
    }
}

async fn call(server: &ServerHandle, tool: &str, arguments: Value) -> Result<Value, Error> {
    let reply = server.call_tool(tool, arguments).await?;
    reply.raw().parse()
}

/// What is kept by one gateway is reached through the other: every request may go to either.
async fn everything_works(servers: &[ServerHandle; 2]) {
    // First, while nothing else is in flight: over stdio a question names no call.
    for server in servers {
        for _ in 0..6 {
            let ask = json!({"method": "elicitation/create",
                "params": {"mode": "form", "message": "?", "requestedSchema": {"type": "object"}}});
            let asked = call(server, "victim__ask", ask).await.unwrap();
            let answer = &asked["structuredContent"]["result"]["content"]["asked"];
            assert_eq!(answer, "elicitation/create", "{asked}");
        }
    }
    for server in servers {
        // A call that is dropped is cancelled, and holds up nothing.
        for _ in 0..4 {
            let hang = call(server, "victim__hang", json!({}));
            let dropped = tokio::time::timeout(Duration::from_millis(50), hang).await;
            assert!(dropped.is_err());
        }
        server.subscribe("fixture://one").await.unwrap();
        server.unsubscribe("fixture://one").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_killed_behind_a_balancer() {
    let Some(haproxy) = Balancer::program() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let effects = directory.path().join("effects");
    let behavior =
        Behavior::new().with(|b| b.effects_file = Some(effects.to_string_lossy().into_owned()));
    let cli = Cli::new(json!({"mcpServers": {"victim": {
        "command": fixture_path(), "args": behavior.to_args(), "required": true}}}));
    let key_file = directory.path().join("key");
    std::fs::write(&key_file, "07".repeat(32)).unwrap();
    let mut gateways = [
        Gateway::start(&cli, &key_file, &[]),
        Gateway::start(&cli, &key_file, &[]),
    ];
    for gateway in &gateways {
        gateway.ready().await;
    }
    let ports = [gateways[0].port(), gateways[1].port()];
    let balancer = Balancer::start(&haproxy, directory.path(), &ports).await;
    let (manager, servers) = clients(balancer.port()).await;
    everything_works(&servers).await;

    let calls = rounds(1_500, 10_000) as u64;
    let kills = rounds(4, 40);
    let next = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(Mutex::new(Vec::new()));
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let server = servers[caller % 2].clone();
            let (next, ended) = (Arc::clone(&next), Arc::clone(&ended));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= calls {
                        return;
                    }
                    let key = format!("k{number}");
                    let arguments = json!({"key": key, "ms": number % 20});
                    let outcome = call(&server, "victim__count", arguments).await;
                    if outcome.is_err() {
                        // Nothing to spin on.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let known = known(outcome, &key);
                    ended.lock().unwrap().push((key, known));
                }
            })
        })
        .collect();
    for kill in 0..kills {
        let before = ended.lock().unwrap().len();
        let calm = || {
            let now = ended.lock().unwrap().len();
            now > before + 100 || now as u64 >= calls
        };
        assert!(eventually(PATIENCE, calm).await, "nothing goes on");
        gateways[kill % 2].again(&cli);
        gateways[kill % 2].ready().await;
    }
    for caller in callers {
        tokio::time::timeout(PATIENCE, caller)
            .await
            .expect("a call hangs")
            .unwrap();
    }
    everything_works(&servers).await;
    manager.shutdown(Duration::from_secs(10)).await;

    let journal = std::fs::read_to_string(&effects).unwrap();
    let mut ran: HashMap<&str, usize> = HashMap::new();
    for key in journal.lines() {
        *ran.entry(key).or_default() += 1;
    }
    let mut tally = Tally::default();
    let ended = std::mem::take(&mut *ended.lock().unwrap());
    for (key, known) in &ended {
        let did_run = ran.contains_key(key.as_str());
        let is_wrong = match known {
            Ok(right) => {
                tally.answered += 1;
                !right || !did_run
            }
            Err("not_run") => {
                tally.not_run += 1;
                did_run
            }
            Err(_) => {
                tally.unknown += 1;
                false
            }
        };
        if is_wrong {
            tally
                .wrong
                .push(format!("{key} ended as {known:?}, ran: {did_run}"));
        }
    }
    println!("{kills} kills: {tally:?}");
    assert_eq!(ended.len() as u64, calls);
    assert!(tally.wrong.is_empty(), "{tally:?}");
    let twice: Vec<_> = ran.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(tally.answered > ended.len() / 2, "{tally:?}");
    drop(gateways);
    let nothing_left = || cli.marker().processes().is_empty();
    assert!(
        eventually(PATIENCE, nothing_left).await,
        "{:?}",
        cli.marker().processes()
    );
}
