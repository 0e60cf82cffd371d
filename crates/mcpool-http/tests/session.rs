//! Handshakes, sessions, refusals and limits, against the fixture server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod drive;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drive::{Drive, PATIENCE};
use mcpool_core::{
    AuthChallenge, AuthDecision, AuthRequest, Authenticator, Delivery, Error, ErrorKind, Secret,
};
use mcpool_http::SESSION_RENEWED;
use mcpool_testkit::{
    Behavior, DiscoverReaction, Era,
    fixtures::http::{AnswerMode, HttpFixture, HttpOptions, LostSession, Refusal},
};
use serde_json::json;

fn fixture(options: impl FnOnce(&mut HttpOptions)) -> HttpFixture {
    behaving(Behavior::new(), options)
}

fn behaving(behavior: Behavior, change: impl FnOnce(&mut HttpOptions)) -> HttpFixture {
    let mut options = HttpOptions::default();
    change(&mut options);
    HttpFixture::start_with(behavior, options).unwrap()
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
        let probed = drive
            .request(1, "server/discover", drive::modern_meta())
            .await;
        assert_eq!(probed["id"], 1, "{reaction:?}: {probed}");
        drive.initialize(2).await;
        let echoed = drive.call(3, "echo", json!({"message": "hi"})).await;
        assert_eq!(echoed["result"]["content"][0]["text"], "hi", "{reaction:?}");
        assert_eq!(fixture.session_count(), 1);
        drive.close().await;
        assert_eq!(fixture.session_count(), 0, "DELETE was sent");
    }
}

#[tokio::test]
async fn a_bare_status_is_an_answer_to_the_probe_and_to_nothing_else() {
    let fixture = fixture(|_| {});
    let mut drive = Drive::open(&fixture.url()).await;
    fixture.refuse_next(Refusal::new(404).with_body("<html>"));
    let probed = drive
        .request(1, "server/discover", drive::modern_meta())
        .await;
    assert_eq!(probed["error"]["data"]["httpStatus"], 404);
    fixture.refuse_next(Refusal::new(405));
    let error = drive
        .refused(2, "initialize", drive::initialize_params())
        .await;
    assert_eq!(error.kind(), ErrorKind::HttpStatus);
    assert_eq!(error.http_status(), Some(405));
    assert_eq!(error.delivery(), Delivery::Rejected);
    // A handshake that fails is the end of the connection.
    assert!(drive.receive().await.is_none());
    assert_eq!(drive.failure().unwrap().http_status(), Some(405));
}

#[tokio::test]
async fn a_modern_server_gets_its_headers_and_no_session() {
    let behavior = Behavior::modern().with(|b| b.era = Era::Modern);
    let fixture = behaving(behavior, |_| {});
    let mut drive = Drive::open(&fixture.url()).await;
    let discovered = drive
        .request(1, "server/discover", drive::modern_meta())
        .await;
    assert!(
        discovered["result"]["supportedVersions"].is_array(),
        "{discovered}"
    );
    let mut params = drive::modern_meta();
    params["name"] = json!("echo");
    params["arguments"] = json!({"message": "hi"});
    let echoed = drive.request(2, "tools/call", params).await;
    assert_eq!(echoed["result"]["content"][0]["text"], "hi", "{echoed}");
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
    let mut drive = Drive::initialized(&fixture.url()).await;
    for id in 1..=50 {
        drive.call(id, "echo", json!({"message": "hi"})).await;
    }
    // One for the POSTs and one for the standing stream; a few more where the second request
    // came before the first connection was free again.
    let connections = fixture.connection_count();
    assert!(connections <= 4, "{connections}");
}

