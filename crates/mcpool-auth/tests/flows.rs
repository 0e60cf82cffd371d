//! Logins, refreshes and step-ups against the test authorization server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mcpool_auth::{FileStore, InteractiveLogin, LoginState, MemoryStore, OAuth, TokenStore};
use mcpool_core::{
    AuthRequest, AuthenticatorProvider, ErrorKind, HttpSpec, OAuthGrant, OAuthSpec, SecretSource,
    ServerSpec, SpecResolver,
};
use mcpool_testkit::{
    Behavior,
    fixtures::{
        authz::{AnswerForm, Attack},
        http::HttpFixture,
    },
};
use support::{Robot, authenticator, call, in_memory, spec, start};

#[tokio::test]
async fn a_login_leads_to_a_token_that_both_transports_use() {
    let server = start(|_| {});
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());

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
    let server = start(|_| {});
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert!(oauth.logout(&spec).await.unwrap());
    assert_eq!(server.count("revoke"), 2);
    assert!(!oauth.logout(&spec).await.unwrap());
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
}

#[tokio::test]
async fn a_401_refreshes_once_for_all_who_were_refused_and_replays() {
    let server = start(|options| options.think = Duration::from_millis(50));
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
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
async fn a_token_is_refreshed_before_it_ends() {
    // Of two seconds, a tenth rounds to nothing: stale when it ends. The guard would refuse it.
    let server = start(|options| options.token_lifetime = Some(Duration::from_secs(2)));
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
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
    let server = start(|options| options.think = Duration::from_millis(200));
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
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
async fn step_up_asks_for_the_union() {
    let server = start(|options| {
        options.scope = Some("mcp:read".into());
        options.call_scope = Some("mcp:write".into());
    });
    let robot = Arc::new(Robot::default());
    let oauth = in_memory().with_agent(robot.clone());
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_ne!(call(&oauth, &spec, "tools/call").await.unwrap(), 403);
    assert_eq!(robot.logins.load(Ordering::SeqCst), 2);
    let scopes = oauth.status(&spec).await.unwrap().scopes;
    assert_eq!(scopes, ["mcp:read", "mcp:write"]);
    assert_eq!(robot.seen.lock().unwrap()[1].0.scopes, scopes);
    // The same redirect URI: the registration is used again.
    assert_eq!(server.count("register"), 1);
}

#[tokio::test]
async fn step_up_without_a_person_is_remembered_for_the_login() {
    let server = start(|options| {
        options.scope = Some("mcp:read".into());
        options.call_scope = Some("mcp:write".into());
    });
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    let error = call(&oauth, &spec, "tools/call").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    let status = oauth.status(&spec).await.unwrap();
    assert_eq!(status.wanted_scopes, ["mcp:write"]);
    let status = oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_eq!(status.scopes, ["mcp:read", "mcp:write"]);
    assert!(status.wanted_scopes.is_empty());
}

#[tokio::test]
async fn a_server_that_never_has_enough_is_asked_a_few_times_only() {
    let server = start(|options| {
        options.scope = Some("mcp:read".into());
        options.call_scope = Some("mcp:write".into());
        options.never_enough = true;
    });
    let robot = Arc::new(Robot::default());
    let oauth = in_memory().with_agent(robot.clone());
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    for _ in 0..5 {
        let error = call(&oauth, &spec, "tools/call").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden);
    }
    assert_eq!(robot.logins.load(Ordering::SeqCst), 2);
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
async fn a_wrong_client_secret_is_told_once() {
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
async fn a_server_without_registration_says_what_to_do() {
    let server = start(|options| options.client = Some(("known".into(), "s".into())));
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let error = oauth
        .login(&spec, &Robot::default(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("set client_id"), "{error}");
    assert!(error.to_string().contains(support::REDIRECT), "{error}");
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
async fn more_scope_from_another_process_is_noticed() {
    let server = start(|options| {
        options.scope = Some("mcp:read".into());
        options.call_scope = Some("mcp:write".into());
    });
    let directory = tempfile::tempdir().unwrap();
    let store = || Arc::new(FileStore::new(directory.path().join("credentials")));
    let oauth = OAuth::new(store());
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let robot = Robot::default();
    oauth.login(&spec, &robot, None).await.unwrap();
    let error = call(&oauth, &spec, "tools/call").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    let other = OAuth::new(store());
    let login = other.login(&spec, &robot, None).await.unwrap();
    assert_eq!(login.scopes, ["mcp:read", "mcp:write"]);
    // A connection that goes on takes it up as well, and does not write its old grant over it.
    assert_ne!(call(&oauth, &spec, "tools/call").await.unwrap(), 403);
    assert_eq!(oauth.status(&spec).await.unwrap().scopes, login.scopes);
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

#[tokio::test]
async fn requests_do_not_wait_behind_a_person() {
    let server = start(|_| {});
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
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
    let server = start(|_| {});
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
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
        let server = start(|options| options.answers = answers);
        let oauth = in_memory();
        let spec = spec(&server.mcp_url(), OAuthSpec::new());
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
async fn a_registered_client_proves_itself_as_its_registration_says() {
    let server = start(|options| options.client_secrets = true);
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_eq!(server.count("refused"), 0);
}

#[tokio::test]
async fn a_slash_at_the_end_makes_no_other_resource() {
    let server = start(|options| options.resource_slash = true);
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    server.expire_tokens();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    // It is asked for in its own words.
    let named = format!("{}/", server.mcp_url());
    assert_eq!(server.seen_resources(), [named.as_str(); 3]);
    // Also where the user writes the slash and the server does not.
    let other = start(|_| {});
    let spec = support::spec(&format!("{}/", other.mcp_url()), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_eq!(other.seen_resources(), [other.mcp_url(), other.mcp_url()]);
}

#[tokio::test]
async fn a_forgotten_registration_is_made_again_once() {
    let server = Arc::new(start(|_| {}));
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let forgetful = || {
        let server = Arc::clone(&server);
        Robot::meanwhile(move || {
            server.forget_clients();
            Ok(())
        })
    };
    // A new registration is not one of an earlier login: forgotten at once, it is an error.
    let error = oauth.login(&spec, &forgetful(), None).await.unwrap_err();
    assert!(error.to_string().contains("invalid_client"), "{error}");
    assert_eq!(server.count("register"), 1);

    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_eq!(server.count("register"), 2);
    let robot = forgetful();
    let status = oauth.login(&spec, &robot, None).await.unwrap();
    assert_eq!(status.state, LoginState::LoggedIn);
    assert_eq!(server.count("register"), 3);
    assert_eq!(robot.logins.load(Ordering::SeqCst), 2);
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
}

#[tokio::test]
async fn a_registration_that_is_forgotten_before_a_refresh_is_made_by_the_next_login() {
    let server = start(|_| {});
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();
    server.forget_clients();
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_eq!(server.count("register"), 2);
}

#[tokio::test]
async fn a_login_that_nobody_came_back_from_may_have_been_a_forgotten_registration() {
    let server = start(|_| {});
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    // The page says that the client is unknown, and the person closes it.
    let gone = Robot::meanwhile(|| {
        Err(mcpool_core::Error::new(
            ErrorKind::AuthRequired,
            "nobody logged in",
        ))
    });
    oauth.login(&spec, &gone, None).await.unwrap_err();
    assert_eq!(server.count("register"), 1);
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    assert_eq!(server.count("register"), 2);
}

#[tokio::test]
async fn a_server_that_takes_only_basic_is_not_logged_in_to() {
    let server = start(|options| options.challenge = Some("Basic realm=\"files\"".into()));
    let oauth = in_memory();
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    let error = call(&oauth, &spec, "ping").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    assert!(error.to_string().contains("only Basic"), "{error}");
    for challenge in [None, error.challenge()] {
        let error = oauth
            .login(&spec, &Robot::default(), challenge)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(
            error.to_string().contains("header Authorization"),
            "{error}"
        );
    }
    assert_eq!(server.count("register"), 0);
}
