//! The attacks, each refused with an error that a user understands, and with no token sent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use mcpool_auth::LoginState;
use mcpool_core::{
    AuthRequest, AuthenticatorProvider, Error, ErrorKind, IdentityProvider, OAuthGrant, OAuthSpec,
    SecretSource,
};
use mcpool_testkit::fixtures::authz::{Attack, AuthzFixture};
use support::{Robot, authenticator, call, guarded, in_memory, spec, start};

async fn attacked(attack: Attack) -> (AuthzFixture, Error) {
    let (server, oauth, spec) = guarded(|options| options.attack = Some(attack));
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
    let (_server, oauth, spec) = guarded(|options| options.attack = Some(attack));
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
    let (server, oauth, spec) = guarded(|_| {});
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
    let (_server, oauth, spec) = guarded(|options| options.deny = true);
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
    let (server, oauth, spec) = guarded(|_| {});
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

/// Everything that may be configured and must not be taken to a false authorization server.
fn with_secrets() -> Vec<OAuthSpec> {
    let secret = || SecretSource::Value("canary-secret".into());
    let client = || OAuthSpec::new().with_client("me", Some(secret()));
    let idp = IdentityProvider::new("https://idp.example", "https://idp.example/token", "me");
    vec![
        client(),
        client().with_grant(OAuthGrant::ClientCredentials),
        client().with_grant(OAuthGrant::PrivateKeyJwt {
            key: secret(),
            algorithm: None,
        }),
        client().with_grant(OAuthGrant::EnterpriseManaged {
            idp,
            id_token: secret(),
        }),
        client().with_grant(OAuthGrant::WorkloadIdentity {
            assertion: secret(),
        }),
    ]
}

#[tokio::test]
async fn a_secret_that_is_bound_to_nobody_is_sent_to_nobody() {
    let evil = start(|_| {});
    let server = start(|options| {
        options.attack = Some(Attack::AuthorizationServerAt(evil.issuer()));
    });
    for settings in with_secrets() {
        let oauth = in_memory();
        let spec = spec(&server.mcp_url(), settings);
        // At a connect, and at a login.
        let connect = oauth.authenticator(&spec).await.unwrap_err();
        let login = oauth
            .login(&spec, &Robot::default(), None)
            .await
            .unwrap_err();
        for error in [connect, login] {
            assert_eq!(error.kind(), ErrorKind::InvalidSpec);
            says(&error, &["set `issuer`"]);
            assert!(!format!("{error:?}").contains("canary"));
        }
        assert!(!oauth.logout(&spec).await.unwrap());
    }
    for fixture in [&evil, &server] {
        for what in ["metadata", "authorize", "client_credentials"] {
            assert_eq!(fixture.count(what), 0, "{what}");
        }
        assert_eq!(fixture.count("refused"), 0);
    }
}

#[tokio::test]
async fn a_secret_goes_to_its_own_authorization_server_only() {
    let evil = start(|_| {});
    let server = start(|options| {
        options.attack = Some(Attack::AuthorizationServerAt(evil.issuer()));
    });
    for settings in with_secrets() {
        let spec = spec(
            &server.mcp_url(),
            settings.with_issuer("https://as.example"),
        );
        let oauth = in_memory().with_agent(Arc::new(Robot::default()));
        let error = call(&oauth, &spec, "ping").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthRequired, "{error}");
        says(
            &error,
            &["refused for safety", "https://as.example", &evil.issuer()],
        );
    }
    // It is not even asked who it is.
    assert_eq!(evil.count("metadata"), 0);
    assert_eq!(evil.count("nothing"), 0);
}

