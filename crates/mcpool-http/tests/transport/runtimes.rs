//! Runtimes that come and go.

use std::sync::Arc;

use futures::{
    channel::oneshot,
    executor::block_on,
    future::{Either, select},
};
use mcpool_core::{Delivery, ErrorKind, Raw, RequestSink, Result, Transport, WireRequest};
use mcpool_testkit::{eventually, leaks};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::{
    drive::{Drive, PATIENCE, Recorder},
    server::{Server, ordinary},
};

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// A server on a runtime of its own, whose `tools/call` hangs.
fn serve(runtime: &Runtime) -> Server {
    runtime.block_on(Server::start(|seen| async move {
        match seen.rpc() {
            "tools/call" => std::future::pending().await,
            _ => ordinary(&seen),
        }
    }))
}

#[test]
fn without_the_runtime_of_the_connect_requests_fail_at_once() {
    let serving = runtime();
    let server = serve(&serving);
    let connecting = runtime();
    let drive = connecting.block_on(Drive::initialized(&server.url));
    let waiting = runtime();
    let running = waiting.spawn({
        let drive = drive.clone();
        async move { drive.request("tools/call", json!({})).await }
    });
    waiting.block_on(server.until("tools/call", 1));
    connecting.shutdown_background();
    let error = waiting.block_on(running).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    let error = waiting.block_on(drive.refused("tools/list", json!({})));
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(error.to_string().contains("runtime"), "{error}");
    let failure = waiting.block_on(drive.ended()).unwrap();
    assert!(failure.to_string().contains("runtime"), "{failure}");
    assert!(waiting.block_on(drive.next()).is_none());
    waiting.block_on(drive.close());
}

/// Asks with nothing but a waker.
fn ask_plainly(transport: &Arc<dyn Transport>) -> Result<Raw> {
    block_on(transport.request(WireRequest::new("tools/list", None), None))
}

#[test]
fn a_request_may_come_from_any_runtime_or_none() {
    let serving = runtime();
    let server = serve(&serving);
    let connecting = runtime();
    let drive = connecting.block_on(Drive::initialized(&server.url));
    ask_plainly(&drive.transport).unwrap();
    for _ in 0..3 {
        let other = Builder::new_current_thread().build().unwrap();
        let transport = Arc::clone(&drive.transport);
        other
            .block_on(async {
                transport
                    .request(WireRequest::new("ping", None), None)
                    .await
            })
            .unwrap();
    }
    // The runtimes that asked are gone, and nothing of the connection went with them.
    ask_plainly(&drive.transport).unwrap();
}

#[test]
fn a_drop_without_a_runtime_releases_everything_and_ends_the_session() {
    let serving = runtime();
    let server = serve(&serving);
    let connecting = runtime();
    let drive = connecting.block_on(Drive::initialized(&server.url));
    drop(drive);
    serving.block_on(server.until("DELETE", 1));

    // And with the runtime gone before.
    let drive = connecting.block_on(Drive::initialized(&server.url));
    drop(connecting);
    drop(drive);
    assert_eq!(server.seen("DELETE").len(), 1);
}

#[test]
fn a_dropped_request_is_cancelled_with_no_runtime_around() {
    let serving = runtime();
    let server = Arc::new(serve(&serving));
    let connecting = runtime();
    let drive = connecting.block_on(Drive::initialized(&server.url));
    let params = Raw::empty_object();
    let sink = Arc::new(Recorder::default());
    let mut asked = drive.transport.request(
        WireRequest::new("tools/call", Some(&params)),
        Some(sink.clone() as Arc<dyn RequestSink>),
    );
    // On a thread that knows no runtime, until the server has it.
    let (come, has_come) = oneshot::channel();
    serving.spawn({
        let server = Arc::clone(&server);
        async move { come.send(server.until("tools/call", 1).await).unwrap() }
    });
    let seen = match block_on(select(&mut asked, has_come)) {
        Either::Left(_) => panic!("it hangs"),
        Either::Right((seen, _)) => seen.unwrap(),
    };
    drop(asked);
    let cancelled = serving.block_on(server.until("notifications/cancelled", 1));
    assert_eq!(
        cancelled[0].message["params"]["requestId"],
        seen[0].message["id"]
    );
    assert_eq!(sink.events(), ["assigned", "sent"]);
}

#[tokio::test]
async fn a_transport_in_use_by_nobody_leaves_no_socket() {
    let server = Server::except(|_| None).await;
    let port = server.url.rsplit(':').next().unwrap();
    let port: u16 = port.split('/').next().unwrap().parse().unwrap();
    let drive = Drive::initialized(&server.url).await;
    drive.request("tools/list", json!({})).await.unwrap();
    drop(drive);
    let closed = || leaks::connections_to(port) == 0;
    assert!(eventually(PATIENCE, closed).await);
}
