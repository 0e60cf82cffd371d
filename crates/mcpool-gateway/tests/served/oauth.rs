//! Tokens of an authorization server: a fixture that publishes its keys on a loopback port.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Json, Router, extract::State, routing::get};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcpool_gateway::{AccessKeys, Gateway, Grant, HttpOptions, HttpServer, ResourceServer};
use mcpool_testkit::Era;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Served, audited, by_hand, initialize, ping, status};

const RESOURCE: &str = "https://mcp.example.com";

/// A key pair, and the name that it is published under.
struct Signer {
    id: String,
    pair: rcgen::KeyPair,
}

impl Signer {
    fn new(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let id = id.to_owned();
        Self { id, pair }
    }

    fn public(&self) -> Value {
        let (x, y) = self.pair.public_key_raw()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256",
            "x": BASE64_URL_SAFE_NO_PAD.encode(x), "y": BASE64_URL_SAFE_NO_PAD.encode(y)})
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        encode(&header, claims, &key).unwrap()
    }
}

/// What the fixture publishes.
#[derive(Default)]
struct Published {
    issuer: Mutex<String>,
    keys: Mutex<Vec<Value>>,
    fetches: AtomicUsize,
}

struct Issuer {
    url: String,
    published: Arc<Published>,
    _serving: AbortOnDropHandle<()>,
}

