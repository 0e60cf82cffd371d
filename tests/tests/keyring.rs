//! Tokens in a real keyring: GNOME's, in a session of the test's own.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
};

use mcpool::{
    HttpSpec, OAuthGrant, OAuthSpec, SecretSource, ServerSpec,
    auth::{FileStore, InteractiveLogin, KeyringStore, LoginState, OAuth, TokenStore},
};
use mcpool_testkit::fixtures::authz::{AuthzFixture, AuthzOptions};

/// Set in the process that runs inside the session.
const INSIDE: &str = "MCPOOL_TEST_KEYRING";

#[test]
fn the_keyring_keeps_tokens_across_processes_until_the_logout() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(inside());
    }
    if std::env::var("MCPOOL_KEYRING").as_deref() == Ok("absent") {
        eprintln!("not tested: `.ci/run` could not install a keyring");
        return;
    }
    for program in ["dbus-run-session", "gnome-keyring-daemon"] {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            return mcpool_e2e::skip(program, "not installed: the keyring is not tested");
        }
    }
    let home = tempfile::tempdir().unwrap();
    let mut session = Command::new("dbus-run-session")
        .args(["--", "sh", "-c"])
        .arg("gnome-keyring-daemon --unlock --components=secrets >/dev/null && exec \"$0\" \"$@\"")
        .arg(std::env::current_exe().unwrap())
        .args(["the_keyring_keeps_tokens", "--nocapture"])
        .env(INSIDE, "1")
        .env("HOME", home.path())
        .env("XDG_DATA_HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut password = session.stdin.take().unwrap();
    password.write_all(b"password").unwrap();
    drop(password);
    let output = session.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

async fn inside() {
    let mut options = AuthzOptions::default();
    options.client = Some(("robot".into(), "canary".into()));
    let server = AuthzFixture::start(options).unwrap();
    let directory = tempfile::tempdir().unwrap();
    // The store makes it, readable by its owner only.
    let path = directory.path().join("credentials");
    let store = || -> Arc<dyn TokenStore> { Arc::new(KeyringStore::new(FileStore::new(&path))) };
    let oauth = OAuthSpec::new()
        .with_grant(OAuthGrant::ClientCredentials)
        .with_client("robot", Some(SecretSource::Value("canary".into())))
        .with_issuer(server.issuer());
    let http = HttpSpec::new(server.mcp_url()).with_oauth(oauth);
    let spec = ServerSpec::http("guarded", http).unwrap();

    let here = OAuth::new(store());
    assert_eq!(
        here.status(&spec).await.unwrap().state,
        LoginState::LoggedOut
    );
    here.login(&spec, &InteractiveLogin::new(), None)
        .await
        .unwrap();
    // Another process finds it, by the keyring alone: no file holds a token.
    let there = OAuth::new(store());
    let found = there.status(&spec).await.unwrap();
    assert_eq!(found.state, LoginState::LoggedIn);
    assert_eq!(found.issuer.as_deref(), Some(server.issuer().as_str()));
    let entries = |path: &std::path::Path| -> Vec<_> {
        let entries = std::fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    for entry in entries(&path) {
        let files = match entry.is_dir() {
            true => entries(&entry),
            false => vec![entry],
        };
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            assert!(!text.contains("token"), "{text}");
        }
    }
    assert!(there.logout(&spec).await.unwrap());
    assert!(!there.logout(&spec).await.unwrap());
    assert_eq!(
        here.status(&spec).await.unwrap().state,
        LoginState::LoggedOut
    );
}
