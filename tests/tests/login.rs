//! Logins from the command line and in an application, against the test authorization server:
//! real processes, real sockets, a browser of a few lines.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use mcpool::{
    ConnectionManager, ErrorKind, EventKind, HttpSpec, ServerSpec, StandardFactory, StateKind,
    Verbs as _,
    auth::{InteractiveLogin, MemoryStore, OAuth},
};
use mcpool_e2e::{
    Cli,
    logins::{get, paste, redirect_of, shown_url},
};
use mcpool_testkit::{
    eventually_blocking,
    fixtures::authz::{Attack, AuthzFixture, AuthzOptions},
};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(30);

/// A browser that follows every redirect and keeps the last page.
const BROWSER: &str = r#"#!/usr/bin/env python3
import os, sys, urllib.request
page = urllib.request.urlopen(sys.argv[1]).read()
with open(os.environ["PAGE"] + ".new", "wb") as out:
    out.write(page)
os.rename(os.environ["PAGE"] + ".new", os.environ["PAGE"])
"#;

fn authz(change: impl FnOnce(&mut AuthzOptions)) -> AuthzFixture {
    let mut options = AuthzOptions::default();
    change(&mut options);
    AuthzFixture::start(options).unwrap()
}

/// The same server over both transports, and by detection.
fn config(server: &AuthzFixture) -> Value {
    json!({"mcpServers": {
        "guarded": {"type": "http", "url": server.mcp_url()},
        "legacy": {"type": "sse", "url": server.sse_url()},
        "found": {"url": server.sse_url()},
    }})
}

#[test]
fn a_login_in_the_browser_serves_every_command_until_the_logout() {
    let server = authz(|options| options.scope = Some("mcp:read".into()));
    let cli = Cli::new(config(&server));
    let browser = cli.dir().join("browser");
    std::fs::write(&browser, BROWSER).unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let page = cli.dir().join("page.html");
    let cli = cli
        .with_env("BROWSER", browser.to_str().unwrap())
        .with_env("PAGE", page.to_str().unwrap());

    for command in [
        &["tools", "guarded"][..],
        &["call", "guarded", "echo", "message=x"],
        &["auth", "status", "guarded"],
    ] {
        let run = cli.run(command);
        assert_eq!(run.code(), Some(3), "{command:?}: {}", run.stderr());
        let says = run.stderr().contains(" login guarded`");
        assert!(says || command[0] == "auth", "{}", run.stderr());
    }
    assert_eq!(cli.run(&["status"]).code(), Some(3));

    let login = cli.run(&["login", "guarded"]);
    assert_eq!(login.code(), Some(0), "{}", login.stderr());
    assert!(
        login.stdout().contains("guarded: logged in at http://"),
        "{}",
        login.stdout()
    );
    assert!(
        login.stdout().contains("guarded: ready"),
        "{}",
        login.stdout()
    );
    let shown = eventually_blocking(LONG, || page.exists());
    assert!(shown, "the browser got no page");
    let shown = std::fs::read_to_string(&page).unwrap();
    assert!(shown.contains("You are logged in"), "{shown}");

    let status = cli.run(&["--json", "auth", "status", "guarded"]);
    assert_eq!(status.code(), Some(0), "{}", status.stderr());
    let stored = &status.json()["servers"][0];
    assert_eq!(stored["state"], "logged_in");
    assert_eq!(stored["issuer"], server.issuer());
    assert_eq!(stored["scopes"], json!(["mcp:read"]));
    let call = cli.run(&["call", "guarded", "echo", "message=here"]);
    assert_eq!(call.code(), Some(0), "{}", call.stderr());

    // Legacy SSE: the same flow, its own URL, its own tokens.
    for sse in ["legacy", "found"] {
        let run = cli.run(&["login", sse]);
        assert_eq!(run.code(), Some(0), "{sse}: {}", run.stderr());
        let call = cli.run(&["call", sse, "echo", "message=here"]);
        assert_eq!(call.code(), Some(0), "{sse}: {}", call.stderr());
    }
    let all = cli.run(&["--json", "status"]);
    assert_eq!(all.code(), Some(0), "{}", all.stderr());

    // Ended tokens are renewed in passing.
    server.expire_tokens();
    let call = cli.run(&["call", "legacy", "echo", "message=again"]);
    assert_eq!(call.code(), Some(0), "{}", call.stderr());
    assert_eq!(server.count("refresh_token"), 1);

    let logout = cli.run(&["logout", "guarded"]);
    assert_eq!(logout.code(), Some(0), "{}", logout.stderr());
    assert_eq!(server.count("revoke"), 2);
    assert_eq!(cli.run(&["tools", "guarded"]).code(), Some(3));

    let secrets = server.secrets();
    for text in [
        login.stdout(),
        login.stderr(),
        status.stdout(),
        all.stdout(),
    ] {
        for secret in &secrets {
            assert!(!text.contains(secret), "a secret in {text}");
        }
    }
}

