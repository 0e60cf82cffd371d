//! Progress, cancels, changes, log messages and subscriptions, in all four combinations of eras.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    Client, Notices, ProtocolVersion, RequestOptions, Requester as _, ServerNotice, Verbs as _,
    model,
};
use mcpool_testkit::Era;
use serde_json::{Value, json};

use crate::support::{BOTH, PATIENCE, Served, call};

const ERAS: [Era; 2] = [Era::Legacy, Era::Modern];

/// Waits for a notice that passes.
async fn heard(notices: &mut Notices, wanted: impl Fn(&ServerNotice) -> bool) {
    let found = async {
        while let Some(notice) = notices.next().await {
            if wanted(&notice) {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, found).await.unwrap());
}

#[tokio::test]
async fn progress_reaches_the_client_that_asked() {
    for era in ERAS {
        let served = Served::one(era).await;
        for version in &BOTH {
            let client = served.client(version).await;
            let steps = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&steps);
            let options = RequestOptions::new().with_progress(move |progress| {
                assert_eq!(progress.total, Some(3.0));
                counter.fetch_add(1, Ordering::Relaxed);
            });
            let arguments = json!({"steps": 3, "step_ms": 5});
            let client = client.with_options(&options);
            client.call_tool("files__slow", arguments).await.unwrap();
            assert_eq!(steps.load(Ordering::Relaxed), 3, "{era:?} {version}");
        }
    }
}

#[tokio::test]
async fn a_cancel_reaches_the_server() {
    for era in ERAS {
        let served = Served::one(era).await;
        for (at, version) in BOTH.iter().enumerate() {
            let client = served.client(version).await;
            let hanging = client.call_tool("files__hang", ());
            let gone = tokio::time::timeout(Duration::from_millis(300), hanging).await;
            assert!(gone.is_err());
            let cancelled = async {
                while served.servers[0].seen()["cancelled"] != json!(at + 1) {
                    tokio::task::yield_now().await;
                }
            };
            let waited = tokio::time::timeout(PATIENCE, cancelled).await;
            assert!(waited.is_ok(), "{era:?} {version}");
        }
    }
}

#[tokio::test]
async fn changed_lists_are_told() {
    for era in ERAS {
        let served = Served::one(era).await;
        for version in &BOTH {
            let client = served.client(version).await;
            let mut notices = client.notices();
            // The stream of changes is open when this is answered, or reports it later.
            let name = format!("added_{version}");
            let told = async {
                loop {
                    call(&*client, "files__add_tool", json!({"name": name})).await;
                    let changed = |notice: &ServerNotice| *notice == ServerNotice::ToolsChanged;
                    let soon = Duration::from_secs(2);
                    if tokio::time::timeout(soon, heard(&mut notices, changed))
                        .await
                        .is_ok()
                    {
                        break;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, told).await.unwrap();
            let tools = client.list_tools().await.unwrap();
            let wanted = format!("files__{}", name);
            assert!(
                tools.values().any(|tool| tool.name == wanted),
                "{era:?} {version}"
            );
        }
    }
}

#[tokio::test]
async fn subscriptions_are_counted_and_told() {
    for era in ERAS {
        let served = Served::one(era).await;
        for version in &BOTH {
            let (one, two) = (served.client(version).await, served.client(version).await);
            let mut of_two = two.notices();
            one.subscribe("fixture://one").await.unwrap();
            two.subscribe("fixture://one").await.unwrap();
            one.unsubscribe("fixture://one").await.unwrap();
            // The other one still has it.
            let touched = async {
                loop {
                    call(&*one, "files__touch", json!({"uri": "fixture://one"})).await;
                    let updated = |notice: &ServerNotice| matches!(notice, ServerNotice::ResourceUpdated { uri } if uri == "fixture://one");
                    let soon = Duration::from_secs(2);
                    if tokio::time::timeout(soon, heard(&mut of_two, updated))
                        .await
                        .is_ok()
                    {
                        break;
                    }
                }
            };
            let waited = tokio::time::timeout(PATIENCE, touched).await;
            assert!(waited.is_ok(), "{era:?} {version}");
            two.unsubscribe("fixture://one").await.unwrap();
        }
    }
}

#[tokio::test]
async fn log_messages_reach_the_client_whose_call_they_belong_to() {
    for era in ERAS {
        let served = Served::one(era).await;
        for version in &BOTH {
            let client = served.client(version).await;
            let other = served.client(version).await;
            let (mut mine, mut theirs) = (client.notices(), other.notices());
            client
                .set_log_level(model::LoggingLevel::Warning)
                .await
                .unwrap();
            let log = async |client: &dyn Client, level: &str, data: Value| {
                call(client, "files__log", json!({"level": level, "data": data})).await;
            };
            log(&*client, "info", json!("not this")).await;
            log(&*client, "error", json!({"n": 1})).await;
            let logged = async {
                loop {
                    if let ServerNotice::Log { level, data, .. } = mine.next().await.unwrap() {
                        return (level, data.get().to_owned());
                    }
                }
            };
            let logged = tokio::time::timeout(PATIENCE, logged).await.unwrap();
            assert_eq!(
                logged,
                ("error".to_owned(), r#"{"n":1}"#.to_owned()),
                "{era:?} {version}"
            );
            // The other one hears its own, and so nothing of the first's.
            other
                .set_log_level(model::LoggingLevel::Debug)
                .await
                .unwrap();
            log(&*other, "debug", json!("own")).await;
            let own = |notice: &ServerNotice| match notice {
                ServerNotice::Log { data, .. } => {
                    assert_eq!(data.get(), r#""own""#, "{era:?} {version}");
                    true
                }
                _ => false,
            };
            heard(&mut theirs, own).await;
        }
    }
}

#[tokio::test]
async fn every_version_with_sessions_is_spoken() {
    let served = Served::one(Era::Legacy).await;
    for version in &ProtocolVersion::KNOWN[1..4] {
        let client = served.client(version).await;
        assert_eq!(client.info().unwrap().protocol, *version);
        call(&*client, "files__echo", json!({"message": "hi"})).await;
    }
}