// Without a session there is no standing stream, whose GET would take a refusal for itself.
#[tokio::test]
async fn redirects_stay_within_the_origin() {
    let fixture = fixture(|options| options.stateless = true);
    let mut drive = Drive::initialized(&fixture.url()).await;
    let to = |status, location: &str| Refusal::new(status).with_header("location", location);
    for status in [307, 308] {
        fixture.refuse_next(to(status, "/mcp"));
        let echoed = drive
            .call(status.into(), "echo", json!({"message": "hi"}))
            .await;
        assert_eq!(echoed["result"]["content"][0]["text"], "hi");
    }
    let elsewhere = HttpFixture::start(Behavior::new()).unwrap();
    for (status, location) in [
        (307, elsewhere.url()),
        (308, elsewhere.url()),
        (302, "/mcp".to_owned()),
        (303, "/mcp".to_owned()),
    ] {
        fixture.refuse_next(to(status, &location));
        let params = json!({"name": "echo", "arguments": {"message": "secret"}});
        let error = drive.refused(10, "tools/call", params).await;
        assert_eq!(error.http_status(), Some(status), "{error}");
        assert!(error.to_string().contains("redirects"), "{error}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn refusals_say_what_is_known_and_leave_the_connection() {
    let fixture = fixture(|options| options.stateless = true);
    let mut drive = Drive::initialized(&fixture.url()).await;
    let after = |status| Refusal::new(status).with_header("retry-after", "7");
    let cases = [
        (
            Refusal::new(401),
            ErrorKind::AuthRequired,
            Delivery::Rejected,
            None,
        ),
        (
            Refusal::new(403),
            ErrorKind::Forbidden,
            Delivery::Rejected,
            None,
        ),
        (
            after(429),
            ErrorKind::RateLimited,
            Delivery::Rejected,
            Some(7),
        ),
        (
            after(503),
            ErrorKind::RateLimited,
            Delivery::Rejected,
            Some(7),
        ),
        (
            Refusal::new(503),
            ErrorKind::HttpStatus,
            Delivery::Unknown,
            None,
        ),
        (
            Refusal::new(500),
            ErrorKind::HttpStatus,
            Delivery::Unknown,
            None,
        ),
        (
            Refusal::new(400),
            ErrorKind::HttpStatus,
            Delivery::Answered,
            None,
        ),
    ];
    for (refusal, kind, delivery, pause) in cases {
        let status = refusal.status;
        fixture.refuse_next(refusal);
        let error = drive.refused(1, "tools/list", json!({})).await;
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(error.delivery(), delivery, "{status}");
        assert_eq!(error.http_status(), Some(status));
        assert_eq!(
            error.retry_after(),
            pause.map(Duration::from_secs),
            "{status}"
        );
        assert!(drive.failure().is_none(), "{status}");
    }
    let challenge = "Bearer realm=\"x\"";
    fixture.refuse_next(Refusal::new(401).with_header("www-authenticate", challenge));
    let error = drive.refused(2, "tools/list", json!({})).await;
    assert_eq!(error.challenge(), Some(challenge));
    // An error object is an answer, whatever the status and the id.
    let object = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32602, "message": "no"}});
    fixture.refuse_next(Refusal::new(400).with_body(object.to_string()));
    let answer = drive.request(3, "tools/list", json!({})).await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(3), &json!(-32602))
    );
    drive.call(4, "echo", json!({"message": "hi"})).await;
    assert!(drive.diagnostics().last_error.unwrap().contains("401"));
}

#[tokio::test]
async fn a_web_page_is_no_server() {
    let fixture = fixture(|options| options.stateless = true);
    let mut drive = Drive::open(&fixture.url()).await;
    let page = Refusal::new(200).with_header("content-type", "text/html");
    fixture.refuse_next(page.with_body("<html>"));
    let error = drive
        .refused(1, "initialize", drive::initialize_params())
        .await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.http_status(), Some(200));
    assert!(drive.receive().await.is_none());
}

#[tokio::test]
async fn a_connection_is_initialized_once() {
    let fixture = fixture(|_| {});
    let mut drive = Drive::initialized(&fixture.url()).await;
    let error = drive
        .refused(2, "initialize", drive::initialize_params())
        .await;
    assert_eq!(error.delivery(), Delivery::NotSent);
    drive.call(3, "echo", json!({"message": "hi"})).await;
}

#[tokio::test]
async fn a_lost_session_is_renewed_and_told() {
    for lost in [LostSession::NotFound, LostSession::BadRequest] {
        let fixture = fixture(|options| options.lost_session = lost);
        let mut drive = Drive::initialized(&fixture.url()).await;
        drive.call(1, "echo", json!({"message": "hi"})).await;
        fixture.lose_sessions();
        let echoed = drive.call(2, "echo", json!({"message": "again"})).await;
        assert_eq!(echoed["result"]["content"][0]["text"], "again", "{lost:?}");
        assert_eq!(fixture.session_count(), 1);
        drive
            .receive_until(|message| message["method"] == SESSION_RENEWED)
            .await;
        let methods: Vec<_> = drive
            .seen
            .iter()
            .filter_map(|m| m["method"].as_str())
            .collect();
        assert!(
            methods.contains(&"notifications/tools/list_changed"),
            "{methods:?}"
        );
        assert!(drive.failure().is_none());
        drive.close().await;
        assert_eq!(fixture.session_count(), 0);
    }
}

/// The error that request 1 is answered with.
async fn answered_with_error(drive: &mut Drive) -> Error {
    let answer = drive.receive_until(|message| message["id"] == 1).await;
    Error::from_rpc(serde_json::from_value(answer["error"].clone()).unwrap())
}

