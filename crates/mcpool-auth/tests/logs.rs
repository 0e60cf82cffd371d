//! No secret gets into a log, at any level, of any crate: rmcp's lines included.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use mcpool_core::{OAuthGrant, OAuthSpec, SecretSource};
use support::{Robot, call, guarded, in_memory, spec, start};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_login_a_refresh_and_a_headless_grant_log_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();

    let person = start(|_| {});
    let oauth = in_memory();
    let login = spec(&person.mcp_url(), OAuthSpec::new());
    oauth.login(&login, &Robot::default(), None).await.unwrap();
    person.expire_tokens();
    assert_ne!(call(&oauth, &login, "ping").await.unwrap(), 401);
    let status = format!("{:?} {oauth:?}", oauth.status(&login).await.unwrap());
    oauth.logout(&login).await.unwrap();

    let robot = start(|options| {
        options.client = Some(("robot".into(), "canary-client-secret".into()));
    });
    let settings = OAuthSpec::new()
        .with_grant(OAuthGrant::ClientCredentials)
        .with_client(
            "robot",
            Some(SecretSource::Value("canary-client-secret".into())),
        )
        .with_issuer(robot.issuer());
    let headless = spec(&robot.mcp_url(), settings);
    assert_ne!(call(&oauth, &headless, "ping").await.unwrap(), 401);

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.contains("rmcp::transport::auth"),
        "rmcp logged nothing"
    );
    let secrets = [person.secrets(), robot.secrets()].concat();
    assert!(secrets.len() > 8);
    for secret in &secrets {
        let found = text.lines().find(|line| line.contains(secret.as_str()));
        assert!(found.is_none(), "{secret} stands in a log: {found:?}");
        assert!(!status.contains(secret.as_str()));
    }
}

#[tokio::test]
async fn what_a_login_brings_is_masked_where_its_server_says_it_back() {
    use mcpool_core::Sensitivity;

    let (server, oauth, spec) = guarded(|options| options.client_secrets = true);
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    let kept = |secret: &&String| {
        ["access-", "refresh-", "clientsecret-"]
            .iter()
            .any(|kind| secret.starts_with(kind))
    };
    let secrets = server.secrets();
    let secrets: Vec<&String> = secrets.iter().filter(kept).collect();
    assert_eq!(secrets.len(), 5);
    for secret in secrets {
        let said = format!("no such token: {secret}");
        let shown = spec.masker.mask(&said, Sensitivity::Secret);
        assert!(!shown.contains(secret.as_str()), "{shown}");
    }
}
