//! How a client is registered, and registered again.

use std::sync::{Arc, atomic::Ordering};

use mcpool_auth::LoginState;
use mcpool_core::{ErrorKind, OAuthSpec};

use crate::support::{Robot, call, guarded, in_memory, spec, start};

#[tokio::test]
async fn a_server_without_registration_says_what_to_do() {
    let (_server, oauth, spec) =
        guarded(|options| options.client = Some(("known".into(), "s".into())));
    let error = oauth
        .login(&spec, &Robot::default(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("set client_id"), "{error}");
    assert!(
        error.to_string().contains(crate::support::REDIRECT),
        "{error}"
    );
}

#[tokio::test]
async fn a_registered_client_proves_itself_as_its_registration_says() {
    let (server, oauth, spec) = guarded(|options| options.client_secrets = true);
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    assert_eq!(server.count("refused"), 0);
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
    let (server, oauth, spec) = guarded(|_| {});
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
    let (server, oauth, spec) = guarded(|_| {});
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
    let (server, oauth, spec) =
        guarded(|options| options.challenge = Some("Basic realm=\"files\"".into()));
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