#[tokio::test]
async fn what_ran_in_a_lost_session_is_unknown() {
    let fixture = fixture(|options| options.answers = AnswerMode::Sse);
    let mut drive = Drive::initialized(&fixture.url()).await;
    drive
        .send(1, "tools/call", json!({"name": "hang"}))
        .await
        .unwrap();
    fixture.lose_sessions();
    drive.call(2, "echo", json!({"message": "hi"})).await;
    let error = answered_with_error(&mut drive).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
}

#[tokio::test]
async fn a_session_that_cannot_be_renewed_ends_the_connection() {
    let fixture = fixture(|_| {});
    let mut drive = Drive::initialized(&fixture.url()).await;
    fixture.refuse(Some(Refusal::new(404)));
    let error = drive.refused(1, "tools/list", json!({})).await;
    assert_eq!(error.delivery(), Delivery::Rejected);
    assert!(drive.receive().await.is_none());
    assert!(drive.failure().is_some());
}

#[tokio::test]
async fn a_stream_that_ends_without_an_answer_ends_its_request() {
    let fixture = fixture(|options| options.answers = AnswerMode::Sse);
    let mut drive = Drive::initialized(&fixture.url()).await;
    drive
        .send(1, "tools/call", json!({"name": "hang"}))
        .await
        .unwrap();
    fixture.drop_streams();
    let error = answered_with_error(&mut drive).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    drive.call(2, "echo", json!({"message": "hi"})).await;
    assert!(drive.failure().is_none());
}

#[tokio::test]
async fn an_answer_over_the_limit_fails_its_request_only() {
    for answers in [AnswerMode::Json, AnswerMode::Sse] {
        let fixture = fixture(|options| options.answers = answers);
        let mut spec = drive::spec(&fixture.url());
        spec.policy.limits.max_message_bytes = 100_000;
        let mut drive = Drive::with_spec(spec, None).await;
        drive.initialize(0).await;
        let params = json!({"name": "big", "arguments": {"bytes": 200_000}});
        let error = match drive.send(1, "tools/call", params).await {
            Err(error) => error,
            Ok(()) => answered_with_error(&mut drive).await,
        };
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{answers:?}");
        assert!(error.to_string().contains("100000 bytes"), "{error}");
        assert_eq!(error.delivery(), Delivery::Answered);
        drive.call(2, "echo", json!({"message": "hi"})).await;
    }
}

#[tokio::test]
async fn no_standing_stream_is_fine() {
    let fixture = fixture(|options| {
        options.no_get = true;
        options.no_delete = true;
    });
    let mut drive = Drive::initialized(&fixture.url()).await;
    drive.call(1, "echo", json!({"message": "hi"})).await;
    drive.close().await;
    assert!(drive.failure().is_none());
}

#[tokio::test]
async fn a_cancelled_request_ends() {
    let fixture = fixture(|options| options.answers = AnswerMode::Json);
    let mut drive = Drive::initialized(&fixture.url()).await;
    let hanging = drive.start(1, "tools/call", json!({"name": "hang"}));
    let params = json!({"requestId": 1, "reason": "test"});
    drive.notify("notifications/cancelled", params).await;
    tokio::time::timeout(PATIENCE, hanging)
        .await
        .expect("the send ends")
        .unwrap()
        .ok();
    drive.call(2, "echo", json!({"message": "hi"})).await;
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
    });
    let login = Arc::new(Login::default());
    let spec = drive::spec(&fixture.url());
    let mut drive = Drive::with_spec(spec, Some(login.clone())).await;
    drive.initialize(0).await;
    drive.call(1, "echo", json!({"message": "hi"})).await;
    assert_eq!(login.renewals.load(Ordering::SeqCst), 1);
    let nonce = Refusal::new(500).with_header("dpop-nonce", "fresh");
    fixture.refuse_next(nonce);
    drive.refused(2, "tools/list", json!({})).await;
    assert_eq!(*login.nonces.lock().unwrap(), ["fresh"]);
    // Refused again after each renewal: the request is sent five times, and not for ever.
    for _ in 0..5 {
        fixture.refuse_next(Refusal::new(401));
    }
    let error = drive.refused(3, "tools/list", json!({})).await;
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    drive.call(4, "echo", json!({"message": "hi"})).await;

    let login = Arc::new(Login {
        gives_up: true,
        ..Login::default()
    });
    let mut drive = Drive::with_spec(drive::spec(&fixture.url()), Some(login)).await;
    let error = drive
        .refused(1, "initialize", drive::initialize_params())
        .await;
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    assert!(error.is_permanent());
}
