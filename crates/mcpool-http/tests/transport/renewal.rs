//! Sessions that a server loses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::response::Response;
use futures::future::join_all;
use mcpool_core::{Delivery, ErrorKind, Incoming};
use serde_json::json;

use crate::{
    drive::{Drive, failed},
    server::{Seen, Server, answer, error, initialized, ordinary, status},
};

/// What a server says to a request in a session that it has lost.
type Words = fn(&Seen) -> Response;

/// Its sessions are `s1`, `s2` …; of those up to `lost` it knows nothing.
struct Forgetful {
    server: Server,
    lost: Arc<AtomicUsize>,
}

impl Forgetful {
    async fn saying(words: Words) -> Self {
        Self::with(words, |_, _| None).await
    }

    async fn with(
        words: Words,
        special: impl Fn(&Seen, usize) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let lost = Arc::new(AtomicUsize::new(0));
        let begun = AtomicUsize::new(0);
        let forgotten = Arc::clone(&lost);
        let server = Server::except(move |seen| {
            if seen.rpc() == "initialize" {
                let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                return special(seen, number)
                    .or_else(|| Some(initialized(seen, &format!("s{number}"))));
            }
            let number = seen.session()?.strip_prefix('s')?.parse().ok()?;
            let is_lost = number <= forgotten.load(Ordering::SeqCst);
            if is_lost && seen.method == "POST" && seen.rpc() != "notifications/initialized" {
                return Some(words(seen));
            }
            special(seen, number)
        })
        .await;
        Self { server, lost }
    }

    fn lose(&self, up_to: usize) {
        self.lost.store(up_to, Ordering::SeqCst);
    }
}

const DIALECTS: &[(&str, Words)] = &[
    ("404 JSON", |seen| {
        error(404, seen, -32600, "Session not found")
    }),
    ("404 HTML", |_| status(404, "<html>404</html>")),
    ("404", |_| status(404, "")),
    ("400 -32000", |seen| {
        error(
            400,
            seen,
            -32000,
            "Bad Request: No valid session ID provided",
        )
    }),
    ("400 text", |_| status(400, "Invalid session ID")),
    ("410", |_| status(410, "")),
    ("500 -32603", |seen| {
        error(500, seen, -32603, "session not found")
    }),
    ("200 -32001", |seen| {
        error(200, seen, -32001, "Session not found")
    }),
    ("200 -32002", |seen| {
        error(200, seen, -32002, "Server not initialized")
    }),
    ("200 -32005", |seen| {
        error(200, seen, -32005, "Session not found")
    }),
];

#[tokio::test]
async fn a_lost_session_is_begun_again_whatever_the_words() {
    for (name, words) in DIALECTS {
        let forgetful = Forgetful::saying(*words).await;
        let server = &forgetful.server;
        let drive = Drive::initialized(&server.url).await;
        drive.request("tools/call", json!({"n": 1})).await.unwrap();
        forgetful.lose(1);
        drive
            .request("tools/call", json!({"n": 2}))
            .await
            .expect(name);
        let calls = server.seen("tools/call");
        let sessions: Vec<_> = calls.iter().map(|seen| seen.session().unwrap()).collect();
        assert_eq!(sessions, ["s1", "s1", "s2"], "{name}");
        assert_eq!(calls[1].message, calls[2].message, "{name}");
        assert_eq!(drive.next().await, Some(Incoming::SessionRenewed), "{name}");
        assert_eq!(server.seen("notifications/initialized").len(), 2, "{name}");
        let again = &server.seen("initialize")[1];
        assert_eq!(again.session(), None, "{name}");
        assert_eq!(
            again.message["params"],
            server.seen("initialize")[0].message["params"],
            "{name}"
        );
        assert!(drive.failure().is_none(), "{name}");
        drive.close().await;
        assert_eq!(server.seen("DELETE")[0].session(), Some("s2"), "{name}");
    }
}

