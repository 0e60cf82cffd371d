//! The rules of the transport that are decided where answers are matched, over a transport in
//! memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Delivery, Error, ErrorKind, HttpSpec, Inbox, Incoming,
    MAX_OPEN_SERVER_REQUESTS, Notification, Progress, Raw, RequestClass, RequestId, RequestSink,
    Result, Transport, TransportKind, TransportSpec, WireEvent, WireRequest, WireTap,
};
use mcpool_duplex::{Duplex, Frames, Outgoing, ReadHalf, WriteError, WriteHalf};
use mcpool_testkit::scripted::{self, Remote};
use serde_json::{Value, json};

fn request() -> ConnectRequest {
    let target = TransportSpec::Http(HttpSpec::new("memory:"));
    ConnectRequest::new("test".parse().unwrap(), target)
}

fn asking(
    transport: &Arc<Duplex>,
    class: RequestClass,
    sink: Option<Arc<dyn RequestSink>>,
) -> tokio::task::JoinHandle<Result<Raw>> {
    let transport = Arc::clone(transport);
    tokio::spawn(async move {
        let params = Raw::from_text(r#"{"name":"x"}"#.to_owned())?;
        let request = WireRequest::new("tools/call", Some(&params)).with_class(class);
        transport.request(request, sink).await
    })
}

fn pair() -> (Arc<Duplex>, Remote) {
    let (transport, remote) = scripted::pair();
    (Arc::new(transport), remote)
}

/// The method of the next message that was sent.
async fn next(remote: &mut Remote) -> Value {
    remote.sent().await.expect("it lives")
}

fn error_without_id() -> Value {
    json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "what?"}})
}

#[tokio::test]
async fn an_error_without_an_id_is_of_the_only_request_that_waits() {
    let (transport, mut remote) = pair();
    let listen = asking(&transport, RequestClass::Listen, None);
    next(&mut remote).await;
    let one = asking(&transport, RequestClass::Call, None);
    next(&mut remote).await;
    remote.say(error_without_id());
    assert_eq!(one.await.unwrap().unwrap_err().kind(), ErrorKind::Rpc);

    // One that was given up may be meant as well.
    let given_up = asking(&transport, RequestClass::Call, None);
    let id = next(&mut remote).await["id"].clone();
    given_up.abort();
    assert_eq!(next(&mut remote).await["method"], "notifications/cancelled");
    let two = asking(&transport, RequestClass::Call, None);
    next(&mut remote).await;
    remote.say(error_without_id());
    // Until it is answered after all.
    remote.answer(id, json!({}));
    remote.say(error_without_id());
    assert_eq!(two.await.unwrap().unwrap_err().kind(), ErrorKind::Rpc);
    assert!(!listen.is_finished());
}

#[derive(Default)]
struct Heard {
    notes: Mutex<Vec<String>>,
    progress: Mutex<Vec<f64>>,
    panics: bool,
}

impl RequestSink for Heard {
    fn sent(&self) {
        assert!(!self.panics, "as planned");
    }

    fn wants_progress(&self) -> bool {
        true
    }

    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress.progress);
        assert!(!self.panics, "as planned");
    }

    fn notification(&self, note: &Notification) -> bool {
        self.notes.lock().unwrap().push(note.method.clone());
        note.method != "notifications/passed"
    }
}

async fn note(inbox: &mut Inbox) -> String {
    match inbox.next().await {
        Some(Incoming::Notification(note)) => note.method,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_belongs_to_a_listen_stream_goes_there() {
    let (transport, mut remote) = pair();
    let mut inbox = transport.incoming().unwrap();
    let sink = Arc::new(Heard::default());
    let _listen = asking(
        &transport,
        RequestClass::Listen,
        Some(Arc::clone(&sink) as _),
    );
    let id = next(&mut remote).await["id"].clone();
    let event = |method: &str, id: &Value| {
        let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
        json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}})
    };
    remote.say(event("notifications/kept", &id));
    remote.say(event("notifications/kept", &json!(id.to_string())));
    remote.say(event("notifications/passed", &id));
    remote.say(event("notifications/another", &json!(77)));
    assert_eq!(note(&mut inbox).await, "notifications/passed");
    assert_eq!(note(&mut inbox).await, "notifications/another");
    let heard = sink.notes.lock().unwrap().clone();
    assert_eq!(
        heard,
        [
            "notifications/kept",
            "notifications/kept",
            "notifications/passed"
        ]
    );
}

