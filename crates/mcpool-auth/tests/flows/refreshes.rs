//! Tokens that are renewed.

use std::{sync::Arc, time::Duration};

use mcpool_auth::{FileStore, MemoryStore, OAuth, TokenStore as _};
use mcpool_core::{AuthenticatorProvider as _, ErrorKind, HttpSpec, OAuthSpec, ServerSpec};

use crate::support::{Robot, call, guarded, in_memory, spec, start};

#[tokio::test]
async fn a_401_refreshes_once_for_all_who_were_refused_and_replays() {
    let (server, oauth, spec) = guarded(|options| options.think = Duration::from_millis(50));
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();
    let calls = (0..40).map(|_| call(&oauth, &spec, "ping"));
    for status in futures::future::join_all(calls).await {
        assert_ne!(status.unwrap(), 401);
    }
    assert_eq!(server.count("refresh_token"), 1);
    assert_eq!(server.count("served"), 40);
}

#[tokio::test]
async fn a_refreshed_token_that_ends_without_a_word_is_refreshed_again() {
    // Nobody says how long a token is good.
    let (server, oauth, spec) = guarded(|_| {});
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    // One that came just now and is refused is not helped by another one.
    server.expire_tokens();
    let refused = call(&oauth, &spec, "ping").await;
    assert!(!refused.is_ok_and(|status| status != 401));
    assert_eq!(server.count("refresh_token"), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_eq!(server.count("refresh_token"), 2);
}

#[tokio::test]
async fn a_token_is_refreshed_before_it_ends() {
    // Of two seconds, a tenth rounds to nothing: stale when it ends. The guard would refuse it.
    let (server, oauth, spec) =
        guarded(|options| options.token_lifetime = Some(Duration::from_secs(2)));
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    let ends = oauth.status(&spec).await.unwrap().expires_at.unwrap();
    // The clock is the system's: wait for its event.
    while std::time::SystemTime::now() < ends {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_eq!(server.count("refresh_token"), 1);
}

#[tokio::test]
async fn a_refused_refresh_needs_a_login_and_an_unreachable_server_does_not() {
    let server = start(|_| {});
    let store = MemoryStore::new();
    let oauth = OAuth::new(Arc::new(store.clone()));
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();

    server.expire_tokens();
    server.refuse_token_requests(true);
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    let key = oauth.status(&spec).await.unwrap().key;
    assert!(store.load(&key).await.unwrap()[0].refresh_token.is_some());

    server.refuse_token_requests(false);
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);

    server.revoke_all();
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    // It is not asked again with a token that is known to be dead.
    let before = server.count("refresh_token");
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    assert_eq!(server.count("refresh_token"), before);
}

#[tokio::test]
async fn a_dropped_call_does_not_lose_the_refreshed_token() {
    let (server, oauth, spec) = guarded(|options| options.think = Duration::from_millis(200));
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();
    {
        let mut dropped = Box::pin(call(&oauth, &spec, "ping"));
        let asked = mcpool_testkit::eventually(Duration::from_secs(20), || {
            server.count("refresh_token") == 1
        });
        tokio::select! {
            _ = &mut dropped => panic!("it ended before it was dropped"),
            asked = asked => assert!(asked),
        }
    }
    // The refresh token was good once; what it brought must be there.
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_eq!(server.count("refresh_token"), 1);
    assert_eq!(server.count("refused"), 0);
}

#[tokio::test]
async fn new_credentials_are_noticed_once() {
    let server = start(|_| {});
    let directory = tempfile::tempdir().unwrap();
    let store = || Arc::new(FileStore::new(directory.path().join("credentials")));
    let oauth = OAuth::new(store());
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let refused = async || {
        let error = call(&oauth, &spec, "ping").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthRequired);
    };
    let waits = async || {
        let wait = oauth.credentials_changed(&spec);
        tokio::time::timeout(Duration::from_millis(50), wait)
            .await
            .is_err()
    };
    refused().await;
    assert!(waits().await);

    // By a login here.
    let wait = oauth.credentials_changed(&spec);
    let robot = Robot::default();
    let (_, login) = tokio::join!(wait, oauth.login(&spec, &robot, None));
    login.unwrap();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);

    // By another process, which has the same store.
    server.revoke_all();
    refused().await;
    assert!(waits().await, "the same credentials again");
    let other = OAuth::new(store());
    let wait = oauth.credentials_changed(&spec);
    let (_, login) = tokio::join!(wait, other.login(&spec, &robot, None));
    login.unwrap();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
}

#[tokio::test]
async fn a_refused_token_is_the_same_for_a_server_whose_headers_change() {
    let server = start(|_| {});
    let oauth = in_memory();
    let with = |value: &str| {
        let http = HttpSpec::new(server.mcp_url()).with_header("x-request", value);
        ServerSpec::http("guarded", http).unwrap()
    };
    oauth
        .login(&with("0"), &Robot::default(), None)
        .await
        .unwrap();
    server.revoke_all();
    let error = call(&oauth, &with("1"), "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    let spec = with("2");
    let wait = oauth.credentials_changed(&spec);
    let woken = tokio::time::timeout(Duration::from_millis(50), wait).await;
    assert!(woken.is_err(), "the same credentials again");
}
