//! The scripted transport and connector do what their script says.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, HttpSpec, Incoming, TransportKind, TransportSpec,
    WireRequest,
};
use mcpool_testkit::scripted::{ConnectStep, ScriptedConnector};
use serde_json::json;

fn request() -> ConnectRequest {
    let target = TransportSpec::Http(HttpSpec::new("http://localhost/mcp"));
    ConnectRequest::new("a".parse().unwrap(), target)
}

fn lost() -> Error {
    Error::new(ErrorKind::ConnectionLost, "gone")
}

#[tokio::test(start_paused = true)]
async fn a_scripted_connector_takes_its_steps_in_order() {
    let connector = ScriptedConnector::new(TransportKind::Stdio);
    connector.push(ConnectStep::Fail(lost()));
    let mut remote = connector.open();
    connector.push(ConnectStep::Never);
    assert!(connector.connect(request()).await.is_err());
    let transport = connector.connect(request().with_fresh(true)).await.unwrap();
    assert_eq!(transport.monitor().kind(), TransportKind::Stdio);
    let never = connector.connect(request());
    assert!(
        tokio::time::timeout(Duration::from_secs(1), never)
            .await
            .is_err()
    );
    assert_eq!(connector.connects(), 3);
    let fresh: Vec<_> = connector.requests().iter().map(|seen| seen.fresh).collect();
    assert_eq!(fresh, [false, true, false]);

    let asking = transport.request(WireRequest::new("ping", None), None);
    let answering = async {
        let seen = remote.sent().await.unwrap();
        remote.refuse(seen["id"].clone(), -32601, "no");
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Rpc);

    let mut incoming = transport.incoming().unwrap();
    remote.say(json!({"jsonrpc": "2.0", "method": "up"}));
    assert!(matches!(
        incoming.next().await,
        Some(Incoming::Notification(_))
    ));
    remote.fail(lost());
    let reason = transport.closed().await.unwrap();
    assert_eq!(reason.kind(), ErrorKind::ConnectionLost);
    assert_eq!(transport.monitor().diagnostics().sent, 1);
}