#[tokio::test]
async fn an_authorization_server_that_takes_the_name_of_the_configured_one() {
    // Its metadata says that it is https://bank.example.
    let evil = start(|options| options.attack = Some(Attack::WrongIssuer));
    let place = format!("{}/.well-known/oauth-authorization-server", evil.issuer());
    for named in [place.clone(), format!("{}/x/.well-known/y", evil.issuer())] {
        let server = start(|options| {
            options.attack = Some(Attack::AuthorizationServerAt(named));
        });
        let secret = SecretSource::Value("canary-secret".into());
        let settings = OAuthSpec::new()
            .with_client("me", Some(secret))
            .with_issuer("https://bank.example");
        let spec = spec(&server.mcp_url(), settings);
        let oauth = in_memory();
        let error = oauth
            .login(&spec, &Robot::default(), None)
            .await
            .unwrap_err();
        says(&error, &["refused for safety", "https://bank.example"]);
    }
    assert_eq!(evil.count("metadata"), 0);
    assert_eq!(evil.count("authorization_code"), 0);
}

#[tokio::test]
async fn a_login_binds_its_authorization_server() {
    let server = start(|_| {});
    let evil = start(|options| options.any_resource = true);
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();

    server.name_authorization_server(&evil.issuer());
    server.revoke_all();
    let robot = Robot::default();
    let error = oauth.login(&spec, &robot, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    says(
        &error,
        &[
            "refused for safety",
            &server.issuer(),
            &evil.issuer(),
            "log out first",
        ],
    );
    let changes = robot.changes.lock().unwrap().clone();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].bound, server.issuer());
    assert_eq!(changes[0].found, evil.issuer());
    assert_eq!(evil.count("metadata"), 0);
    let status = oauth.status(&spec).await.unwrap();
    assert_eq!(status.issuer.as_deref(), Some(server.issuer().as_str()));

    // A logout forgets it.
    assert!(oauth.logout(&spec).await.unwrap());
    let status = oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_eq!(status.issuer.as_deref(), Some(evil.issuer().as_str()));
}

#[tokio::test]
async fn an_agent_that_allows_another_authorization_server_takes_nothing_there() {
    let first = start(|options| options.client_secrets = true);
    let second = start(|options| options.any_resource = true);
    let oauth = in_memory();
    let spec = spec(&first.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    first.name_authorization_server(&second.issuer());
    let robot = Robot {
        allows_other: true,
        ..Robot::default()
    };
    let status = oauth.login(&spec, &robot, None).await.unwrap();
    assert_eq!(status.issuer.as_deref(), Some(second.issuer().as_str()));
    // The client registers itself there.
    assert_eq!(second.count("register"), 1);
    assert_eq!(second.seen_clients(), second.clients());
    assert!(
        second
            .seen_clients()
            .iter()
            .all(|client| !first.clients().contains(client))
    );
}

#[tokio::test]
async fn a_login_at_one_issuer_is_not_used_where_another_is_configured() {
    let server = start(|_| {});
    let oauth = in_memory();
    let open = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&open, &Robot::default(), None).await.unwrap();
    let pinned = OAuthSpec::new().with_issuer("https://as.example");
    let pinned = spec(&server.mcp_url(), pinned);
    let status = oauth.status(&pinned).await.unwrap();
    assert_eq!(status.state, LoginState::LoggedOut);
    let headers = authenticator(&oauth, &pinned)
        .await
        .authorize(AuthRequest::new("POST", &server.mcp_url()))
        .await
        .unwrap();
    assert!(headers.is_empty());
    // The same one, as people write it.
    let same = OAuthSpec::new().with_issuer(format!("{}/", server.issuer()));
    let same = spec(&server.mcp_url(), same);
    let status = oauth.status(&same).await.unwrap();
    assert_eq!(status.state, LoginState::LoggedIn);
}

#[tokio::test]
async fn a_server_that_names_authorization_servers_without_end() {
    let (server, error) = attacked(Attack::AuthorizationServers(10_000)).await;
    says(&error, &["published no metadata"]);
    // Four places for each of eight.
    assert!(
        server.count("nothing") + server.count("metadata") <= 32,
        "{} requests",
        server.count("nothing")
    );
}

#[tokio::test]
async fn metadata_without_end() {
    let server = start(|options| options.attack = Some(Attack::EndlessMetadata));
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let error = in_memory()
        .login(&spec, &Robot::default(), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    says(&error, &["more than 1048576 bytes"]);
}
