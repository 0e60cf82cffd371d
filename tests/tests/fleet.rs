//! What clients see of a fleet, with real processes and a real `nats-server`: what one gateway keeps
//! is reached through another, servers of which each client has its own, logins that all share.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use mcpool_e2e::{Answer, Cli, Gateway, Running, logins::paste};
use mcpool_nats::{Carrier, NatsOptions, PoolName, kv::Registry};
use mcpool_testkit::{
    Behavior, eventually_blocking,
    fixtures::{
        authz::{AuthzFixture, AuthzOptions},
        stdio::fixture_path,
    },
    leaks::is_alive,
    nats::NatsServer,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually_blocking(PATIENCE, || {
        found = look();
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("never: {what}"))
}

/// NATS, and a worker that has the fixture as `victim`.
struct Fleet {
    url: String,
    /// The gateways' place: they have no config.
    place: Cli,
    files: TempDir,
    worker: Running,
    _workers: Cli,
    _nats: NatsServer,
}

impl Fleet {
    async fn start(more: &[&str]) -> Option<Self> {
        let nats = NatsServer::start().await?;
        let files = tempfile::tempdir().unwrap();
        let (workers, worker) = victim(&nats.url(), "w1", &files, more);
        Some(Self {
            url: nats.url(),
            worker,
            _workers: workers,
            place: Cli::without_config(),
            files,
            _nats: nats,
        })
    }

    /// A gateway that has the victim.
    async fn gateway(&self, name: &str) -> Gateway {
        self.gateway_with(name, &[]).await
    }

    async fn gateway_with(&self, name: &str, more: &[&str]) -> Gateway {
        let key = self.files.path().join("key");
        std::fs::write(&key, "07".repeat(32)).unwrap();
        let args = ["--nats", &self.url, "--pool", "tools", "--nats-name", name];
        let gateway = Gateway::start(&self.place, &key, &[&args, more].concat());
        gateway.ready().await;
        gateway
    }
}

/// Starts a worker with the fixture, which writes what it runs into the file of the worker's name.
fn victim(url: &str, name: &str, files: &TempDir, more: &[&str]) -> (Cli, Running) {
    let effects = files.path().join(name).to_string_lossy().into_owned();
    let args = Behavior::new()
        .with(|victim| victim.effects_file = Some(effects))
        .to_args();
    let servers = json!({"victim": {"command": fixture_path(), "args": args}});
    let cli = Cli::new(json!({ "mcpServers": servers }));
    let args = [
        "worker",
        "--nats",
        url,
        "--pool",
        "tools",
        "--nats-name",
        name,
    ];
    let worker = cli.start(&[&args, more].concat());
    (cli, worker)
}

/// A client up to MCP 2025-11-25 in its session, which any gateway serves.
struct Older(String);

impl Older {
    fn begin(gateway: &Gateway) -> Self {
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "older", "version": "1"},
        }});
        let begun = gateway.post(&[], &initialize).unwrap();
        Self(begun.session().unwrap().to_owned())
    }

    fn post(&self, gateway: &Gateway, message: &Value) -> Answer {
        let headers = [
            ("mcp-session-id", &*self.0),
            ("mcp-protocol-version", "2025-11-25"),
        ];
        gateway.post(&headers, message).unwrap()
    }

    /// A call that is answered without a question.
    fn call(&self, gateway: &Gateway, tool: &str, arguments: Value) -> Value {
        self.post(gateway, &call(tool, arguments))
            .message()
            .unwrap()
    }
}

fn call(tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": tool, "arguments": arguments}})
}

