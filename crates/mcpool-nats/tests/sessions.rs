//! Sessions between a gateway and a worker over a real nats-server, with real processes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::HeaderMap;
use async_trait::async_trait;
use futures::StreamExt as _;
use mcpool_core::{
    Caller, Client, Delivery, ErrorKind, Notification, Raw, Request, RequestOptions,
    Requester as _, RpcError, ServerName, ServerRequest, Verbs as _,
};
use mcpool_nats::{Carrier, Epoch, Sharing, discover};
use mcpool_testkit::{Behavior, eventually, fixtures::stdio::StdioFixture, nats::NatsServer};
use serde_json::{Value, json};
use support::{PATIENCE, Running, carrier, connect, name, pool};
use tokio::sync::{Notify, watch};

async fn served(nats: &NatsServer) -> (StdioFixture, Running) {
    let fixture = StdioFixture::new(Behavior::new());
    let worker = Running::start(nats, "w1", vec![fixture.spec("fix")], |worker| worker).await;
    (fixture, worker)
}

/// A served fixture, a gateway, and its session with the fixture.
async fn ready() -> Option<(
    (NatsServer, StdioFixture),
    Running,
    Carrier,
    Arc<dyn Client>,
)> {
    let nats = NatsServer::start().await?;
    let (fixture, worker) = served(&nats).await;
    let carrier = carrier(&nats, "g1").await;
    let client = connect(&carrier, "fix").await.unwrap();
    Some(((nats, fixture), worker, carrier, client))
}

fn call(tool: &str, arguments: Value) -> Request {
    Request::new("tools/call")
        .with_params(&json!({"name": tool, "arguments": arguments}))
        .unwrap()
}

fn text(raw: &Raw) -> String {
    let value: Value = raw.parse().unwrap();
    value["content"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_runs_on_the_worker_and_the_list_is_the_servers() {
    let Some(((_nats, _fixture), worker, carrier, client)) = ready().await else {
        return;
    };
    let tools = client.list_tools().await.unwrap();
    assert!(tools.items.iter().any(|tool| tool.name == "echo"));
    let options = RequestOptions::new();
    let answer = client
        .request(&call("echo", json!({"message": "over NATS"})), &options)
        .await;
    assert_eq!(text(&answer.unwrap()), "over NATS");
    let found = discover(&carrier, Duration::from_millis(500))
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].worker.as_str(), "w1");
    assert_eq!(found[0].servers[&name("fix")].state, "ready");
    client.close().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mib_arrive_in_both_directions() {
    const BYTES: usize = 64 * 1024 * 1024;
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let fixture = StdioFixture::new(Behavior::new());
    let mut spec = fixture.spec("fix");
    spec.policy.limits.max_message_bytes = 2 * BYTES;
    let worker = Running::start(&nats, "w1", vec![spec], |worker| worker).await;
    let carrier = carrier(&nats, "g1").await;
    let mut spec = mcpool_nats::NatsConnector::spec(&carrier, &name("fix")).unwrap();
    spec.policy.limits.max_message_bytes = 2 * BYTES;
    let factory = mcpool_client::StandardFactory::new();
    let options = mcpool_core::ConnectOptions::new();
    let client = mcpool_core::ClientFactory::connect(&factory, &spec, &options);
    let client = client.await.unwrap();
    let options = RequestOptions::new().with_timeout(PATIENCE);
    let answer = client
        .request(&call("big", json!({"bytes": BYTES})), &options)
        .await;
    assert_eq!(text(&answer.unwrap()).len(), BYTES);
    let message = "m".repeat(BYTES);
    let answer = client
        .request(&call("length", json!({"message": message})), &options)
        .await;
    assert_eq!(text(&answer.unwrap()), BYTES.to_string());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_over_the_gateways_limit_fails_its_request_only() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (_fixture, worker) = served(&nats).await;
    let carrier = carrier(&nats, "g1").await;
    let mut spec = mcpool_nats::NatsConnector::spec(&carrier, &name("fix")).unwrap();
    spec.policy.limits.max_message_bytes = 1024 * 1024;
    let factory = mcpool_client::StandardFactory::new();
    let options = mcpool_core::ConnectOptions::new();
    let client = mcpool_core::ClientFactory::connect(&factory, &spec, &options);
    let client = client.await.unwrap();
    let options = RequestOptions::new();
    let big = client
        .request(&call("big", json!({"bytes": 3_000_000})), &options)
        .await;
    let error = big.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::TooLarge, Delivery::Answered)
    );
    let answer = client
        .request(&call("echo", json!({"message": "on"})), &options)
        .await;
    assert_eq!(text(&answer.unwrap()), "on");
    worker.stop().await;
}

