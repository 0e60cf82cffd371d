//! TLS and HTTP/2: certificates of a CA file are trusted, others are not, and nothing is
//! installed for the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{convert::Infallible, io::Write, sync::Arc};

use hyper_util::rt::{TokioExecutor, TokioIo};
use mcpool_core::{ConnectRequest, ErrorKind, HttpSpec, ServerSpec};
use mcpool_http_pool::{
    HttpPeer, HttpPool, PeerRequest,
    reqwest::{Method, Version},
};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server for `localhost` that speaks HTTP/2 and HTTP/1.1, and its certificate in PEM.
async fn serve() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate goes away here.
                let Ok(tls) = acceptor.accept(socket).await else {
                    return;
                };
                let answer = hyper::service::service_fn(|_| async {
                    Ok::<_, Infallible>(http::Response::new(String::from("hi")))
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                server
                    .serve_connection(TokioIo::new(tls), answer)
                    .await
                    .ok();
            });
        }
    });
    (url, made.cert.pem())
}

async fn peer(spec: HttpSpec) -> HttpPeer {
    let request = ConnectRequest::new(Arc::new(ServerSpec::http("tls", spec.clone()).unwrap()));
    HttpPeer::new(&HttpPool::new(), &request, &spec)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_ca_file_is_trusted_and_http_2_is_spoken() {
    let (url, pem) = serve().await;
    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(pem.as_bytes()).unwrap();
    let mut spec = HttpSpec::new(&url);
    spec.ca_file = Some(ca_file.path().to_owned());
    let peer = peer(spec).await;
    for _ in 0..2 {
        let get = PeerRequest::new(Method::GET, peer.url().clone());
        let response = peer.send(get).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.text().await.unwrap(), "hi");
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn an_unknown_certificate_is_refused() {
    // Some certificate, so that the test does not depend on those of the system.
    let (_, other) = serve().await;
    let (url, _) = serve().await;
    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(other.as_bytes()).unwrap();
    let mut spec = HttpSpec::new(&url);
    spec.ca_file = Some(ca_file.path().to_owned());
    let peer = peer(spec).await;
    let get = PeerRequest::new(Method::GET, peer.url().clone());
    let error = peer.send(get).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("certificate"), "{error}");
}