#[test]
fn a_login_without_a_browser_is_pasted_and_a_wrong_paste_is_reported() {
    let server = authz(|_| {});
    let cli = Cli::new(config(&server));
    let mut wrong = cli.start_typing(&["login", "guarded", "--no-browser"]);
    let _ = shown_url(&wrong);
    // What is no address at all is asked for again.
    wrong.type_line("");
    wrong.type_line("yes");
    wrong.type_line("http://127.0.0.1/callback?code=x&state=guessed");
    assert_eq!(wrong.finish().status.code(), Some(3));
    assert!(
        wrong.stderr().contains("belongs to no login") && wrong.stderr().contains("Paste it whole"),
        "{}",
        wrong.stderr()
    );
    let (code, output) = paste(&cli, &["guarded"]);
    assert_eq!(code, Some(0), "{output}");

    let stdio = Cli::new(json!({"mcpServers": {"local": {"command": "x"}}}));
    let run = stdio.run(&["login", "local"]);
    assert_eq!(run.code(), Some(2), "{}", run.stderr());
    assert!(run.stderr().contains("behind a URL"), "{}", run.stderr());
}

#[test]
fn a_login_in_one_terminal_connects_the_watch_in_another() {
    let server = authz(|_| {});
    let cli = Cli::new(json!({"mcpServers": {
        "guarded": {"type": "http", "url": server.mcp_url()},
    }}));
    let watch = cli.start(&["--json", "watch"]);
    let seen = |word: &str| watch.stdout().lines().any(|line| line.contains(word));
    assert!(
        eventually_blocking(LONG, || seen(r#""to":{"state":"auth_required""#)
            || seen("auth_required")),
        "{}",
        watch.stdout()
    );
    let (code, output) = paste(&cli, &["guarded"]);
    assert_eq!(code, Some(0), "{output}");
    let connected = eventually_blocking(LONG, || seen(r#""event":"connected""#));
    assert!(connected, "{}", watch.stdout());
    let failures = watch
        .stdout()
        .matches(r#""event":"connect_failed""#)
        .count();
    assert_eq!(failures, 1, "it was left alone: {}", watch.stdout());
}

#[test]
fn client_credentials_of_a_config_need_no_login() {
    let server = authz(|options| {
        options.client = Some(("robot".into(), "canary-of-the-robot".into()));
    });
    let config = json!({"mcpServers": {"robot": {
        "type": "http",
        "url": server.mcp_url(),
        "oauth": {
            "grant": "client_credentials",
            "client_id": "robot",
            "client_secret": "${ROBOT_SECRET}",
            "issuer": server.issuer(),
        },
    }}});
    let unset = Cli::new(config.clone()).run(&["tools", "robot"]);
    assert_eq!(unset.code(), Some(2), "{}", unset.stderr());
    let cli = Cli::new(config).with_env("ROBOT_SECRET", "canary-of-the-robot");
    let status = cli.run(&["--json", "-vvv", "status"]);
    assert_eq!(status.code(), Some(0), "{}", status.stderr());
    assert_eq!(status.json()["servers"][0]["state"], "ready");
    for secret in server.secrets() {
        assert!(!status.stdout().contains(&secret) && !status.stderr().contains(&secret));
    }
    // `login` gets tokens again, without a person.
    let login = cli.run(&["login", "robot"]);
    assert_eq!(login.code(), Some(0), "{}", login.stderr());
    assert!(login.stderr().is_empty(), "{}", login.stderr());
}

#[test]
fn a_server_that_names_another_authorization_server_gets_it_no_secret() {
    let evil = authz(|_| {});
    let server = authz(|options| {
        options.attack = Some(Attack::AuthorizationServerAt(evil.issuer()));
    });
    let config = |issuer: Option<String>| {
        let mut oauth = json!({
            "grant": "workload_identity",
            "client_id": "cid",
            "assertion": "canary-of-the-platform",
        });
        if let Some(issuer) = issuer {
            oauth["issuer"] = issuer.into();
        }
        json!({"mcpServers": {"o": {"url": server.mcp_url(), "oauth": oauth}}})
    };
    // Bound to nobody, it is an error with its place, before anybody is asked.
    let run = Cli::new(config(None)).run(&["status"]);
    assert_eq!(run.code(), Some(2), "{}", run.stderr());
    for words in ["`oauth.assertion` needs `oauth.issuer`", "mcp.json:"] {
        assert!(run.stderr().contains(words), "{}", run.stderr());
    }
    assert_eq!(server.count("nothing"), 0);
    // Bound, it goes nowhere else, and both are named.
    let run = Cli::new(config(Some("https://as.example".into()))).run(&["status"]);
    assert_eq!(run.code(), Some(3), "{}", run.stderr());
    let said = run.stdout() + &run.stderr();
    for words in ["https://as.example", &evil.issuer()] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("canary"), "{said}");
    assert!(!said.contains("mcpool login"), "{said}");
    for what in [
        "metadata",
        "nothing",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ] {
        assert_eq!(evil.count(what), 0, "{what}");
    }
}

#[test]
fn credentials_that_others_may_read_are_not_used() {
    let server = authz(|_| {});
    let cli = Cli::new(config(&server));
    let (code, output) = paste(&cli, &["guarded"]);
    assert_eq!(code, Some(0), "{output}");
    let credentials = cli.dir().join("mcpool/credentials");
    // The locks are in the state directory, and nobody else gets at them.
    let names: Vec<String> = std::fs::read_dir(&credentials)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.len() == 1 && names[0].ends_with(".json"), "{names:?}");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cli.dir().join("state/mcpool/locks")), 0o700);

    for (path, loose, tight) in [
        (credentials.join(&names[0]), 0o640, 0o600),
        (credentials, 0o750, 0o700),
    ] {
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(loose);
        let call = cli.run(&["call", "guarded", "echo", "message=x"]);
        assert_ne!(call.code(), Some(0));
        let help = format!("chmod {tight:o} {}", path.display());
        assert!(call.stderr().contains(&help), "{}", call.stderr());
        set(tight);
        let call = cli.run(&["call", "guarded", "echo", "message=x"]);
        assert_eq!(call.code(), Some(0), "{}", call.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_renewed_in_the_middle_and_waits_for_a_person_at_the_end() {
    let server = authz(|_| {});
    let oauth = OAuth::new(Arc::new(MemoryStore::new()));
    let factory = StandardFactory::new().with_authenticators(Arc::new(oauth.clone()));
    let manager = ConnectionManager::new(Arc::new(factory));
    let mut events = manager.events();
    for (name, spec) in [
        (
            "http",
            ServerSpec::http("http", HttpSpec::new(server.mcp_url())),
        ),
        (
            "sse",
            ServerSpec::sse("sse", HttpSpec::new(server.sse_url())),
        ),
    ] {
        let spec = spec.unwrap();
        manager.add(spec.clone()).unwrap();
        let error = manager.server(name).unwrap().connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthRequired, "{error}");
        let challenge = error.challenge().map(str::to_owned);
        let login = async || {
            let agent = InteractiveLogin::new().with_prompt(|prompt| {
                let url = prompt.url.clone();
                std::thread::spawn(move || get(&redirect_of(&url)));
            });
            oauth
                .login(&spec, &agent, challenge.as_deref())
                .await
                .unwrap();
        };
        login().await;
        let ready = async |events: &mut mcpool::EventStream| {
            while let Some(event) = events.next_event().await {
                if matches!(event.kind, EventKind::Connected { .. }) {
                    return;
                }
            }
            panic!("never connected");
        };
        tokio::time::timeout(LONG, ready(&mut events))
            .await
            .unwrap();

        let call = async || {
            let server = manager.server(name).unwrap();
            server.call_tool("echo", json!({"text": "x"})).await
        };
        call().await.unwrap();
        // Refused, refreshed, replayed: the caller sees nothing of it.
        server.expire_tokens();
        call().await.unwrap();
        // With nothing left to refresh, a person is needed, and is waited for.
        server.revoke_all();
        let error = call().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthRequired, "{name}: {error}");
        while manager.server(name).unwrap().status().unwrap().state != StateKind::AuthRequired {
            events.next_event().await.unwrap();
        }
        login().await;
        tokio::time::timeout(LONG, ready(&mut events))
            .await
            .unwrap();
        call().await.unwrap();
    }
    manager.shutdown(LONG).await;
}