fn ask() -> Value {
    json!({"method": "elicitation/create", "params": {
        "mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}})
}

/// What the client has answered, as the result of the tool shows it.
fn answered(message: &Value) -> &Value {
    &message["result"]["structuredContent"]["result"]["content"]["who"]
}

/// A request of a client of MCP 2026-07-28.
fn newer(gateway: &Gateway, method: &str, name: Option<&str>, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    });
    let mut headers = vec![
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
    ];
    headers.extend(name.map(|name| ("mcp-name", name)));
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    gateway.post(&headers, &message).unwrap().message().unwrap()
}

/// Waits until the gateway has the victim's tools.
fn has_victim(gateway: &Gateway) {
    until("the gateway has the server", || {
        let listed = newer(gateway, "tools/list", None, json!({}));
        listed.to_string().contains("victim__ask").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_a_server_at_a_worker_is_answered_at_any_gateway() {
    let Some(fleet) = Fleet::start(&[]).await else {
        return;
    };
    let (one, two) = (fleet.gateway("g1").await, fleet.gateway("g2").await);
    has_victim(&one);
    has_victim(&two);

    // An older client, whose session is the first one's: the call runs there.
    let older = Older::begin(&one);
    for (asking, answering) in [(&one, &two), (&two, &one), (&one, &one)] {
        let mut running = older.post(asking, &call("victim__ask", ask()));
        let question = running.message().unwrap();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        let answer = json!({"jsonrpc": "2.0", "id": question["id"],
            "result": {"action": "accept", "content": {"who": "older"}}});
        assert_eq!(older.post(answering, &answer).status(), 202);
        let done = running.message().unwrap();
        assert_eq!(answered(&done), "older", "{done}");
    }

    // A newer one: the call is parked where it was made, and its state says where.
    for (asking, answering) in [(&one, &two), (&two, &one), (&one, &one)] {
        let tool = Some("victim__ask");
        let params = json!({"name": "victim__ask", "arguments": ask()});
        let asked = newer(asking, "tools/call", tool, params.clone());
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        let mut retry = params;
        retry["requestState"] = asked["result"]["requestState"].clone();
        let (question, _) = asked["result"]["inputRequests"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        retry["inputResponses"] =
            json!({question: {"action": "accept", "content": {"who": "newer"}}});
        let done = newer(answering, "tools/call", tool, retry);
        assert_eq!(answered(&done), "newer", "{done}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_a_process_of_its_own_at_the_worker() {
    let Some(fleet) = Fleet::start(&["--each", "victim"]).await else {
        return;
    };
    let (one, two) = (fleet.gateway("g1").await, fleet.gateway("g2").await);
    has_victim(&one);
    has_victim(&two);
    let pid = |client: &Older, gateway: &Gateway| {
        let done = client.call(gateway, "victim__process", json!({}));
        let pid = done["result"]["structuredContent"]["pid"].as_u64();
        u32::try_from(pid.unwrap_or_else(|| panic!("{done}"))).unwrap()
    };
    let (ada, bob) = (Older::begin(&one), Older::begin(&one));
    let (of_ada, of_bob) = (pid(&ada, &one), pid(&bob, &one));
    assert_ne!(of_ada, of_bob);
    // It is the same one later, and through another gateway.
    for gateway in [&one, &two] {
        assert_eq!(pid(&ada, gateway), of_ada);
        assert_eq!(pid(&bob, gateway), of_bob);
    }
    // What it asks, its client is asked: two at once, answered in the other order.
    let mut running = [&ada, &bob].map(|client| client.post(&one, &call("victim__ask", ask())));
    let questions = running.each_mut().map(|running| running.message().unwrap());
    for (client, question, name) in [(&bob, &questions[1], "bob"), (&ada, &questions[0], "ada")] {
        let answer = json!({"jsonrpc": "2.0", "id": question["id"],
            "result": {"action": "accept", "content": {"who": name}}});
        assert_eq!(client.post(&two, &answer).status(), 202);
    }
    let done = running.each_mut().map(|running| running.message().unwrap());
    assert_eq!(
        (answered(&done[0]), answered(&done[1])),
        (&json!("ada"), &json!("bob"))
    );

    // It ends with its client's session, and no other does.
    assert!(is_alive(of_ada) && is_alive(of_bob));
    assert_eq!(one.end_session(&ada.0).unwrap(), 204);
    assert!(eventually_blocking(PATIENCE, || !is_alive(of_ada)));
    assert_eq!(pid(&bob, &one), of_bob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_lists_all_of_it_when_no_worker_answers() {
    let Some(mut fleet) = Fleet::start(&[]).await else {
        return;
    };
    // Nobody has asked for anything but the tools, and no gateway is there.
    let pool = PoolName::new("tools").unwrap();
    let carrier = Carrier::connect(&NatsOptions::new([&fleet.url], pool))
        .await
        .unwrap();
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE, "{}", fleet.worker.stderr());
        let Ok(registry) = Registry::find(&carrier).await else {
            continue;
        };
        let mut watch = registry.watch();
        let snapshot = watch.changed().await;
        let workers = snapshot.workers.values();
        let mut servers = workers.flat_map(|worker| worker.servers.values());
        let hash = servers.find_map(|server| server.catalog.clone());
        let Some(hash) = hash else { continue };
        let lists = registry.lists(&hash).await.unwrap();
        if lists.templates.is_some_and(|list| list.items.len() == 1) {
            break;
        }
    }
    fleet.worker.kill();
    let gateway = fleet.gateway("g1").await;
    has_victim(&gateway);
    for (method, wanted) in [
        ("prompts/list", "greet"),
        ("resources/list", "fixture://two"),
        ("resources/templates/list", "fixture://{name}"),
    ] {
        until(method, || {
            let listed = newer(&gateway, method, None, json!({}));
            listed.to_string().contains(wanted).then_some(())
        });
    }
}

/// Calls eight times at once, and gives how many calls each of these workers has run. Each has run
/// once.
fn spread_over(fleet: &Fleet, gateway: &Gateway, round: &str, workers: &[&str]) -> Vec<usize> {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let key = format!("{round}-{number}");
                let params = json!({"name": "victim__count", "arguments": {"key": key, "ms": 200}});
                let done = newer(gateway, "tools/call", Some("victim__count"), params);
                assert_eq!(done["result"]["content"][0]["text"], key, "{done}");
            });
        }
    });
    let ran: Vec<usize> = workers
        .iter()
        .map(|worker| {
            let journal = std::fs::read_to_string(fleet.files.path().join(worker));
            let journal = journal.unwrap_or_default();
            let begins = format!("{round}-");
            journal
                .lines()
                .filter(|key| key.starts_with(&begins))
                .count()
        })
        .collect();
    assert_eq!(ran.iter().sum::<usize>(), 8, "{ran:?}");
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_one_gateway_are_spread_over_the_workers_that_are_there() {
    let Some(fleet) = Fleet::start(&[]).await else {
        return;
    };
    let gateway = fleet.gateway_with("g1", &["--spread", "4"]).await;
    has_victim(&gateway);
    let workers = ["w1", "w2"];
    assert_eq!(spread_over(&fleet, &gateway, "alone", &workers), [8, 0]);

    // One that comes gets its share, of sessions and so of calls at once.
    let (_cli, mut second) = victim(&fleet.url, "w2", &fleet.files, &[]);
    let mut round = 0;
    let mut until_spread = |what: &str, wanted: [usize; 2]| {
        until(what, || {
            round += 1;
            let ran = spread_over(&fleet, &gateway, &format!("round{round}"), &workers);
            (ran == wanted).then_some(())
        });
    };
    until_spread("both have half of it", [4, 4]);

    // One that is killed has nothing more, and gets its share again when it is back.
    second.kill();
    until("its sessions are elsewhere", || {
        let params = json!({"name": "victim__echo", "arguments": {"message": "here"}});
        let done = newer(&gateway, "tools/call", Some("victim__echo"), params);
        (done["result"]["content"][0]["text"] == "here").then_some(())
    });
    let (_cli, _second) = victim(&fleet.url, "w2", &fleet.files, &[]);
    let mut round = 0;
    until("both have half of it again", || {
        round += 1;
        let ran = spread_over(&fleet, &gateway, &format!("again{round}"), &workers);
        (ran == [4, 4]).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_always_have_something_under_way_go_to_a_worker_that_comes() {
    let Some(fleet) = Fleet::start(&[]).await else {
        return;
    };
    let gateway = fleet.gateway_with("g1", &["--spread", "4"]).await;
    has_victim(&gateway);
    let stop = AtomicBool::new(false);
    let (calls, since) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for caller in 0..12 {
            let (gateway, stop, calls) = (&gateway, &stop, &calls);
            scope.spawn(move || {
                for number in 0.. {
                    // The other end is for when the test has failed.
                    if stop.load(Ordering::Relaxed) || since.elapsed() > 3 * PATIENCE {
                        return;
                    }
                    let key = format!("{caller}-{number}");
                    let arguments = json!({"key": key, "ms": 100});
                    let params = json!({"name": "victim__count", "arguments": arguments});
                    let done = newer(gateway, "tools/call", Some("victim__count"), params);
                    assert_eq!(done["result"]["content"][0]["text"], key, "{done}");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let ran = |worker: &str| {
            let journal = std::fs::read_to_string(fleet.files.path().join(worker));
            journal.unwrap_or_default().lines().count()
        };
        until("calls run", || (ran("w1") > 40).then_some(()));
        let _late = victim(&fleet.url, "w2", &fleet.files, &[]);
        until("they run at the second worker too", || {
            (ran("w2") > 40).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        // Every call has run once: the callers hold their last ones.
        until("all have ended", || {
            let all = ran("w1") + ran("w2");
            (calls.load(Ordering::Relaxed) == all).then_some(())
        });
    });
}

/// The permissions of the page, with one more gateway as it says.
fn permissions() -> String {
    let page = include_str!("../../docs/fleet.md");
    let (_, after) = page.split_once("```nats\n").unwrap();
    let page = after.split_once("```").unwrap().0;
    let (before, gateway) = page.split_once("    { user: g1").unwrap();
    let (gateway, after) = gateway.split_once("\n    } }\n").unwrap();
    let gateway = format!("    {{ user: g1{gateway}\n    }} }}\n");
    let other = gateway.replace("g1", "g2");
    format!(
        "WORKER_PASSWORD: w\nGATEWAY_PASSWORD: g\nPERSON_PASSWORD: p\n{before}{gateway}{other}{after}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_serves_all_gateways_and_one_of_them_refreshes() {
    let Some(nats) = NatsServer::start_with(&permissions()).await else {
        return;
    };
    let server = AuthzFixture::start(AuthzOptions::default()).unwrap();
    let cli = Cli::new(json!({"mcpServers": {
        "guarded": {"type": "http", "url": server.mcp_url()}}}));
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let sealing = file("sealing", &"07".repeat(32));
    let key = file("pool", &format!("{}=\n", "A".repeat(43)));
    let url = nats.url();
    let flags = |name: &str, login: &str| {
        let login = file(name, &format!("{name}:{login}"));
        let words = ["--nats", &url, "--pool", "tools", "--nats-name", name];
        let words = words.into_iter().map(str::to_owned);
        let login = [
            "--nats-user".to_owned(),
            login,
            "--pool-key".to_owned(),
            key.clone(),
        ];
        words.chain(login).collect::<Vec<String>>()
    };
    fn words(flags: &[String]) -> Vec<&str> {
        flags.iter().map(String::as_str).collect()
    }
    let gateways =
        ["g1", "g2"].map(|name| Gateway::start(&cli, sealing.as_ref(), &words(&flags(name, "g"))));
    for gateway in &gateways {
        gateway.ready().await;
    }
    let person = flags("p1", "p");
    let person = words(&person);
    let (code, said) = paste(&cli, &[&["guarded"], &person[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    // Nothing of it is on this machine.
    assert!(!cli.dir().join("mcpool/credentials").exists());
    let echo = |gateway: &Gateway| {
        let params = json!({"name": "guarded__echo", "arguments": {"message": "here"}});
        let done = newer(gateway, "tools/call", Some("guarded__echo"), params);
        (done["result"]["content"][0]["text"] == "here").then_some(done)
    };
    for gateway in &gateways {
        until("the gateway uses the login", || echo(gateway));
    }

    // All tokens end. Who is first refreshes, and the other takes what it finds.
    assert_eq!(server.count("refresh_token"), 0);
    server.expire_tokens();
    std::thread::scope(|scope| {
        for gateway in &gateways {
            scope.spawn(|| assert!(echo(gateway).is_some(), "{}", gateway.stderr()));
        }
    });
    assert_eq!(server.count("refresh_token"), 1);

    let status = |more: &[&str]| cli.run(&[&["auth", "status", "guarded"], more].concat());
    let shared = status(&person);
    assert_eq!(shared.code(), Some(0), "{}", shared.stderr());
    assert_eq!(status(&[]).code(), Some(3));
    let without_key = status(&["--nats", &url, "--pool", "tools"]);
    assert_eq!(without_key.code(), Some(3));
    assert!(
        without_key.stderr().contains("--pool-key FILE"),
        "{}",
        without_key.stderr()
    );
    let logout = cli.run(&[&["logout", "guarded"], &person[..]].concat());
    assert_eq!(logout.code(), Some(0), "{}", logout.stderr());
    assert_eq!(status(&person).code(), Some(3));
    let log = nats.log();
    assert!(!log.contains("Violation"), "{log}");
    for secret in server.secrets() {
        assert!(!said.contains(&secret) && !log.contains(&secret));
    }
}
