//! The stores: what is written, who can read it, and what fifty processes do to it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{process::Stdio, sync::Arc, time::Duration};

use mcpool_auth::{FileStore, GrantKey, LoginState, OAuth, TokenStore};
use mcpool_core::OAuthSpec;
use support::{Robot, call, spec, start};

#[tokio::test]
async fn files_are_private_whole_and_one_for_each_server() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::new(directory.path().join("deep/credentials"));
    let server = start(|_| {});
    let oauth = OAuth::new(Arc::new(store.clone()));
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();

    let files: Vec<_> = std::fs::read_dir(store.directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let json: Vec<_> = files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    assert_eq!(json.len(), 1, "{files:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for path in files.iter().filter(|path| path.is_file()) {
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path:?}");
        }
        let mode = store.directory().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    // Another process would find it.
    let again = OAuth::new(Arc::new(store.clone()));
    assert_eq!(
        again.status(&spec).await.unwrap().state,
        LoginState::LoggedIn
    );
    assert_ne!(call(&again, &spec, "ping").await.unwrap(), 401);

    // A damaged file is an error, not a log-out, and its text is not shown.
    let text = std::fs::read_to_string(json[0]).unwrap();
    std::fs::write(json[0], &text[..text.len() / 2]).unwrap();
    let error = OAuth::new(Arc::new(store.clone()))
        .status(&spec)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    for secret in server.secrets() {
        assert!(!format!("{error:?}").contains(&secret));
    }
    // Logging out is the way out.
    assert!(OAuth::new(Arc::new(store)).logout(&spec).await.unwrap());
}

#[tokio::test]
async fn a_lock_keeps_others_out_until_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::new(directory.path().join("credentials"));
    let key = GrantKey::new("https://mcp.example/mcp", None);
    let held = store.lock(&key).await.unwrap();
    // Another server's lock is free.
    let other = GrantKey::new("https://mcp.example/mcp", Some("work".into()));
    drop(store.lock(&other).await.unwrap());
    let waiting = store.lock(&key);
    tokio::pin!(waiting);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut waiting)
            .await
            .is_err()
    );
    drop(held);
    drop(waiting.await.unwrap());
}

#[tokio::test]
async fn a_lock_that_is_not_released_names_its_holder() {
    let directory = tempfile::tempdir().unwrap();
    let store =
        FileStore::new(directory.path().join("credentials")).with_lock_timeout(Duration::ZERO);
    let key = GrantKey::new("https://mcp.example/mcp", None);
    let _held = store.lock(&key).await.unwrap();
    let error = store.lock(&key).await.unwrap_err();
    assert_eq!(error.kind(), mcpool_core::ErrorKind::Timeout);
    let holder = format!("process {} (stores", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn what_others_may_read_is_not_used_and_says_what_to_do() {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::Path};

    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("credentials"));
    let server = start(|_| {});
    let oauth = || OAuth::new(Arc::new(store.clone()));
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth().login(&spec, &Robot::default(), None).await.unwrap();
    let file = std::fs::read_dir(store.directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "json"))
        .unwrap();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    for (path, loose, tight) in [
        (file.as_path(), 0o644, 0o600),
        (store.directory(), 0o755, 0o700),
    ] {
        set(path, loose);
        let help = format!("run `chmod {tight:o} {}`", path.display());
        let status = oauth().status(&spec).await.unwrap_err();
        let called = call(&oauth(), &spec, "ping").await.unwrap_err();
        let login = oauth()
            .login(&spec, &Robot::default(), None)
            .await
            .unwrap_err();
        for error in [status, called, login] {
            assert!(error.to_string().contains(&help), "{error}");
        }
        set(path, tight);
        assert_ne!(call(&oauth(), &spec, "ping").await.unwrap(), 401);
    }
    assert_eq!(server.count("register"), 1);
    // A file that somebody has opened to others can be logged out of.
    set(&file, 0o644);
    assert!(oauth().logout(&spec).await.unwrap());
    assert!(!file.exists());
}

const SERVER: &str = "MCPOOL_TEST_SERVER";
const STORE: &str = "MCPOOL_TEST_STORE";

/// One of the fifty: makes a call as soon as it may, and says so.
#[tokio::test]
#[ignore = "a process of the test below"]
async fn one_process_of_many() {
    let store = FileStore::new(std::env::var(STORE).unwrap());
    let oauth = OAuth::new(Arc::new(store));
    let spec = spec(&std::env::var(SERVER).unwrap(), OAuthSpec::new());
    println!("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    assert_ne!(call(&oauth, &spec, "ping").await.unwrap(), 401);
    println!("served");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_processes_refresh_once_and_nobody_is_logged_out() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    let directory = tempfile::tempdir().unwrap();
    let server = start(|options| options.think = Duration::from_millis(100));
    let oauth = OAuth::new(Arc::new(FileStore::new(
        directory.path().join("credentials"),
    )));
    let spec = spec(&server.mcp_url(), OAuthSpec::new());
    oauth.login(&spec, &Robot::default(), None).await.unwrap();
    server.expire_tokens();

    let mut processes = Vec::new();
    for _ in 0..50 {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_process_of_many", "--ignored", "--nocapture"])
            .env(SERVER, server.mcp_url())
            .env(STORE, directory.path().join("credentials"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        processes.push((child, lines));
    }
    // Everybody stands at the line before anybody runs.
    for (_, lines) in &mut processes {
        while lines.next_line().await.unwrap().unwrap() != "ready" {}
    }
    for (child, _) in &mut processes {
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .await
            .unwrap();
    }
    for (mut child, mut lines) in processes {
        let mut served = false;
        while let Some(line) = lines.next_line().await.unwrap() {
            served |= line == "served";
        }
        assert!(child.wait().await.unwrap().success());
        assert!(served);
    }
    assert_eq!(server.count("refresh_token"), 1);
    assert_eq!(server.count("refused"), 0);
    assert_eq!(server.count("served"), 50);
    assert_eq!(
        oauth.status(&spec).await.unwrap().state,
        LoginState::LoggedIn
    );
}
