//! Logins by a person, and grants without one.

use std::sync::Arc;

use mcpool_auth::{InteractiveLogin, LoginState};
use mcpool_core::{
    AuthRequest, AuthenticatorProvider as _, ErrorKind, HttpSpec, OAuthGrant, OAuthSpec,
    SecretSource, ServerSpec, SpecResolver,
};
use mcpool_testkit::{
    Behavior,
    fixtures::{
        authz::{AnswerForm, Attack},
        http::HttpFixture,
    },
};

use crate::support::{Robot, authenticator, call, guarded, in_memory, spec, start};

#[tokio::test]
async fn a_login_leads_to_a_token_that_both_transports_use() {
    let (server, oauth, spec) = guarded(|_| {});

    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    let challenge = error.challenge().unwrap().to_owned();
    assert_eq!(
        oauth.status(&spec).await.unwrap().state,
        LoginState::LoggedOut
    );

    let robot = Robot::default();
    let status = oauth.login(&spec, &robot, Some(&challenge)).await.unwrap();
    assert_eq!(status.state, LoginState::LoggedIn);
    assert_eq!(status.issuer.as_deref(), Some(server.issuer().as_str()));
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_eq!(server.count("served"), 1);

    // The same server behind its SSE transport: one set of tokens for one URL.
    let sse = ServerSpec::sse("guarded", HttpSpec::new(server.mcp_url())).unwrap();
    let headers = authenticator(&oauth, &sse)
        .await
        .authorize(AuthRequest::new("GET", &server.mcp_url()))
        .await
        .unwrap();
    assert_eq!(headers.len(), 1);
}

#[tokio::test]
async fn a_login_without_a_challenge_asks_the_server_for_one() {
    let server = start(|options| options.scope = Some("mcp:read".into()));
    let oauth = in_memory();
    for url in [server.mcp_url(), server.sse_url()] {
        let spec = spec(&url, OAuthSpec::new());
        let status = oauth.login(&spec, &Robot::default(), None).await.unwrap();
        assert_eq!(status.scopes, ["mcp:read"]);
    }
}

#[tokio::test]
async fn logging_out_revokes_and_forgets() {
    let (server, oauth, spec) = guarded(|_| {});
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert!(oauth.logout(&spec).await.unwrap());
    assert_eq!(server.count("revoke"), 2);
    assert!(!oauth.logout(&spec).await.unwrap());
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
}

#[tokio::test]
async fn client_credentials_need_no_person() {
    let server = start(|options| {
        options.client = Some(("robot".into(), "canary-secret".into()));
        options.no_refresh = true;
    });
    let oauth = in_memory();
    let secret = SecretSource::Value("canary-secret".into());
    let settings = OAuthSpec::new()
        .with_grant(OAuthGrant::ClientCredentials)
        .with_client("robot", Some(secret))
        .with_issuer(server.issuer());
    let spec = spec(&server.mcp_url(), settings);
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_eq!(server.count("client_credentials"), 1);
    server.expire_tokens();
    // Refused within a minute of its birth by the same authorization server: said, not looped.
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    assert_eq!(server.count("client_credentials"), 1);
}

#[tokio::test]
async fn a_wrong_client_secret_is_reported_once() {
    let server = start(|options| options.client = Some(("robot".into(), "right".into())));
    let oauth = in_memory();
    let settings = OAuthSpec::new()
        .with_grant(OAuthGrant::ClientCredentials)
        .with_client("robot", Some(SecretSource::Value("canary-wrong".into())))
        .with_issuer(server.issuer());
    let spec = spec(&server.mcp_url(), settings);
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    assert!(error.to_string().contains("invalid_client"), "{error}");
    assert!(!format!("{error:?}").contains("canary"));
    assert_eq!(server.count("client_credentials"), 1);
}

#[tokio::test]
async fn accounts_at_one_server_are_kept_apart() {
    let server = start(|_| {});
    let oauth = in_memory();
    let home = spec(&server.mcp_url(), OAuthSpec::new().with_account("home"));
    let work = spec(&server.mcp_url(), OAuthSpec::new().with_account("work"));
    oauth.login(&home, &Robot::default(), None).await.unwrap();
    assert_eq!(
        oauth.status(&work).await.unwrap().state,
        LoginState::LoggedOut
    );
    assert!(oauth.logout(&home).await.unwrap());
}

#[tokio::test]
async fn requests_do_not_wait_behind_a_person() {
    let (server, oauth, spec) = guarded(|_| {});
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();
    let agent = InteractiveLogin::new();
    let login = oauth.login(&spec, &agent, None);
    tokio::pin!(login);
    tokio::select! {
        _ = &mut login => panic!("nobody logged in"),
        // It is refreshed meanwhile.
        status = call(&oauth, &spec, "ping") => assert_ne!(status.unwrap(), 401),
    }
    assert_eq!(server.count("refresh_token"), 1);
}

#[tokio::test]
async fn a_server_that_asks_for_no_login_is_not_logged_in_to() {
    let fixture = HttpFixture::start(Behavior::new()).unwrap();
    let spec = spec(&fixture.url(), OAuthSpec::new());
    let error = in_memory()
        .login(&spec, &Robot::default(), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains("asks for no login"), "{error}");
    let registrations = fixture.requests();
    assert!(
        registrations.iter().all(|seen| seen.rpc != "register"),
        "{registrations:?}"
    );
}

