//! A process without descriptors: alone in this file, since the limit is the whole process's.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use mcpool_core::{ConnectRequest, Delivery, ErrorKind, HttpSpec, TransportSpec};
use mcpool_http_pool::{HttpPeer, HttpPool, PeerRequest, http::Method};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[tokio::test]
async fn no_descriptor_left_is_no_fault_of_the_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let spec = HttpSpec::new(url);
    let request = ConnectRequest::new("x".parse().unwrap(), TransportSpec::Http(spec.clone()));
    let peer = HttpPeer::new(&HttpPool::new(), &request, &spec)
        .await
        .unwrap();
    let old = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..old
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let sent = peer
        .send(&PeerRequest::new(Method::GET, peer.url().clone()))
        .await;
    setrlimit(Resource::Nofile, old).unwrap();
    let error = sent.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(error.delivery(), Delivery::NotSent);
}
