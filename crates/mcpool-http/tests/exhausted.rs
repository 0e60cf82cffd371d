//! A process without descriptors: alone in this file, since the limit is the whole process's.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;

use mcpool_core::{
    ConnectRequest, Connector, Delivery, ErrorKind, HttpSpec, RequestClass, Transport,
    TransportSpec, WireRequest,
};
use mcpool_http::HttpConnector;
use mcpool_http_pool::HttpPool;
use mcpool_testkit::{Behavior, fixtures::http::HttpFixture};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[tokio::test]
async fn no_descriptor_left_is_no_evidence_against_a_server() {
    let fixture = HttpFixture::start(Behavior::modern()).unwrap();
    let target = TransportSpec::Http(HttpSpec::new(fixture.url()));
    let request = ConnectRequest::new("x".parse().unwrap(), target);
    let connector = HttpConnector::new(HttpPool::new());
    let transport: Arc<dyn Transport> = connector.connect(request).await.unwrap();
    let old = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..old
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let class = RequestClass::Handshake;
    let asked = transport
        .request(
            WireRequest::new("server/discover", None).with_class(class),
            None,
        )
        .await;
    setrlimit(Resource::Nofile, old).unwrap();
    let error = asked.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(!transport.is_closed());
}