#[tokio::test]
async fn a_login_can_be_forgotten_without_the_variables_of_the_spec() {
    #[derive(Debug)]
    struct Unset;
    #[async_trait::async_trait]
    impl SpecResolver for Unset {
        async fn resolve(&self, _: &ServerSpec) -> mcpool_core::Result<ServerSpec> {
            Err(mcpool_core::Error::new(
                ErrorKind::Unresolved,
                "SECRET is not set",
            ))
        }
    }
    let (_server, oauth, spec) = guarded(|_| {});
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    let unset = spec.with_resolver(Arc::new(Unset));
    let status = oauth.status(&unset).await.unwrap();
    assert_eq!(status.state, LoginState::LoggedIn);
    assert!(oauth.logout(&unset).await.unwrap());
}

#[tokio::test]
async fn oauth_that_is_off_sends_nothing() {
    let server = start(|_| {});
    let oauth = in_memory();
    let on = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&on, &Robot::default(), None).await.unwrap();
    let off = spec(
        &server.mcp_url(),
        OAuthSpec::new().with_grant(OAuthGrant::Off),
    );
    let own = HttpSpec::new(server.mcp_url()).with_header("authorization", "Bearer own");
    let own = ServerSpec::http("own", own).unwrap();
    for spec in [off, own] {
        assert!(oauth.authenticator(&spec).await.unwrap().is_none());
        let status = oauth.status(&spec).await.unwrap();
        assert_eq!(status.state, LoginState::NotUsed);
        let error = oauth
            .login(&spec, &Robot::default(), None)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn a_configured_metadata_url_is_where_the_metadata_is_read() {
    let server = start(|_| {});
    let oauth = in_memory();
    let metadata = format!("{}/.well-known/oauth-authorization-server", server.issuer());
    let good = spec(
        &server.mcp_url(),
        OAuthSpec::new().with_metadata_url(&metadata),
    );
    let status = oauth.login(&good, &Robot::default(), None).await.unwrap();
    assert_eq!(status.issuer.as_deref(), Some(server.issuer().as_str()));
    assert_ne!(call(&oauth, &good, "ping").await.unwrap(), 401);
    let nothing = spec(
        &server.mcp_url(),
        OAuthSpec::new().with_metadata_url(format!("{}/nothing", server.issuer())),
    );
    let error = in_memory()
        .login(&nothing, &Robot::default(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nothing"), "{error}");

    // Metadata that lies elsewhere than its issuer is the user's to allow, by naming the issuer.
    let apart = start(|options| options.attack = Some(Attack::WrongIssuer));
    let metadata = format!("{}/.well-known/oauth-authorization-server", apart.issuer());
    let named = spec(
        &apart.mcp_url(),
        OAuthSpec::new()
            .with_metadata_url(&metadata)
            .with_issuer("https://bank.example"),
    );
    let error = in_memory()
        .login(&named, &Robot::default(), None)
        .await
        .unwrap_err();
    // It is taken: only the redirect of this fixture comes from another name.
    assert_eq!(apart.count("register"), 1);
    assert!(error.to_string().contains("RFC 9207"), "{error}");

    // A document of somebody else's, who would get the codes.
    let elsewhere = start(|options| options.attack = Some(Attack::WrongIssuer));
    let metadata = format!(
        "{}/.well-known/oauth-authorization-server",
        elsewhere.issuer()
    );
    let false_one = spec(
        &server.mcp_url(),
        OAuthSpec::new().with_metadata_url(&metadata),
    );
    let error = in_memory()
        .login(&false_one, &Robot::default(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused for safety"), "{error}");
}

#[tokio::test]
async fn every_way_that_answers_are_written_leads_to_a_login_that_is_renewed() {
    for answers in [
        AnswerForm::Standard,
        AnswerForm::TextNumbers,
        AnswerForm::Fractions,
        AnswerForm::Bare,
        AnswerForm::Form,
    ] {
        let (server, oauth, spec) = guarded(|options| options.answers = answers);
        let status = oauth
            .login(&spec, &Robot::default(), None)
            .await
            .unwrap_or_else(|error| panic!("{answers:?}: {error}"));
        let lasts = status
            .expires_at
            .map(|at| at.duration_since(std::time::SystemTime::now()).unwrap());
        match answers {
            AnswerForm::Bare => assert_eq!(lasts, None),
            _ => {
                let lasts = lasts.unwrap_or_else(|| panic!("{answers:?}: no end"));
                assert!(
                    (3590..=3600).contains(&lasts.as_secs()),
                    "{answers:?}: {lasts:?}"
                );
            }
        }
        assert_ne!(
            call(&oauth, &spec, "ping").await.unwrap(),
            401,
            "{answers:?}"
        );
        server.expire_tokens();
        assert_ne!(
            call(&oauth, &spec, "ping").await.unwrap(),
            401,
            "{answers:?}"
        );
        assert_eq!(server.count("refresh_token"), 1, "{answers:?}");
        // The registration is good for the next login.
        oauth.login(&spec, &Robot::default(), None).await.unwrap();
        assert_eq!(server.count("register"), 1, "{answers:?}");
        assert!(oauth.logout(&spec).await.unwrap());
        assert_eq!(server.count("revoke"), 2, "{answers:?}");
    }
}

#[tokio::test]
async fn a_slash_at_the_end_makes_no_other_resource() {
    let (server, oauth, spec) = guarded(|options| options.resource_slash = true);
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    server.expire_tokens();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    // It is asked for in its own words.
    let named = format!("{}/", server.mcp_url());
    assert_eq!(server.seen_resources(), [named.as_str(); 3]);
    // Also where the user writes the slash and the server does not.
    let other = start(|_| {});
    let spec = crate::support::spec(&format!("{}/", other.mcp_url()), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_eq!(other.seen_resources(), [other.mcp_url(), other.mcp_url()]);
}
