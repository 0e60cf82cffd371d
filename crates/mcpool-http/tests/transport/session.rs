//! Handshakes, sessions, refusals and limits, against the fixture server.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, Delivery, Error, ErrorKind, Limits,
    Result, Secret,
};
use mcpool_testkit::{
    Behavior, DiscoverReaction, Era,
    fixtures::http::{AnswerMode, HttpFixture, HttpOptions, LostSession, Refusal},
};
use serde_json::json;

use crate::drive::{Ask, Drive, connect, failed, initialize_params, modern_meta};

fn fixture(options: impl FnOnce(&mut HttpOptions)) -> HttpFixture {
    behaving(Behavior::new(), options)
}

fn behaving(behavior: Behavior, change: impl FnOnce(&mut HttpOptions)) -> HttpFixture {
    let mut options = HttpOptions::default();
    change(&mut options);
    HttpFixture::start_with(behavior, options).unwrap()
}

/// A server whose GET, which has a refusal of its own, gets none of those that a test gives.
fn without_get() -> HttpFixture {
    fixture(|options| {
        options.stateless = true;
        options.no_get = true;
    })
}

/// A client whose GET is over.
async fn settled(fixture: &HttpFixture) -> Drive {
    let drive = Drive::initialized(&fixture.url()).await;
    let asked = || fixture.requests().iter().any(|seen| seen.method == "GET");
    assert!(mcpool_testkit::eventually(crate::drive::PATIENCE, asked).await);
    drive.echo("settled").await;
    drive
}

#[tokio::test]
async fn an_older_server_is_initialized_after_it_refused_the_probe() {
    for reaction in [
        DiscoverReaction::MethodNotFound,
        DiscoverReaction::InvalidParams,
        DiscoverReaction::EmptyResult,
        DiscoverReaction::ServerError,
    ] {
        let fixture = behaving(Behavior::new().with(|b| b.discover = reaction), |_| {});
        let mut drive = Drive::open(&fixture.url()).await;
        match drive.discover().await {
            Ok(result) => assert_eq!(result, json!({}), "{reaction:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Rpc, "{reaction:?}: {error}"),
        }
        drive.initialize().await;
        drive.echo("hi").await;
        assert_eq!(fixture.session_count(), 1);
        drive.close().await;
        assert_eq!(fixture.session_count(), 0, "DELETE was sent");
    }
}

#[tokio::test]
async fn a_bare_status_says_what_it_is_and_leaves_the_connection_to_be_begun() {
    let fixture = fixture(|_| {});
    let mut drive = Drive::open(&fixture.url()).await;
    for status in [404, 405] {
        fixture.refuse_next(Refusal::new(status).with_body("<html>"));
        let error = drive.discover().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HttpStatus);
        assert_eq!(error.http_status(), Some(status));
        assert_eq!(error.delivery(), Delivery::Rejected);
    }
    drive.initialize().await;
    drive.echo("hi").await;
}

#[tokio::test]
async fn a_modern_server_gets_no_session() {
    let behavior = Behavior::modern().with(|b| b.era = Era::Modern);
    let fixture = behaving(behavior, |_| {});
    let drive = Drive::modern(&fixture.url()).await;
    let mut params = modern_meta();
    params["name"] = json!("echo");
    params["arguments"] = json!({"message": "hi"});
    let ask = Ask {
        name: Some("echo"),
        ..Ask::default()
    };
    let echoed = drive.ask("tools/call", params, ask).await.unwrap();
    assert_eq!(echoed["content"][0]["text"], "hi", "{echoed}");
    drive.close().await;
    let requests = fixture.requests();
    let call = requests
        .iter()
        .find(|seen| seen.rpc == "tools/call")
        .unwrap();
    assert_eq!(call.headers["mcp-method"], "tools/call");
    assert_eq!(call.headers["mcp-name"], "echo");
    assert_eq!(call.headers["mcp-protocol-version"], "2026-07-28");
    assert!(
        call.headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("mcpool/")
    );
    assert!(call.headers.get("mcp-session-id").is_none());
    assert!(requests.iter().all(|seen| seen.method == "POST"));
}

#[tokio::test]
async fn calls_share_connections() {
    let fixture = fixture(|_| {});
    let drive = Drive::initialized(&fixture.url()).await;
    for _ in 0..50 {
        drive.echo("hi").await;
    }
    // One for the POSTs and one for the standing stream; a few more where the second request
    // came before the first connection was free again.
    let connections = fixture.connection_count();
    assert!(connections <= 4, "{connections}");
}

