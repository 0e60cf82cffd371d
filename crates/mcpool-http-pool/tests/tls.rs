//! TLS and HTTP/2: certificates of a CA file are trusted, others are not, and nothing is
//! installed for the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{convert::Infallible, io::Write, sync::Arc};

use hyper_util::rt::{TokioExecutor, TokioIo};
use mcpool_core::{ConnectRequest, ErrorKind, HttpSpec, Result, TransportSpec};
use mcpool_http_pool::{
    HttpPeer, HttpPool, PeerRequest, Response,
    http::{Method, Version},
    read_capped,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// A server for `localhost` that speaks HTTP/2 and HTTP/1.1, and its certificate in PEM.
async fn serve() -> (String, String) {
    serve_with(|_| {}).await
}

/// The same with a certificate as `openssl req -x509` makes it: it is its own authority.
async fn serve_own_authority(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    serve_with(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(params);
    })
    .await
}

async fn serve_with(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let signing_key = KeyPair::generate().unwrap();
    let made = CertifiedKey {
        cert: params.self_signed(&signing_key).unwrap(),
        signing_key,
    };
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
    let target = TransportSpec::Http(spec.clone());
    let request = ConnectRequest::new("tls".parse().unwrap(), target);
    HttpPeer::new(&HttpPool::new(), &request, &spec)
        .await
        .unwrap()
}

/// A peer for this URL that is given this text as its CA file.
async fn trusting(url: &str, pem: &str) -> HttpPeer {
    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(pem.as_bytes()).unwrap();
    let mut spec = HttpSpec::new(url);
    spec.ca_file = Some(ca_file.path().to_owned());
    peer(spec).await
}

/// The body, read to its end.
async fn text(response: Response) -> Result<String> {
    let body = read_capped(response, 1024, None).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn get(peer: &HttpPeer) -> Result<Response> {
    peer.send(&PeerRequest::new(Method::GET, peer.url().clone()))
        .await
}

#[tokio::test]
async fn a_ca_file_is_trusted_and_http_2_is_spoken() {
    let (url, pem) = serve().await;
    let peer = trusting(&url, &pem).await;
    for _ in 0..2 {
        let response = get(&peer).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(text(response).await.unwrap(), "hi");
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

async fn refused(url: &str, pem: &str, why: &str) {
    let error = get(&trusting(url, pem).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn an_unknown_certificate_is_refused() {
    // Some certificate, so that the test does not depend on those of the system.
    let (_, other) = serve_with(|params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "another")
    })
    .await;
    let (url, _) = serve().await;
    refused(&url, &other, "issuer that is not trusted").await;
}

#[tokio::test]
async fn the_own_certificate_of_a_server_is_a_pin() {
    let (url, pem) = serve_own_authority(|_| {}).await;
    assert_eq!(
        get(&trusting(&url, &pem).await).await.unwrap().status(),
        200
    );

    // Another one of the same subject is not the one that was given.
    let (_, other) = serve_own_authority(|_| {}).await;
    refused(&url, &other, "certificate").await;
    // It is trusted for its names, and as long as it is valid.
    let of_another_name = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("other.example".try_into().unwrap())];
    };
    let (url, pem) = serve_own_authority(of_another_name).await;
    refused(&url, &pem, "is for another name").await;
    let expired = |params: &mut CertificateParams| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    };
    let (url, pem) = serve_own_authority(expired).await;
    refused(&url, &pem, "has expired").await;
}

#[tokio::test]
async fn a_wrong_scheme_is_named() {
    let (url, pem) = serve().await;
    let plain = peer(HttpSpec::new(url.replace("https", "http"))).await;
    let error = get(&plain).await.unwrap_err();
    assert!(error.to_string().contains("begin with https"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        // The client closes.
        socket.read_to_end(&mut Vec::new()).await.ok();
    });
    refused(&url, &pem, "begin with http").await;
}
