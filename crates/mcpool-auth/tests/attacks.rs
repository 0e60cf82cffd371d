//! The attacks, each refused with an error that a user understands, and with no token sent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use mcpool_auth::LoginState;
use mcpool_core::{AuthRequest, Error, ErrorKind, OAuthSpec};
use mcpool_testkit::fixtures::authz::{Attack, AuthzFixture};
use support::{Robot, authenticator, call, in_memory, spec, start};

async fn attacked(attack: Attack) -> (AuthzFixture, Error) {
    let server = start(|options| options.attack = Some(attack));
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let error = oauth
        .login(&spec, &Robot::default(), None)
        .await
        .expect_err("the attack went through");
    assert_eq!(error.kind(), ErrorKind::AuthRequired, "{error}");
    assert_eq!(server.count("elsewhere"), 0, "{error}");
    let status = oauth.status(&spec).await.unwrap();
    assert_eq!(status.state, LoginState::LoggedOut);
    (server, error)
}

fn says(error: &Error, parts: &[&str]) {
    for part in parts {
        assert!(error.to_string().contains(part), "no {part:?} in: {error}");
    }
}

#[tokio::test]
async fn mix_up() {
    let (server, error) = attacked(Attack::MixUp).await;
    says(&error, &["refused for safety", "https://evil.example"]);
    assert_eq!(server.count("authorization_code"), 0);
}

#[tokio::test]
async fn a_redirect_that_names_nobody_though_it_was_promised() {
    let (server, error) = attacked(Attack::NoIssuerInRedirect).await;
    says(&error, &["refused for safety", "names nobody"]);
    assert_eq!(server.count("authorization_code"), 0);
}

#[tokio::test]
async fn the_metadata_of_another_issuer() {
    let (server, error) = attacked(Attack::WrongIssuer).await;
    says(&error, &["refused for safety", "https://bank.example"]);
    assert_eq!(server.count("register"), 0);
}

#[tokio::test]
async fn metadata_that_points_inside_the_network() {
    for url in [
        "https://169.254.169.254",
        "https://10.0.0.1",
        "http://10.1.1.1:8080",
    ] {
        let (server, error) = attacked(Attack::AuthorizationServerAt(url.into())).await;
        says(&error, &[url]);
        assert_eq!(server.count("register"), 0);
    }
}

#[tokio::test]
async fn a_challenge_that_points_inside_the_network() {
    // Ignored, and the well-known place is used: nothing inside is asked, and the login works.
    let attack = Attack::ResourceMetadataAt("http://169.254.169.254/latest/meta-data".into());
    let server = start(|options| options.attack = Some(attack));
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
}

#[tokio::test]
async fn a_redirect_to_another_origin() {
    let (_, error) = attacked(Attack::MetadataRedirect).await;
    says(&error, &["refused for safety", "another origin"]);
    let (server, error) = attacked(Attack::TokenRedirect).await;
    says(&error, &["refused for safety", "another origin"]);
    assert_eq!(server.count("authorization_code"), 1);
}

#[tokio::test]
async fn a_server_that_wants_a_token_for_another_server() {
    let (server, error) = attacked(Attack::OtherResource("https://bank.example/mcp".into())).await;
    says(&error, &["refused for safety", "https://bank.example/mcp"]);
    assert_eq!(server.count("register"), 0);
}

#[tokio::test]
async fn a_token_for_another_audience() {
    let server = start(|options| options.attack = Some(Attack::OtherAudience));
    let oauth = in_memory().with_agent(Arc::new(Robot::default()));
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    says(&error, &["audience", &server.issuer()]);
    // Neither refreshed nor logged in without end.
    assert_eq!(server.count("authorize"), 1);
    assert!(server.count("refresh_token") <= 1);
}

#[tokio::test]
async fn an_authorization_server_without_pkce() {
    let (server, error) = attacked(Attack::NoPkce).await;
    says(&error, &["refused for safety", "PKCE"]);
    assert_eq!(server.count("register"), 0);
}

#[tokio::test]
async fn a_login_page_that_is_no_web_page() {
    for url in [
        "file:///etc/passwd",
        "http://login.example/",
        "https://192.168.0.1/",
    ] {
        let (server, error) = attacked(Attack::LoginPageAt(url.into())).await;
        says(&error, &["refused for safety"]);
        assert_eq!(server.count("register"), 0);
    }
}

#[tokio::test]
async fn a_replayed_redirect() {
    let server = start(|_| {});
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let robot = Robot::default();
    oauth.login(&spec, &robot, None).await.unwrap();
    let (_, used) = robot.seen.lock().unwrap().remove(0);

    *robot.instead.lock().unwrap() = Some(used);
    let error = oauth.login(&spec, &robot, None).await.unwrap_err();
    says(&error, &["belongs to no login that is waiting"]);
    assert_eq!(server.count("authorization_code"), 1);
    // The login that was there is still there.
    let status = oauth.status(&spec).await.unwrap();
    assert_eq!(status.state, LoginState::LoggedIn);
}

#[tokio::test]
async fn the_person_says_no() {
    let server = start(|options| options.deny = true);
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let error = oauth
        .login(&spec, &Robot::default(), None)
        .await
        .unwrap_err();
    says(&error, &["access_denied", "The person said no"]);
}

#[tokio::test]
async fn another_authorization_server_than_the_configured_one() {
    let server = start(|_| {});
    let settings = OAuthSpec::new()
        .with_client("me", None)
        .with_issuer("https://as.example");
    let spec = spec(&server.mcp_url(), settings);
    let error = in_memory()
        .login(&spec, &Robot::default(), None)
        .await
        .unwrap_err();
    says(&error, &["refused for safety", "https://as.example"]);
}

#[tokio::test]
async fn no_token_goes_to_another_origin() {
    let server = start(|_| {});
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    let authenticator = authenticator(&oauth, &spec).await;
    for url in [
        server.issuer(),
        "https://evil.example/mcp".into(),
        "x".into(),
    ] {
        let error = authenticator
            .authorize(AuthRequest::new("POST", &url))
            .await
            .unwrap_err();
        says(&error, &["refused for safety"]);
    }
}