#[tokio::test]
async fn redirects_stay_within_the_origin() {
    let fixture = without_get();
    let drive = settled(&fixture).await;
    let to = |status, location: &str| Refusal::new(status).with_header("location", location);
    for status in [307, 308] {
        fixture.refuse_next(to(status, "/mcp"));
        drive.echo("hi").await;
    }
    let elsewhere = HttpFixture::start(Behavior::new()).unwrap();
    for (status, location) in [
        (307, elsewhere.url()),
        (308, elsewhere.url()),
        (302, "/mcp".to_owned()),
        (303, "/mcp".to_owned()),
    ] {
        fixture.refuse_next(to(status, &location));
        let error = drive.call("echo", json!({"message": "secret"})).await;
        let error = error.unwrap_err();
        assert_eq!(error.http_status(), Some(status), "{error}");
        assert!(error.to_string().contains("redirects"), "{error}");
    }
    assert!(elsewhere.requests().is_empty());
    for _ in 0..10 {
        fixture.refuse_next(to(307, "/mcp"));
    }
    let error = drive.call("echo", json!({"message": "secret"})).await;
    let error = error.unwrap_err();
    assert_eq!(error.http_status(), Some(307), "{error}");
    assert_eq!(error.delivery(), Delivery::Answered, "{error}");
    assert!(error.to_string().contains("in a loop"), "{error}");
}

#[tokio::test]
async fn refusals_say_what_is_known_and_leave_the_connection() {
    let fixture = without_get();
    let drive = settled(&fixture).await;
    let after = |status| Refusal::new(status).with_header("retry-after", "7");
    use Delivery::{Answered, Rejected, Unknown};
    use ErrorKind::{AuthRequired, Forbidden, HttpStatus, RateLimited};
    let cases = [
        (Refusal::new(401), AuthRequired, Rejected, None),
        (Refusal::new(403), Forbidden, Rejected, None),
        (after(429), RateLimited, Rejected, Some(7)),
        (after(503), RateLimited, Rejected, Some(7)),
        (Refusal::new(503), HttpStatus, Unknown, None),
        (Refusal::new(500), HttpStatus, Unknown, None),
        (Refusal::new(400), HttpStatus, Answered, None),
    ];
    for (refusal, kind, delivery, pause) in cases {
        let status = refusal.status;
        fixture.refuse_next(refusal);
        let error = drive.refused("tools/list", json!({})).await;
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(error.delivery(), delivery, "{status}");
        assert_eq!(error.http_status(), Some(status));
        let pause = pause.map(Duration::from_secs);
        assert_eq!(error.retry_after(), pause, "{status}");
        assert_eq!(
            error.to_string().contains("7 s"),
            pause.is_some(),
            "{error}"
        );
        assert!(drive.failure().is_none(), "{status}");
    }
    for (body, said) in [
        ("IP not allowed", "IP not allowed"),
        (
            r#"{"error":"x","error_description":"no licence"}"#,
            "no licence",
        ),
    ] {
        fixture.refuse_next(Refusal::new(403).with_body(body));
        let error = drive.refused("tools/list", json!({})).await;
        assert_eq!(error.kind(), Forbidden);
        assert!(error.message().contains(said), "{error}");
    }
    let challenge = "Bearer realm=\"x\"";
    fixture.refuse_next(Refusal::new(401).with_header("www-authenticate", challenge));
    let error = drive.refused("tools/list", json!({})).await;
    assert_eq!(error.challenge(), Some(challenge));
    // An error object is an answer, whatever the status and the id.
    let object = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32602, "message": "no"}});
    fixture.refuse_next(Refusal::new(400).with_body(object.to_string()));
    let error = drive.refused("tools/list", json!({})).await;
    assert_eq!(error.rpc().unwrap().code, -32602);
    assert_eq!(error.http_status(), Some(400));
    drive.echo("hi").await;
    assert!(drive.diagnostics().last_error.unwrap().contains("-32602"));
}

#[tokio::test]
async fn a_connection_is_initialized_once() {
    let fixture = fixture(|_| {});
    let drive = Drive::initialized(&fixture.url()).await;
    let error = drive.handshake("initialize", initialize_params()).await;
    assert_eq!(error.unwrap_err().delivery(), Delivery::NotSent);
    drive.echo("hi").await;
}