/// Says yes to whatever it is asked.
struct Accepts(AtomicUsize);

#[async_trait]
impl Caller for Accepts {
    fn heard(&self, _: &Notification) -> bool {
        false
    }

    async fn answer(&self, _: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        assert_eq!(request.method, "elicitation/create");
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Raw::of(&json!({"action": "accept", "content": {"answer": "yes"}})).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_progress_come_to_the_caller() {
    let Some(((_nats, _fixture), worker, _carrier, client)) = ready().await else {
        return;
    };
    let caller = Arc::new(Accepts(AtomicUsize::new(0)));
    let options = RequestOptions::new().with_caller(Arc::clone(&caller) as _);
    let ask = call(
        "ask",
        json!({"method": "elicitation/create", "params": {
        "message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}}),
    );
    let answer = client.request(&ask, &options).await.unwrap();
    assert_eq!(caller.0.load(Ordering::SeqCst), 1, "{answer:?}");
    let steps = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&steps);
    let options = RequestOptions::new().with_progress(move |_| {
        heard.fetch_add(1, Ordering::SeqCst);
    });
    let slow = call("slow", json!({"step_ms": 50, "steps": 4}));
    client.request(&slow, &options).await.unwrap();
    assert!(steps.load(Ordering::SeqCst) >= 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_dropped_is_cancelled_at_the_server() {
    let Some(((_nats, _fixture), worker, _carrier, client)) = ready().await else {
        return;
    };
    let options = RequestOptions::new();
    let seen = async |what: &str| {
        let state = client
            .request(&call("state", json!({})), &options)
            .await
            .unwrap();
        let state: Value = state.parse().unwrap();
        state["structuredContent"][what].as_u64().unwrap()
    };
    let before = seen("calls").await;
    let hang = call("hang", json!({}));
    let hanging = client.request(&hang, &options);
    tokio::select! {
        ended = hanging => panic!("{ended:?}"),
        // Each look is a call as well.
        () = async { let mut asked = 1; while seen("calls").await <= before + asked { asked += 1; } } => {}
    }
    let since = std::time::Instant::now();
    while seen("cancelled").await == 0 {
        assert!(since.elapsed() < PATIENCE);
    }
    worker.stop().await;
}

/// A server that writes down what it runs.
fn writing_down(effects: &Path) -> StdioFixture {
    let file = effects.to_string_lossy().into_owned();
    StdioFixture::new(Behavior::new().with(|behavior| behavior.effects_file = Some(file)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_leaves_unknown_and_then_not_sent() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let effects = dir.path().join("effects");
    let fixture = writing_down(&effects);
    let worker = Running::start(&nats, "w1", vec![fixture.spec("fix")], |worker| worker).await;
    let carrier = carrier(&nats, "g1").await;
    let client = connect(&carrier, "fix").await.unwrap();
    let options = RequestOptions::new();
    let hang = call("count", json!({"key": "k", "then": "hang"}));
    let mut running = std::pin::pin!(client.request(&hang, &options));
    tokio::select! {
        ended = &mut running => panic!("{ended:?}"),
        runs = eventually(PATIENCE, || effects.exists()) => assert!(runs),
    }
    worker.kill();
    let running = running.await;
    let error = running.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown, "{error}");
    // The connection has ended with it, and a new one finds nobody.
    tokio::time::timeout(PATIENCE, client.closed())
        .await
        .unwrap();
    let error = connect(&carrier, "fix").await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_not_sent() {
    let Some(((nats, _fixture), worker, _carrier, client)) = ready().await else {
        return;
    };
    worker.kill();
    nobody_listens(&nats, "mcpool.test.fix.w1").await;
    let options = RequestOptions::new();
    let echo = call("echo", json!({"message": "x"}));
    let asked = (0..8).map(|_| client.request(&echo, &options));
    for answer in futures::future::join_all(asked).await {
        let error = answer.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
    }
}

/// Waits until NATS has nobody for this subject.
async fn nobody_listens(nats: &NatsServer, subject: &str) {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let since = std::time::Instant::now();
    loop {
        let short = async_nats::Request::new().timeout(Some(Duration::from_millis(100)));
        match client.send_request(subject.to_owned(), short).await {
            Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => return,
            other => assert!(since.elapsed() < PATIENCE, "{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nats_is_away_nothing_is_sent_and_sessions_go_on_after_it() {
    let Some(mut nats) = NatsServer::start().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let effects = dir.path().join("effects");
    let fixture = writing_down(&effects);
    let worker = Running::start(&nats, "w1", vec![fixture.spec("fix")], |worker| worker).await;
    let carrier = carrier(&nats, "g1").await;
    let client = connect(&carrier, "fix").await.unwrap();
    let count = |key: &str| call("count", json!({"key": key}));
    let options = RequestOptions::new();
    client.request(&count("before"), &options).await.unwrap();
    nats.kill();
    assert!(eventually(PATIENCE, || !carrier.is_connected()).await);
    let short = RequestOptions::new().with_timeout(Duration::from_millis(300));
    let error = client.request(&count("away"), &short).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
    nats.restart().await;
    assert!(eventually(PATIENCE, || carrier.is_connected()).await);
    loop {
        // The worker may not be back yet: then nobody takes it, or the session has ended.
        let client = match connect(&carrier, "fix").await {
            Ok(client) => client,
            Err(error) => {
                assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        client.request(&count("after"), &options).await.unwrap();
        break;
    }
    // What was withdrawn is not in some buffer.
    assert_eq!(
        std::fs::read_to_string(&effects).unwrap(),
        "before\nafter\n"
    );
    worker.stop().await;
}

/// Is asked, and answers when it may.
#[derive(Default)]
struct Gate {
    asked: Notify,
    may_answer: Notify,
}

#[async_trait]
impl Caller for Gate {
    fn heard(&self, _: &Notification) -> bool {
        false
    }

    async fn answer(&self, _: &ServerName, _: ServerRequest) -> Result<Raw, RpcError> {
        self.asked.notify_one();
        self.may_answer.notified().await;
        Ok(Raw::of(&json!({"action": "decline"})).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_goes_lets_what_runs_end() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let fixture = StdioFixture::new(Behavior::new());
    let first = Running::start(&nats, "w1", vec![fixture.spec("fix")], |worker| {
        worker.with_drain(PATIENCE)
    })
    .await;
    let carrier = carrier(&nats, "g1").await;
    let client = connect(&carrier, "fix").await.unwrap();
    let other = StdioFixture::new(Behavior::new());
    let second = Running::start(&nats, "w2", vec![other.spec("fix")], |worker| worker).await;
    let options = RequestOptions::new();
    let gate = Arc::new(Gate::default());
    let asks = RequestOptions::new().with_caller(Arc::clone(&gate) as _);
    let ask = call(
        "ask",
        json!({"method": "elicitation/create", "params": {
        "message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}}),
    );
    let mut running = std::pin::pin!(client.request(&ask, &asks));
    tokio::select! {
        ended = &mut running => panic!("{ended:?}"),
        () = gate.asked.notified() => {}
    }
    let stopping = tokio::spawn(first.stop());
    let late = async {
        loop {
            let echo = call("echo", json!({"message": "late"}));
            if let Err(error) = client.request(&echo, &options).await {
                return error;
            }
        }
    };
    let goes = async {
        // It takes nothing new, and what runs there still gets what it asks for.
        while discover(&carrier, Duration::from_millis(100))
            .await
            .unwrap()
            .len()
            > 1
        {}
        gate.may_answer.notify_one();
    };
    let (running, late, ()) = tokio::join!(running, late, goes);
    let answer: Value = running.unwrap().parse().unwrap();
    assert_eq!(answer["structuredContent"]["result"]["action"], "decline");
    let known = late.delivery();
    assert!(
        matches!(known, Delivery::Rejected | Delivery::NotSent),
        "{known:?}: {late}"
    );
    stopping.await.unwrap();
    let client = connect(&carrier, "fix").await.unwrap();
    let answer = client
        .request(&call("echo", json!({"message": "second"})), &options)
        .await;
    assert_eq!(text(&answer.unwrap()), "second");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_of_an_each_server_has_a_process_of_its_own() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let fixture = StdioFixture::new(Behavior::new());
    let worker = Running::start(&nats, "w1", vec![fixture.spec("fix")], |worker| {
        worker.with_sharing(name("fix"), Sharing::Each)
    })
    .await;
    let shared = fixture.marker().processes().len();
    let carrier = carrier(&nats, "g1").await;
    let one = connect(&carrier, "fix").await.unwrap();
    let two = connect(&carrier, "fix").await.unwrap();
    assert_eq!(fixture.marker().processes().len(), shared + 2);
    one.close().await;
    drop(two);
    assert!(eventually(PATIENCE, || fixture.marker().processes().len() == shared).await);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_served_only_in_its_tenure() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let fixture = StdioFixture::new(Behavior::new());
    let (lease, tenure) = watch::channel(Some(Epoch::new(7)));
    let worker = Running::start(&nats, "w1", vec![fixture.spec("fix")], |worker| {
        worker
            .with_sharing(name("fix"), Sharing::One)
            .with_tenure(name("fix"), tenure)
    })
    .await;
    let carrier = carrier(&nats, "g1").await;
    let client = connect(&carrier, "fix").await.unwrap();
    lease.send_replace(None);
    tokio::time::timeout(PATIENCE, client.closed())
        .await
        .unwrap();
    let error = connect(&carrier, "fix").await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
    lease.send_replace(Some(Epoch::new(9)));
    let since = std::time::Instant::now();
    while connect(&carrier, "fix").await.is_err() {
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.stop().await;
}

/// A gateway by hand, for what ours never sends.
struct ByHand {
    client: async_nats::Client,
    answers: async_nats::Subscriber,
    number: u64,
    stamp: u64,
}

impl ByHand {
    async fn open(nats: &NatsServer, version: &str) -> Self {
        let client = async_nats::connect(nats.url()).await.unwrap();
        let answers = client
            .subscribe("mcpool-inbox.test.hand.s1.*")
            .await
            .unwrap();
        let hand = Self {
            client,
            answers,
            number: 0,
            stamp: 0,
        };
        let subject = format!("mcpool.{}.fix", pool());
        let mut headers = HeaderMap::new();
        headers.insert("Mcpool-Version", version);
        headers.insert("Mcpool-Kind", "open");
        headers.insert("Mcpool-Session", "s1");
        let reply = "mcpool-inbox.test.hand.s1.0";
        let body = r#"{"identity":"hand","hobby":"chess"}"#;
        hand.client
            .publish_with_reply_and_headers(subject, reply, headers, body.into())
            .await
            .unwrap();
        hand
    }

    async fn next(&mut self) -> (String, HeaderMap, Value) {
        let message = tokio::time::timeout(PATIENCE, self.answers.next()).await;
        let message = message.unwrap().unwrap();
        let headers = message.headers.unwrap();
        if let Some(stamp) = headers.get("Mcpool-Stamp") {
            self.stamp = stamp.as_str().parse().unwrap();
        }
        let body = serde_json::from_slice(&message.payload).unwrap_or_default();
        (
            headers.get("Mcpool-Kind").unwrap().to_string(),
            headers,
            body,
        )
    }

    /// Sends a message with these headers instead of the right ones.
    async fn send(&mut self, text: &str, odd: &[(&'static str, &str)]) {
        self.number += 1;
        let mut headers = HeaderMap::new();
        headers.insert("Mcpool-Version", "1.1");
        headers.insert("Mcpool-Kind", "message");
        headers.insert("Mcpool-Session", "s1");
        headers.insert("Mcpool-Number", self.number.to_string());
        headers.insert("Mcpool-Stamp", self.stamp.to_string());
        headers.insert("Mcpool-Mood", "good");
        for (name, value) in odd {
            headers.insert(*name, *value);
        }
        let subject = format!("mcpool.{}.fix.w1", pool());
        let reply = format!("mcpool-inbox.test.hand.s1.{}", self.number);
        let body = text.to_owned().into();
        self.client
            .publish_with_reply_and_headers(subject, reply, headers, body)
            .await
            .unwrap();
    }
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_minor_version_apart_is_understood_and_a_major_one_refused() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (_fixture, worker) = served(&nats).await;
    let mut newer = ByHand::open(&nats, "1.1").await;
    assert_eq!(newer.next().await.0, "opened");
    newer.send("{}", &[("Mcpool-Kind", "overture")]).await;
    newer.send(LIST, &[]).await;
    let (kind, _, body) = newer.next().await;
    assert_eq!(kind, "message");
    assert!(body["result"]["tools"].is_array(), "{body}");
    let mut other = ByHand::open(&nats, "2.0").await;
    let (kind, _, body) = other.next().await;
    assert_eq!((&*kind, &body["reason"]), ("refused", &json!("version")));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_requests_and_those_of_another_epoch_are_refused() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (_fixture, worker) = served(&nats).await;
    let mut hand = ByHand::open(&nats, "1.0").await;
    assert_eq!(hand.next().await.0, "opened");
    let count = call("count", json!({"key": "k"}));
    let count = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}}"#,
        count.params.unwrap().get()
    );
    // Older than its caller waits.
    tokio::time::sleep(Duration::from_millis(30)).await;
    hand.send(&count, &[("Mcpool-Timeout", "5")]).await;
    let (kind, headers, body) = hand.next().await;
    assert_eq!((&*kind, &body["reason"]), ("refused", &json!("age")));
    assert_eq!(headers.get("Mcpool-Of").unwrap().as_str(), "1");
    hand.send(&count, &[("Mcpool-Epoch", "3")]).await;
    let (kind, _, body) = hand.next().await;
    assert_eq!((&*kind, &body["reason"]), ("refused", &json!("epoch")));
    hand.send(&call_state(), &[]).await;
    let (_, _, body) = hand.next().await;
    assert_eq!(body["result"]["structuredContent"]["calls"], 1, "{body}");
    worker.stop().await;
}

fn call_state() -> String {
    r#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"state","arguments":{}}}"#
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_frame_ends_the_session_and_nothing_after_it_runs() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (_fixture, worker) = served(&nats).await;
    let mut hand = ByHand::open(&nats, "1.0").await;
    assert_eq!(hand.next().await.0, "opened");
    hand.send(LIST, &[]).await;
    assert_eq!(hand.next().await.0, "message");
    hand.number += 1;
    hand.send(&call_state(), &[]).await;
    let (kind, _, body) = hand.next().await;
    assert_eq!((&*kind, &body["reason"]), ("end", &json!("gap")));
    assert_eq!(body["accepted"], 1);
    worker.stop().await;
}