impl Issuer {
    async fn start(keys: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let published = Arc::new(Published::default());
        *published.issuer.lock().unwrap() = url.clone();
        *published.keys.lock().unwrap() = keys.iter().map(|key| key.public()).collect();
        let metadata = async |State(published): State<Arc<Published>>| {
            let issuer = published.issuer.lock().unwrap().clone();
            Json(json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}))
        };
        let jwks = async |State(published): State<Arc<Published>>| {
            published.fetches.fetch_add(1, Ordering::SeqCst);
            Json(json!({"keys": *published.keys.lock().unwrap()}))
        };
        let router = Router::new()
            // Only the second place where it may be.
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/keys", get(jwks))
            .with_state(Arc::clone(&published));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let _serving = AbortOnDropHandle::new(serving);
        Self {
            url,
            published,
            _serving,
        }
    }

    /// Good claims.
    fn claims(&self) -> Value {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        json!({"iss": self.url, "sub": "ada", "aud": format!("{RESOURCE}/mcp"), "iat": now,
            "exp": now + 300, "scope": "mcp other"})
    }

    fn server(&self) -> ResourceServer {
        ResourceServer::new(&self.url, RESOURCE)
            .unwrap()
            .with_scope("mcp")
    }
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_client_finds_its_way_to_a_token_and_its_subject_is_the_principal() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(&[&signer]).await;
    let served = Served::one(Era::Legacy).await;
    let (gateway, entries) = audited(Gateway::builder(served.manager.clone()));
    let gateway = gateway.build();
    let (key, line) = AccessKeys::issue(&Grant::new("bob").unwrap());
    let options = HttpOptions::new()
        .with_keys(AccessKeys::read(&line).unwrap())
        .with_oauth(issuer.server());
    let served = Served::on_socket(gateway, served.manager.clone(), served.servers, options).await;
    // RFC 9728, section 5: the refusal leads to the metadata, and that to the issuer.
    let refused = served.post("/mcp", "", &initialize()).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    let path = "/.well-known/oauth-protected-resource/mcp";
    assert_eq!(
        challenge,
        format!(r#"Bearer realm="mcpool", resource_metadata="{RESOURCE}{path}", scope="mcp""#)
    );
    let metadata = by_hand().get(served.url(path)).send().await.unwrap();
    let metadata: Value = metadata.json().await.unwrap();
    assert_eq!(metadata["resource"], format!("{RESOURCE}/mcp"));
    assert_eq!(metadata["authorization_servers"], json!([issuer.url]));
    assert_eq!(metadata["scopes_supported"], json!(["mcp"]));
    let token = signer.sign(&issuer.claims());
    let session = served.token("/mcp", &token).await;
    let call = crate::support::tool_call(1, "files__echo", json!({"message": "hi"}));
    let call = |token: &str| {
        let request = served.post("/mcp", token, &call);
        request.header("mcp-session-id", &session)
    };
    assert_eq!(status(call(&token)).await, StatusCode::OK);
    let entry = serde_json::to_value(&entries.lock().unwrap()[0]).unwrap();
    assert_eq!(entry["principal"], format!("{} ada", issuer.url));
    // The same subject with another token goes on; another subject, or a key, does not.
    let again = signer.sign(&with(&issuer.claims(), "jti", json!("2")));
    assert_eq!(status(call(&again)).await, StatusCode::OK);
    let eve = signer.sign(&with(&issuer.claims(), "sub", json!("eve")));
    assert_eq!(status(call(&eve)).await, StatusCode::NOT_FOUND);
    assert_eq!(status(call(key.expose())).await, StatusCode::NOT_FOUND);
    // A key is as good as before.
    served.token("/mcp", key.expose()).await;
    assert_eq!(issuer.published.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn tokens_that_are_not_for_us_are_refused() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(&[&signer]).await;
    let options = HttpOptions::new().with_oauth(issuer.server());
    let served = Served::one(Era::Legacy)
        .await
        .again(options, HttpServer::new())
        .await;
    let good = issuer.claims();
    let now = good["iat"].as_u64().unwrap();
    let stranger = Signer::new("one");
    let unknown = Signer::new("two");
    let token = signer.sign(&good);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let changed = BASE64_URL_SAFE_NO_PAD.encode(with(&good, "sub", json!("root")).to_string());
    let changed = format!("{}.{changed}.{signature}", head.split_once('.').unwrap().0);
    let unsigned = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let unsigned = format!("{unsigned}.{}.", head.split_once('.').unwrap().1);
    // Signed with what is published, as if that were a shared secret.
    let shared = {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("one".to_owned());
        let secret = EncodingKey::from_secret(signer.pair.public_key_raw());
        encode(&header, &good, &secret).unwrap()
    };
    for (what, token) in [
        (
            "another issuer",
            signer.sign(&with(&good, "iss", json!("https://evil.example"))),
        ),
        (
            "another audience",
            signer.sign(&with(&good, "aud", json!("https://other.example"))),
        ),
        (
            "another path",
            signer.sign(&with(&good, "aud", json!(format!("{RESOURCE}/mcp/x")))),
        ),
        ("expired", signer.sign(&with(&good, "exp", json!(now - 60)))),
        (
            "not yet",
            signer.sign(&with(&good, "nbf", json!(now + 120))),
        ),
        ("no subject", signer.sign(&with(&good, "sub", json!("")))),
        (
            "a long subject",
            signer.sign(&with(&good, "sub", json!("x".repeat(300)))),
        ),
        (
            "a subject that cannot be shown",
            signer.sign(&with(&good, "sub", json!("ada\u{202e}"))),
        ),
        (
            "a subject of two lines",
            signer.sign(&with(&good, "sub", json!("ada\nroot"))),
        ),
        ("another's key", stranger.sign(&good)),
        ("a key that is not published", unknown.sign(&good)),
        ("changed", changed),
        ("unsigned", unsigned),
        ("a shared secret", shared),
        ("too long", "x".repeat(20_000)),
        ("no token", "mcpool_guess".to_owned()),
    ] {
        let refused = served
            .post("/mcp", &token, &initialize())
            .send()
            .await
            .unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{what}");
        let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.contains("error=\"invalid_token\""),
            "{what}: {challenge}"
        );
    }
    let narrow = signer.sign(&with(&good, "scope", json!("other")));
    let refused = served
        .post("/mcp", &narrow, &initialize())
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains("error=\"insufficient_scope\""),
        "{challenge}"
    );
    assert!(challenge.contains("scope=\"mcp\""), "{challenge}");
    assert_eq!(
        status(served.post("/mcp", &token, &ping())).await,
        StatusCode::BAD_REQUEST
    );
    for scopes in [json!(["mcp"]), json!("mcp")] {
        let claims = with(&with(&good, "scope", Value::Null), "scp", scopes);
        served.token("/mcp", &signer.sign(&claims)).await;
    }
    // Keys that nobody has published are asked for at intervals, not for each token.
    assert_eq!(issuer.published.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn inside_of_another_router_the_whole_path_counts() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(&[&signer]).await;
    let served = Served::one(Era::Legacy).await;
    let options = HttpOptions::new().with_oauth(issuer.server());
    let router = Router::new().nest("/tools", served.gateway.router(options));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let _serving = AbortOnDropHandle::new(serving);
    let post = |audience: &str| {
        let token = signer.sign(&with(&issuer.claims(), "aud", json!(audience)));
        let request = by_hand().post(format!("{url}/tools/mcp"));
        let request = request.header("accept", "application/json");
        request.bearer_auth(token).json(&initialize())
    };
    let good = post(&format!("{RESOURCE}/tools/mcp"));
    assert_eq!(status(good).await, StatusCode::OK);
    let refused = post(&format!("{RESOURCE}/mcp")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    // What the refusal names is served, and names what was asked for.
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    let path = "/tools/.well-known/oauth-protected-resource/mcp";
    let named = format!(r#"resource_metadata="{RESOURCE}{path}""#);
    assert!(challenge.contains(&named), "{challenge}");
    let metadata = by_hand().get(format!("{url}{path}")).send().await.unwrap();
    let metadata: Value = metadata.json().await.unwrap();
    assert_eq!(metadata["resource"], format!("{RESOURCE}/tools/mcp"));
    // The API asks for a token of the pool's own path.
    let asked = by_hand().get(format!("{url}/tools/api/v1/clients"));
    let token = with(
        &issuer.claims(),
        "aud",
        json!(format!("{RESOURCE}/tools/mcp")),
    );
    assert_eq!(
        status(asked.bearer_auth(signer.sign(&token))).await,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_issuer_that_is_another_or_away_lets_nobody_in() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(&[&signer]).await;
    let token = signer.sign(&issuer.claims());
    *issuer.published.issuer.lock().unwrap() = "https://evil.example".to_owned();
    let away = ResourceServer::new("http://127.0.0.1:9", RESOURCE).unwrap();
    for server in [issuer.server(), away] {
        let options = HttpOptions::new().with_oauth(server);
        let served = Served::one(Era::Legacy)
            .await
            .again(options, HttpServer::new())
            .await;
        let refused = served
            .post("/mcp", &token, &initialize())
            .send()
            .await
            .unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
    }
    for bad in [
        "http://evil.example",
        "ftp://localhost",
        "x",
        "https://a.example/?x=1",
    ] {
        assert!(ResourceServer::new(bad, RESOURCE).is_err(), "{bad}");
    }
    assert!(ResourceServer::new("https://a.example", "https://b.example/mcp").is_err());
}
