//! Credentials do not go where anybody can read them.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, ConnectRequest, Delivery, ErrorKind,
    HttpSpec, Result, Secret, TransportSpec,
};
use mcpool_http_pool::{HttpPeer, HttpPool, PeerRequest, http::Method};

/// Gives every request a token.
#[derive(Debug)]
struct Token;

#[async_trait]
impl Authenticator for Token {
    async fn authorize(&self, _: AuthRequest<'_>) -> Result<Vec<(String, Secret)>> {
        Ok(vec![("Authorization".into(), "Bearer canary".into())])
    }

    async fn challenged(&self, _: AuthRequest<'_>, _: &AuthChallenge) -> Result<AuthDecision> {
        Ok(AuthDecision::GiveUp)
    }
}

async fn peer(spec: HttpSpec, authenticator: Option<Arc<dyn Authenticator>>) -> Result<HttpPeer> {
    let mut request =
        ConnectRequest::new("open".parse().unwrap(), TransportSpec::Http(spec.clone()));
    if let Some(authenticator) = authenticator {
        request = request.with_authenticator(authenticator);
    }
    HttpPeer::new(&HttpPool::new(), &request, &spec).await
}

#[tokio::test]
async fn what_authorizes_does_not_go_over_plain_http_unless_it_is_allowed_by_name() {
    let url = "http://mcp.invalid/mcp";
    for spec in [
        HttpSpec::new(url).with_header("Authorization", "Bearer canary"),
        HttpSpec::new(url).with_header("authorization", "Basic canary"),
        HttpSpec::new(url).with_header("X-API-Key", "canary"),
        HttpSpec::new(url).with_header("Cookie", "session=canary"),
        HttpSpec::new("http://user:canary@mcp.invalid/mcp"),
        HttpSpec::new("http://10.0.0.1/mcp").with_header("Authorization", "Bearer canary"),
        HttpSpec::new("http://[fd00::1]/mcp").with_header("Authorization", "Bearer canary"),
        // A name that only looks like this machine's.
        HttpSpec::new("http://localhost.invalid/").with_header("Authorization", "Bearer canary"),
    ] {
        let error = peer(spec.clone(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{spec:?}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("allow_cleartext_credentials"), "{text}");
        assert!(!text.contains("canary"), "{text}");
        peer(spec.with_cleartext_credentials_allowed(true), None)
            .await
            .unwrap();
    }
    // This machine, by way of another one.
    let mut proxied =
        HttpSpec::new("http://localhost:1/mcp").with_header("Authorization", "Bearer canary");
    proxied.proxy = Some("http://proxy.invalid:3128".into());
    let error = peer(proxied.clone(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    proxied.proxy = Some("http://127.0.0.1:3128".into());
    peer(proxied, None).await.unwrap();
    for spec in [
        HttpSpec::new("https://mcp.invalid/mcp").with_header("Authorization", "Bearer canary"),
        HttpSpec::new("http://127.0.0.1:1/mcp").with_header("Authorization", "Bearer canary"),
        HttpSpec::new("http://[::1]:1/mcp").with_header("Authorization", "Bearer canary"),
        HttpSpec::new("http://localhost:1/mcp").with_header("Authorization", "Bearer canary"),
        HttpSpec::new(url).with_header("X-Team", "blue"),
    ] {
        peer(spec, None).await.unwrap();
    }
}

#[tokio::test]
async fn neither_does_the_token_of_a_login() {
    let spec = HttpSpec::new("http://mcp.invalid/mcp");
    let send = async |spec: HttpSpec| {
        let peer = peer(spec, Some(Arc::new(Token))).await.unwrap();
        let request = PeerRequest::new(Method::GET, peer.url().clone());
        peer.send(&request).await.unwrap_err()
    };
    let error = send(spec.clone()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(!format!("{error:?}").contains("canary"));
    // Allowed, it goes as far as the name is known.
    let error = send(spec.with_cleartext_credentials_allowed(true)).await;
    assert_eq!(error.kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_url_that_is_none_is_not_shown() {
    for url in [
        "canary",
        "https://[canary",
        "canary://x",
        "https://canary canary/",
    ] {
        let error = peer(HttpSpec::new(url), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary"), "{text}");
    }
}
