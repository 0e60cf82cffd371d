//! Requests for more scope.

use std::sync::{Arc, atomic::Ordering};

use mcpool_auth::{FileStore, OAuth};
use mcpool_core::{ErrorKind, OAuthSpec};

use crate::support::{Robot, call, in_memory, spec, start};

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