#[tokio::test]
async fn progress_is_of_the_request_that_asked_for_it() {
    let (transport, mut remote) = pair();
    let mut inbox = transport.incoming().unwrap();
    let sink = Arc::new(Heard::default());
    let call = asking(&transport, RequestClass::Call, Some(Arc::clone(&sink) as _));
    let sent = next(&mut remote).await;
    let token = sent["params"]["_meta"]["progressToken"].clone();
    assert_eq!(token, sent["id"]);
    let progress = |token: &Value, progress: u64| {
        let params = json!({"progressToken": token, "progress": progress});
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    };
    remote.say(progress(&token, 1));
    remote.answer(token.clone(), json!({}));
    call.await.unwrap().unwrap();
    // What comes after the end is dropped; what is nobody's here may be somebody's there.
    remote.say(progress(&token, 2));
    remote.say(progress(&json!("the application's own"), 3));
    assert_eq!(note(&mut inbox).await, "notifications/progress");
    assert_eq!(*sink.progress.lock().unwrap(), [1.0]);
    remote.say(json!({"jsonrpc": "2.0", "method": "notifications/last"}));
    assert_eq!(note(&mut inbox).await, "notifications/last");
}

#[derive(Debug)]
struct PanickingTap;

impl WireTap for PanickingTap {
    fn event(&self, _: &WireEvent<'_>) {
        panic!("as planned");
    }
}

#[tokio::test]
async fn a_sink_and_a_tap_that_panic_harm_nobody() {
    let tapped = request().with_tap(Arc::new(PanickingTap));
    let (transport, mut remote) = scripted::pair_for(&tapped, TransportKind::Custom).unwrap();
    let transport = Arc::new(transport);
    let sink = Arc::new(Heard {
        panics: true,
        ..Heard::default()
    });
    let call = asking(&transport, RequestClass::Call, Some(Arc::clone(&sink) as _));
    let id = next(&mut remote).await["id"].clone();
    remote.say(json!({
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": id, "progress": 1},
    }));
    remote.answer(id, json!({"fine": true}));
    assert_eq!(call.await.unwrap().unwrap().get(), r#"{"fine":true}"#);
    assert_eq!(*sink.progress.lock().unwrap(), [1.0]);
}

#[tokio::test]
async fn our_own_words_are_told_from_a_request_of_the_server() {
    let (transport, mut remote) = pair();
    let mut inbox = transport.incoming().unwrap();
    let call = asking(&transport, RequestClass::Call, None);
    let words = next(&mut remote).await;
    // A ping under an id of ours is the server's.
    remote.say(json!({"jsonrpc": "2.0", "id": words["id"], "method": "ping"}));
    let Some(Incoming::Request(asked)) = inbox.next().await else {
        panic!("no request");
    };
    assert_eq!(asked.method, "ping");
    remote.say(words);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Protocol, Delivery::Unknown)
    );
    assert_eq!(
        transport.monitor().diagnostics().oddities,
        ["it sends back what it is sent"]
    );
}

fn question(id: usize) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "roots/list"})
}

