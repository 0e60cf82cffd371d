//! Time-outs, progress, cancelling.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool_core::{Delivery, ErrorKind, Progress};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use crate::{options, support::*, text};

/// A call, and the client's word that it is cancelled.
async fn cancelled_call(end: &mut ServerEnd) -> Value {
    let request = end.expect("tools/call").await;
    let cancelled = end.expect("notifications/cancelled").await;
    assert_eq!(cancelled["params"]["requestId"], request["id"]);
    request
}

#[tokio::test(start_paused = true)]
async fn a_request_times_out_and_the_server_is_told() {
    let (told, mut hears) = mpsc::unbounded_channel();
    let (client, _) = connect_legacy(move |mut end| {
        let told = told.clone();
        async move {
            let request = cancelled_call(&mut end).await;
            told.send(Instant::now()).unwrap();
            // The late answer is dropped; the session goes on.
            end.reply(&request, text("late"));
            end.serve(|_| Reply::Result(text("fresh"))).await;
        }
    })
    .await;
    let started = Instant::now();
    let error = client.call_tool("x", None, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert_eq!(started.elapsed(), Duration::from_secs(30), "the default");
    let heard = hears.recv().await.unwrap();
    assert_eq!(heard - started, Duration::from_secs(30));
    let result = client.call_tool("x", None, &options()).await.unwrap();
    assert_eq!(result.content[0].as_text().unwrap().text, "fresh");
}

#[tokio::test(start_paused = true)]
async fn progress_extends_the_time_out_and_comes_in_order() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        let token = request["params"]["_meta"]["progressToken"].clone();
        for n in 1..=50 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            let params =
                json!({"progressToken": token, "progress": n, "total": 50, "message": "m"});
            end.notify("notifications/progress", params);
        }
        end.reply(&request, text("done"));
        end.recv().await;
    })
    .await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let options = options()
        .with_timeout(Duration::from_secs(10))
        .with_progress(move |progress| sink.lock().unwrap().push(progress));
    client.call_tool("x", None, &options).await.unwrap();
    let want: Vec<_> = (1..=50)
        .map(|n| Progress::new(f64::from(n), Some(50.0), Some("m".into())))
        .collect();
    assert_eq!(*seen.lock().unwrap(), want);
}

#[tokio::test(start_paused = true)]
async fn the_hard_maximum_holds_whatever_the_progress() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        let token = request["params"]["_meta"]["progressToken"].clone();
        for n in 0.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let params = json!({"progressToken": token, "progress": n});
            end.notify("notifications/progress", params);
        }
    })
    .await;
    let started = Instant::now();
    let short = options().with_max_total(Duration::from_secs(45));
    let error = client.call_tool("x", None, &short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(45));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_progress_callback_harms_nobody() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        let token = request["params"]["_meta"]["progressToken"].clone();
        end.notify(
            "notifications/progress",
            json!({"progressToken": token, "progress": 1}),
        );
        end.reply(&request, text("done"));
        end.recv().await;
    })
    .await;
    let options = options().with_progress(|_| panic!("on purpose"));
    client.call_tool("x", None, &options).await.unwrap();
    assert!(!client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_cancels_it() {
    let (told, mut hears) = mpsc::unbounded_channel();
    let (client, _) = connect_legacy(move |mut end| {
        let told = told.clone();
        async move {
            cancelled_call(&mut end).await;
            told.send(()).unwrap();
            end.recv().await;
        }
    })
    .await;
    let options = options();
    let call = client.call_tool("x", None, &options);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), call)
            .await
            .is_err()
    );
    hears.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_dropped_before_it_was_sent_is_never_sent() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        assert_eq!(request["params"]["name"], "second");
        end.reply(&request, text("ok"));
        end.recv().await;
    })
    .await;
    let options = options();
    {
        let first = client.call_tool("first", None, &options);
        tokio::pin!(first);
        // Polled once: it is queued, and the driver had no chance to run.
        assert!(futures::poll!(first.as_mut()).is_pending());
    }
    client.call_tool("second", None, &options).await.unwrap();
}