#[tokio::test]
async fn words_that_a_new_session_does_not_change_leave_the_outcome_unknown() {
    let bank = "your session with the bank has expired; payment 17 was executed";
    for (code, said, sent) in [
        (400, bank, 2),
        (409, bank, 2),
        (500, "Session terminated", 1),
    ] {
        let server =
            Server::except(move |seen| (seen.rpc() == "tools/call").then(|| status(code, said)))
                .await;
        let drive = Drive::initialized(&server.url).await;
        let error = drive.refused("tools/call", json!({})).await;
        assert_eq!(error.delivery(), Delivery::Unknown, "{code}: {error}");
        assert_eq!(server.seen("tools/call").len(), sent, "{code}");
    }
}

#[tokio::test]
async fn an_error_that_names_the_request_is_its_answer_and_is_not_sent_again() {
    let server = Server::except(|seen| {
        (seen.rpc() == "tools/call").then(|| error(404, seen, -32000, "paid, then failed"))
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    for (call, sessions) in [(1, 1), (2, 2)] {
        let error = drive.refused("tools/call", json!({})).await;
        assert_eq!(error.delivery(), Delivery::Answered, "{error}");
        assert_eq!(server.seen("tools/call").len(), call);
        // Two in a row may mean the session after all: the next request has another.
        assert_eq!(server.seen("initialize").len(), sessions);
    }
}

#[tokio::test]
async fn many_refused_at_once_share_one_new_session() {
    const CALLS: usize = 50;
    let forgetful = Forgetful::saying(|_| status(404, "")).await;
    let server = &forgetful.server;
    let drive = Drive::initialized(&server.url).await;
    for lost in 1..=3 {
        forgetful.lose(lost);
        let calls = (0..CALLS).map(|_| drive.request("tools/call", json!({})));
        for answer in join_all(calls).await {
            answer.unwrap();
        }
        assert_eq!(server.seen("initialize").len(), lost + 1);
    }
}

#[tokio::test]
async fn what_the_session_held_is_set_up_before_requests_pass() {
    let forgetful = Forgetful::with(
        |_| status(404, ""),
        |seen, _| {
            let refused = json!({"uri": "refused"});
            (seen.message["params"] == refused).then(|| error(200, seen, -32602, "no"))
        },
    )
    .await;
    let server = &forgetful.server;
    let drive = Drive::initialized(&server.url).await;
    let uri = |uri: &str| json!({"uri": uri});
    drive
        .request("logging/setLevel", json!({"level": "info"}))
        .await
        .unwrap();
    drive
        .request("resources/subscribe", uri("a"))
        .await
        .unwrap();
    drive
        .request("resources/subscribe", uri("b"))
        .await
        .unwrap();
    drive
        .request("resources/unsubscribe", uri("a"))
        .await
        .unwrap();
    drive.refused("resources/subscribe", uri("refused")).await;
    drive
        .request("logging/setLevel", json!({"level": "debug"}))
        .await
        .unwrap();
    forgetful.lose(1);
    let calls = (0..10).map(|_| drive.request("tools/call", json!({})));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let in_new = |method: &str| {
        let mut seen = server.seen(method);
        seen.retain(|seen| seen.session() == Some("s2"));
        seen
    };
    let levels = in_new("logging/setLevel");
    let resources = in_new("resources/subscribe");
    assert_eq!((levels.len(), resources.len()), (1, 1));
    assert_eq!(levels[0].message["params"], json!({"level": "debug"}));
    assert_eq!(resources[0].message["params"], uri("b"));
    let first_call = in_new("tools/call")
        .iter()
        .map(|seen| seen.at)
        .min()
        .unwrap();
    assert!(levels[0].at < first_call && resources[0].at < first_call);
    assert!(in_new("notifications/initialized")[0].at < levels[0].at);
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_stop_the_renewal_for_others() {
    let (sender, release) = tokio::sync::watch::channel(false);
    let server = Server::start(move |seen| {
        let mut release = release.clone();
        async move {
            match (seen.rpc(), seen.session()) {
                ("tools/call", Some("s1")) => status(404, ""),
                ("initialize", _) if *release.borrow() => initialized(&seen, "s2"),
                ("initialize", _) if seen.message["id"] != 1 => {
                    release.wait_for(|go| *go).await.unwrap();
                    initialized(&seen, "s2")
                }
                ("initialize", _) => initialized(&seen, "s1"),
                _ => ordinary(&seen),
            }
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let impatient = drive.start("tools/call", json!({"who": "impatient"}));
    server.until("initialize", 2).await;
    let patient = drive.start("tools/call", json!({"who": "patient"}));
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    sender.send_replace(true);
    patient.await.unwrap().unwrap();
    assert_eq!(server.seen("initialize").len(), 2);
    // The call that was refused and then dropped did not run: nothing is to be cancelled.
    assert!(server.seen("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn another_version_ends_the_connection() {
    let forgetful = Forgetful::with(
        |_| status(404, ""),
        |seen, number| {
            (seen.rpc() == "initialize" && number == 2).then(|| {
                answer(
                    seen,
                    json!({"protocolVersion": "2025-03-26", "capabilities": {}}),
                )
            })
        },
    )
    .await;
    let drive = Drive::initialized(&forgetful.server.url).await;
    forgetful.lose(1);
    let error = drive.refused("tools/call", json!({})).await;
    assert_eq!(error.delivery(), Delivery::Rejected);
    let failure = drive.ended().await.unwrap();
    assert!(failure.to_string().contains("2025-03-26"), "{failure}");
    assert_eq!(failure.kind(), ErrorKind::ConnectionLost);
}

#[tokio::test]
async fn a_session_that_cannot_be_begun_again_ends_the_connection() {
    for (refuse, kind) in [
        (
            (|seen| error(200, seen, -32603, "no more sessions")) as Words,
            ErrorKind::ConnectionLost,
        ),
        (|_| status(500, ""), ErrorKind::HttpStatus),
        (|_| status(401, ""), ErrorKind::AuthRequired),
    ] {
        let forgetful = Forgetful::with(
            |_| status(404, ""),
            move |seen, number| (seen.rpc() == "initialize" && number > 1).then(|| refuse(seen)),
        )
        .await;
        let drive = Drive::initialized(&forgetful.server.url).await;
        forgetful.lose(9);
        let error = drive.refused("tools/call", json!({})).await;
        assert_eq!(error.delivery(), Delivery::Rejected);
        assert_eq!(drive.ended().await.unwrap().kind(), kind);
    }
}

#[tokio::test]
async fn a_server_that_knows_none_of_its_sessions_is_left() {
    let forgetful = Forgetful::saying(|_| status(404, "")).await;
    let drive = Drive::initialized(&forgetful.server.url).await;
    forgetful.lose(99);
    let error = drive.refused("tools/call", json!({})).await;
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(error.to_string().contains("just given"), "{error}");
    drive.ended().await.unwrap();
    assert_eq!(forgetful.server.seen("tools/call").len(), 2);
    assert_eq!(forgetful.server.seen("initialize").len(), 2);
}

#[tokio::test]
async fn a_pause_that_a_server_asks_for_ends_nothing() {
    let forgetful = Forgetful::with(
        |_| status(404, ""),
        |seen, number| {
            (seen.rpc() == "initialize" && number == 2).then(|| {
                let mut response = status(429, "");
                response
                    .headers_mut()
                    .insert("retry-after", "7".parse().unwrap());
                response
            })
        },
    )
    .await;
    let drive = Drive::initialized(&forgetful.server.url).await;
    forgetful.lose(1);
    let error = drive.refused("tools/call", json!({})).await;
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.delivery(), Delivery::Rejected);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    drive.request("tools/call", json!({})).await.unwrap();
    assert!(drive.failure().is_none());
}

#[tokio::test]
async fn two_refusals_in_a_row_that_say_nothing_are_a_lost_session() {
    let forgetful = Forgetful::saying(|_| status(400, "nope")).await;
    let server = &forgetful.server;
    let drive = Drive::initialized(&server.url).await;
    forgetful.lose(1);
    let error = drive.refused("tools/call", json!({})).await;
    assert_eq!(error.kind(), ErrorKind::HttpStatus);
    assert!(error.to_string().contains("nope"), "{error}");
    drive.request("tools/call", json!({})).await.unwrap();
    assert_eq!(server.seen("initialize").len(), 2);
}

#[tokio::test]
async fn refusals_with_answers_between_them_are_no_lost_session() {
    let server = Server::except(|seen| {
        (seen.message["params"]["bad"] == true).then(|| status(400, "bad arguments"))
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    for _ in 0..3 {
        drive.refused("tools/call", json!({"bad": true})).await;
        drive.request("tools/call", json!({})).await.unwrap();
    }
    assert_eq!(server.seen("initialize").len(), 1);
}

#[tokio::test]
async fn a_tool_that_speaks_of_its_own_sessions_costs_one_renewal() {
    let forgetful = Forgetful::with(
        |_| status(404, ""),
        |seen, _| {
            (seen.rpc() == "tools/call").then(|| error(200, seen, -32000, "Session 7 not found"))
        },
    )
    .await;
    let server = &forgetful.server;
    let drive = Drive::initialized(&server.url).await;
    for _ in 0..5 {
        let error = drive.refused("tools/call", json!({})).await;
        assert_eq!(error.rpc().unwrap().message, "Session 7 not found");
        assert_eq!(error.delivery(), Delivery::Answered);
    }
    assert_eq!(server.seen("initialize").len(), 2);
    assert!(drive.failure().is_none());
}

#[tokio::test]
async fn what_runs_in_a_lost_session_gets_its_own_end() {
    let (sender, release) = tokio::sync::watch::channel(false);
    let server = Server::start(move |seen| {
        let mut release = release.clone();
        async move {
            match (seen.rpc(), seen.session()) {
                ("tools/call", Some("s1")) => {
                    release.wait_for(|go| *go).await.unwrap();
                    answer(&seen, json!({"ran": true}))
                }
                ("tools/list", Some("s1")) => status(404, ""),
                ("initialize", _) if seen.message["id"] != 1 => initialized(&seen, "s2"),
                ("initialize", _) => initialized(&seen, "s1"),
                _ => ordinary(&seen),
            }
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let running = drive.start("tools/call", json!({}));
    server.until("tools/call", 1).await;
    drive.request("tools/list", json!({})).await.unwrap();
    assert_eq!(drive.next().await, Some(Incoming::SessionRenewed));
    sender.send_replace(true);
    assert_eq!(running.await.unwrap().unwrap(), json!({"ran": true}));
}

#[tokio::test]
async fn a_notification_that_meets_a_lost_session_is_sent_again() {
    let forgetful = Forgetful::saying(|_| status(404, "")).await;
    let drive = Drive::initialized(&forgetful.server.url).await;
    forgetful.lose(1);
    drive
        .notify("notifications/roots/list_changed")
        .await
        .unwrap();
    let told = forgetful.server.seen("notifications/roots/list_changed");
    let sessions: Vec<_> = told.iter().map(|seen| seen.session().unwrap()).collect();
    assert_eq!(sessions, ["s1", "s2"]);
}

#[tokio::test]
async fn the_end_of_the_connection_ends_a_renewal() {
    let server = Server::start(|seen| async move {
        match (seen.rpc(), seen.session()) {
            ("tools/call", _) => status(404, ""),
            ("initialize", _) if seen.message["id"] != 1 => std::future::pending().await,
            _ => ordinary(&seen),
        }
    })
    .await;
    let drive = Drive::initialized(&server.url).await;
    let call = drive.start("tools/call", json!({}));
    server.until("initialize", 2).await;
    drive.close().await;
    let error = failed(call).await;
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.delivery(), Delivery::Rejected);
}