#[tokio::test]
async fn questions_over_the_bound_are_refused_and_one_that_is_taken_back_is_not_answered() {
    let (transport, mut remote) = pair();
    let mut inbox = transport.incoming().unwrap();
    for id in 0..=MAX_OPEN_SERVER_REQUESTS {
        remote.say(question(id));
    }
    let refused = next(&mut remote).await;
    assert_eq!(refused["id"], MAX_OPEN_SERVER_REQUESTS);
    assert_eq!(refused["error"]["code"], -32603);

    let mut asked = Vec::new();
    for _ in 0..2 {
        match inbox.next().await {
            Some(Incoming::Request(request)) => asked.push(request),
            other => panic!("{other:?}"),
        }
    }
    remote.say(json!({
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": 0},
    }));
    while !matches!(inbox.next().await, Some(Incoming::Notification(_))) {}
    for request in &asked {
        let outcome = Ok(Raw::empty_object());
        transport.respond(request, outcome).await.unwrap();
    }
    let answered = next(&mut remote).await;
    assert_eq!(answered["id"], 1, "the first was taken back");
}

#[tokio::test]
async fn a_server_that_asks_and_does_not_read_is_given_up() {
    let (transport, remote) = pair();
    // Those that wait, those that are refused, and one that the far end has room for.
    for id in 0..MAX_OPEN_SERVER_REQUESTS + 64 + 3 {
        remote.say(question(id));
    }
    let reason = transport.closed().await.unwrap();
    assert_eq!(reason.kind(), ErrorKind::ConnectionLost);
    assert!(reason.message().contains("does not read"), "{reason}");
}

/// A half whose messages each wait for their own permit.
struct Gated(
    Arc<tokio::sync::Semaphore>,
    tokio::sync::mpsc::UnboundedSender<String>,
);

#[async_trait]
impl WriteHalf for Gated {
    async fn write(&self, message: Outgoing) -> std::result::Result<(), WriteError> {
        if message.text().contains("stuck") {
            let Ok(permit) = self.0.acquire().await else {
                return Err(WriteError::closed(Delivery::NotSent));
            };
            permit.forget();
        }
        let _ = self.1.send(message.depart());
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        std::future::pending().await
    }
}

/// A half that answers what the other wrote.
struct Answers(tokio::sync::mpsc::UnboundedReceiver<String>);

#[async_trait]
impl ReadHalf for Answers {
    async fn read(&mut self, frames: &mut Frames) -> Result<()> {
        let Some(text) = self.0.recv().await else {
            return std::future::pending().await;
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {}});
        frames.read(answer.to_string().as_bytes());
        Ok(())
    }
}

fn gated() -> (Duplex, Arc<tokio::sync::Semaphore>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let write = Gated(Arc::clone(&gate), sender);
    let read = Answers(receiver);
    let transport = Duplex::new(&request(), TransportKind::Custom, read, write).unwrap();
    (transport, gate)
}