#[tokio::test]
async fn a_lost_session_is_renewed_with_its_standing_stream() {
    for lost in [LostSession::NotFound, LostSession::BadRequest] {
        let fixture = fixture(|options| options.lost_session = lost);
        let drive = Drive::initialized(&fixture.url()).await;
        drive.echo("hi").await;
        fixture.lose_sessions();
        drive.echo("again").await;
        assert_eq!(fixture.session_count(), 1);
        // What is said on the standing stream of the new session arrives.
        drive
            .call("add_tool", json!({"name": "new"}))
            .await
            .unwrap();
        drive.notification("notifications/tools/list_changed").await;
        assert!(drive.failure().is_none());
        drive.close().await;
        assert_eq!(fixture.session_count(), 0);
    }
}

#[tokio::test]
async fn a_stream_that_ends_without_an_answer_ends_its_request() {
    let fixture = fixture(|options| options.answers = AnswerMode::Sse);
    let drive = Drive::initialized(&fixture.url()).await;
    let hanging = drive.start("tools/call", json!({"name": "hang"}));
    let arrived = || fixture.seen()["most_running"] == 1;
    assert!(mcpool_testkit::eventually(crate::drive::PATIENCE, arrived).await);
    fixture.drop_streams();
    let error = failed(hanging).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    drive.echo("hi").await;
    assert!(drive.failure().is_none());
}

#[tokio::test]
async fn an_answer_over_the_limit_fails_its_request_only() {
    for answers in [AnswerMode::Json, AnswerMode::Sse] {
        let fixture = fixture(|options| options.answers = answers);
        let mut limits = Limits::default();
        limits.max_message_bytes = 100_000;
        let request = connect(&fixture.url()).with_limits(limits);
        let mut drive = Drive::connected(request).await;
        drive.initialize().await;
        let error = drive
            .call("big", json!({"bytes": 200_000}))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{answers:?}");
        assert!(error.to_string().contains("100000 bytes"), "{error}");
        assert_eq!(error.delivery(), Delivery::Answered);
        drive.echo("hi").await;
    }
}

#[tokio::test]
async fn no_standing_stream_is_fine() {
    let fixture = fixture(|options| {
        options.no_get = true;
        options.no_delete = true;
    });
    let drive = Drive::initialized(&fixture.url()).await;
    drive.echo("hi").await;
    drive.close().await;
    assert!(drive.failure().is_none());
}

#[derive(Debug, Default)]
struct Login {
    renewals: AtomicUsize,
    gives_up: bool,
    nonces: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Authenticator for Login {
    async fn authorize(&self, request: AuthRequest<'_>) -> Result<Vec<(String, Secret)>, Error> {
        assert!(request.url.ends_with("/mcp"));
        let token = match self.renewals.load(Ordering::SeqCst) {
            0 => "Bearer old",
            _ => "Bearer new",
        };
        Ok(vec![("Authorization".into(), token.into())])
    }

    async fn challenged(
        &self,
        request: AuthRequest<'_>,
        challenge: &AuthChallenge,
    ) -> Result<AuthDecision, Error> {
        assert_eq!((request.method, challenge.status), ("POST", 401));
        self.renewals.fetch_add(1, Ordering::SeqCst);
        Ok(match self.gives_up {
            true => AuthDecision::GiveUp,
            false => AuthDecision::Retry,
        })
    }

    fn observe_nonce(&self, _url: &str, nonce: &str) {
        self.nonces.lock().unwrap().push(nonce.to_owned());
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_request_sent_again() {
    let fixture = fixture(|options| {
        options.token = Some("new".into());
        options.stateless = true;
        options.no_get = true;
    });
    let login = Arc::new(Login::default());
    let request = connect(&fixture.url()).with_authenticator(login.clone());
    let mut drive = Drive::connected(request).await;
    drive.initialize().await;
    let asked = || fixture.requests().iter().any(|seen| seen.method == "GET");
    assert!(mcpool_testkit::eventually(crate::drive::PATIENCE, asked).await);
    drive.echo("hi").await;
    assert_eq!(login.renewals.load(Ordering::SeqCst), 1);
    let nonce = Refusal::new(500).with_header("dpop-nonce", "fresh");
    fixture.refuse_next(nonce);
    drive.refused("tools/list", json!({})).await;
    assert_eq!(*login.nonces.lock().unwrap(), ["fresh"]);
    // Refused again after each renewal: the request is sent five times, and not for ever.
    for _ in 0..5 {
        fixture.refuse_next(Refusal::new(401));
    }
    let error = drive.refused("tools/list", json!({})).await;
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    drive.echo("hi").await;

    let login = Arc::new(Login {
        gives_up: true,
        ..Login::default()
    });
    let drive = Drive::connected(connect(&fixture.url()).with_authenticator(login)).await;
    let error = drive.handshake("initialize", initialize_params()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    assert!(error.is_permanent());
}
