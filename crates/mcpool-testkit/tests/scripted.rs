//! The scripted client, factory and transport do what their script says.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use mcpool_core::{
    ClientFactory, CloseReason, ConnectRequest, Connector, Error, ErrorKind, HttpSpec,
    RequestOptions, ServerNotice, ServerSpec, TransportKind,
};
use mcpool_testkit::{
    scripted::{ConnectStep, ScriptedConnector},
    scripted_client::{ConnectPlan, RequestPlan, ScriptedFactory, tool},
};

fn spec(name: &str) -> ServerSpec {
    ServerSpec::http(name, HttpSpec::new("http://localhost/mcp")).unwrap()
}

fn lost() -> Error {
    Error::new(ErrorKind::ConnectionLost, "gone")
}

#[tokio::test(start_paused = true)]
async fn connects_follow_the_plan_and_are_counted() {
    let factory = ScriptedFactory::new();
    let server = factory.server("a");
    server.next_connect(ConnectPlan::FailAfter(Duration::from_secs(3600), lost()));
    server.next_connect(ConnectPlan::Never);
    let start = tokio::time::Instant::now();
    let error = factory.connect(&spec("a")).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(3600));
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    let never = tokio::time::timeout(Duration::from_secs(60), factory.connect(&spec("a"))).await;
    assert!(never.is_err());
    let both = (spec("a"), spec("b"));
    let (a, b) = tokio::join!(factory.connect(&both.0), factory.connect(&both.1));
    assert_eq!(factory.live(), 2);
    drop((a, b));
    let counts = server.counts();
    assert_eq!(
        (counts.connects, counts.connecting, counts.connects_dropped),
        (3, 0, 1)
    );
    assert_eq!((counts.live, counts.clients, factory.live()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_end_with_the_connection() {
    let factory = ScriptedFactory::new();
    let server = factory.server("a");
    let client = factory.connect(&spec("a")).await.unwrap();
    server.every_call(RequestPlan::Never);
    let calling = {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.call_tool("x", None, &RequestOptions::new()).await })
    };
    let timed = RequestOptions::new().with_timeout(Duration::from_secs(30));
    let timeout = client.call_tool("x", None, &timed).await.unwrap_err();
    assert_eq!(timeout.kind(), ErrorKind::Timeout);
    server.kill(lost());
    let ended = calling.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionLost);
    assert!(matches!(client.closed().await, CloseReason::Lost(_)));
    let after = client.list_tools(&RequestOptions::new()).await.unwrap_err();
    assert_eq!(after.kind(), ErrorKind::NotConnected);
    assert_eq!(server.counts().calls, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_kills_and_a_call_that_is_dropped() {
    let factory = ScriptedFactory::new();
    let server = factory.server("a");
    let client = factory.connect(&spec("a")).await.unwrap();
    server.next_call(RequestPlan::AnswerAfter(Duration::from_secs(9)));
    server.next_call(RequestPlan::Die(lost()));
    let options = RequestOptions::new();
    let dropped = client.call_tool("x", None, &options);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), dropped)
            .await
            .is_err()
    );
    assert!(client.call_tool("x", None, &options).await.is_err());
    assert!(client.is_closed());
    client.close().await;
    let counts = server.counts();
    assert_eq!((counts.calls_dropped, counts.answered), (1, 0));
    assert_eq!((counts.closes, counts.live), (0, 0));
}

#[tokio::test]
async fn tools_change_with_a_notice() {
    let factory = ScriptedFactory::new();
    let server = factory.server("a");
    let client = factory.connect(&spec("a")).await.unwrap();
    let mut notices = client.notices();
    server.change_tools(vec![tool("one"), tool("two")]);
    assert!(matches!(
        notices.recv().await.unwrap(),
        ServerNotice::ToolsChanged
    ));
    let listed = client.list_tools(&RequestOptions::new()).await.unwrap();
    assert_eq!(listed.tools.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_scripted_connector_takes_its_steps_in_order() {
    let connector = ScriptedConnector::new(TransportKind::Stdio);
    connector.push(ConnectStep::Fail(lost()));
    let mut remote = connector.open();
    connector.push(ConnectStep::Never);
    let request = || ConnectRequest::new(Arc::new(spec("a")));
    assert!(connector.connect(request()).await.is_err());
    let mut transport = connector.connect(request()).await.unwrap();
    assert_eq!(transport.monitor().kind(), TransportKind::Stdio);
    let never = connector.connect(request());
    assert!(
        tokio::time::timeout(Duration::from_secs(1), never)
            .await
            .is_err()
    );
    assert_eq!(connector.connects(), 3);

    let ping = serde_json::json!({"jsonrpc": "2.0", "id": 7, "method": "ping"});
    let send = transport.send(serde_json::from_value(ping).unwrap());
    let (sent, seen) = tokio::join!(send, remote.sent());
    sent.unwrap();
    assert_eq!(seen.unwrap()["id"], 7);
    remote.refuse(7, -32601, "no");
    assert!(transport.receive().await.is_some());
    remote.fail(lost());
    assert!(transport.receive().await.is_none());
    let failure = transport.monitor().failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::ConnectionLost);
    assert_eq!(transport.monitor().diagnostics().sent, 1);
}