#[tokio::test]
async fn a_stuck_write_holds_up_none_and_is_withdrawn_without_a_word() {
    let (transport, gate) = gated();
    {
        let stuck = transport.request(WireRequest::new("stuck", None), None);
        tokio::pin!(stuck);
        assert!(futures::poll!(&mut stuck).is_pending());
        let free = transport.request(WireRequest::new("free", None), None);
        free.await.unwrap();
    }
    gate.add_permits(1);
    let free = transport.request(WireRequest::new("free", None), None);
    free.await.unwrap();
    assert_eq!(transport.monitor().diagnostics().sent, 2);
    assert_eq!(gate.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_half_that_does_not_close_is_abandoned() {
    let (transport, _gate) = gated();
    let stuck = transport.request(WireRequest::new("stuck", None), None);
    tokio::pin!(stuck);
    assert!(futures::poll!(&mut stuck).is_pending());
    let began = tokio::time::Instant::now();
    let error = transport.close().await.unwrap_err();
    assert_eq!(error.operation(), Some("close"));
    // The total of the policy, and two seconds for a half to give its own error first.
    assert_eq!(began.elapsed(), Duration::from_secs(5 + 2));
    let stuck = stuck.await.unwrap_err();
    assert_eq!(
        (stuck.kind(), stuck.delivery()),
        (ErrorKind::Closed, Delivery::NotSent)
    );
}

/// A half on a connection that has ended.
struct Dead;

#[async_trait]
impl WriteHalf for Dead {
    async fn write(&self, message: Outgoing) -> std::result::Result<(), WriteError> {
        drop(message);
        let error = Error::new(ErrorKind::ConnectionLost, "broken pipe");
        Err(WriteError::ended(error.with_delivery(Delivery::NotSent)))
    }
}

/// A half that says why after so long.
struct Says(Duration);

#[async_trait]
impl ReadHalf for Says {
    async fn read(&mut self, _: &mut Frames) -> Result<()> {
        tokio::time::sleep(self.0).await;
        Err(Error::new(
            ErrorKind::ProcessExited,
            "it exited with status 3",
        ))
    }
}

#[tokio::test(start_paused = true)]
async fn the_reading_half_says_why_if_it_does_so_in_time() {
    for (after, took, kind) in [
        (100, 100, ErrorKind::ProcessExited),
        (10_000, 200, ErrorKind::ConnectionLost),
    ] {
        let read = Says(Duration::from_millis(after));
        let transport = Duplex::new(&request(), TransportKind::Custom, read, Dead).unwrap();
        let began = tokio::time::Instant::now();
        let note = Notification::new("x", None);
        let ping = WireRequest::new("ping", None);
        let (asked, told) = tokio::join!(transport.request(ping, None), transport.notify(&note));
        assert_eq!(began.elapsed(), Duration::from_millis(took));
        for error in [asked.unwrap_err(), told.unwrap_err()] {
            assert_eq!((error.kind(), error.delivery()), (kind, Delivery::NotSent));
        }
        assert_eq!(transport.monitor().failure().unwrap().kind(), kind);
    }
}

#[test]
fn it_is_made_on_a_runtime() {
    let read = Says(Duration::ZERO);
    let error = Duplex::new(&request(), TransportKind::Custom, read, Dead).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

/// A half that fails one request by itself, then ends.
struct Carrier(tokio::sync::mpsc::UnboundedReceiver<RequestId>);

#[async_trait]
impl ReadHalf for Carrier {
    async fn read(&mut self, frames: &mut Frames) -> Result<()> {
        let first = self.0.recv().await.expect("it lives");
        self.0.recv().await.expect("it lives");
        let third = self.0.recv().await.expect("it lives");
        frames.returned(third);
        let refused = Error::new(ErrorKind::ConnectionLost, "nobody took it");
        frames.fail(first, refused.with_delivery(Delivery::NotSent));
        Err(Error::new(ErrorKind::ConnectionLost, "it ended"))
    }
}

/// Takes what it is given.
struct Takes(tokio::sync::mpsc::UnboundedSender<RequestId>);

#[async_trait]
impl WriteHalf for Takes {
    async fn write(&self, message: Outgoing) -> std::result::Result<(), WriteError> {
        let id = message.id();
        let _ = message.depart();
        let _ = self.0.send(id.expect("a request"));
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_the_carrier_knows_of_a_request_counts_more_than_the_end() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let halves = (Carrier(receiver), Takes(sender));
    let transport = Duplex::new(&request(), TransportKind::Custom, halves.0, halves.1).unwrap();
    let transport = Arc::new(transport);
    // On this runtime of one thread the first is written first.
    let first = asking(&transport, RequestClass::Call, None);
    let second = asking(&transport, RequestClass::Call, None);
    let third = asking(&transport, RequestClass::Call, None);
    let first = first.await.unwrap().unwrap_err();
    assert_eq!(first.delivery(), Delivery::NotSent);
    assert_eq!(first.message(), "nobody took it");
    let second = second.await.unwrap().unwrap_err();
    assert_eq!(second.delivery(), Delivery::Unknown);
    assert_eq!(second.message(), "it ended");
    let third = third.await.unwrap().unwrap_err();
    assert_eq!(third.delivery(), Delivery::NotSent, "it was returned");
    assert_eq!(third.message(), "it ended");
}
