//! Timeouts, progress, cancelling.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool_core::{Delivery, ErrorKind, Progress, Verbs};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use crate::{support::*, text};

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
            end.stderr("busy");
            // The late answer is dropped; the session goes on.
            end.reply(&request, text("late"));
            end.serve(|_| Reply::Result(text("fresh"))).await;
        }
    })
    .await;
    let started = Instant::now();
    let error = client.call_tool("x", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert_eq!(error.operation(), Some("tools/call"));
    assert_eq!(started.elapsed(), Duration::from_secs(30), "the default");
    let heard = hears.recv().await.unwrap();
    assert_eq!(heard - started, Duration::from_secs(30));
    let result = client.call_tool("x", ()).await.unwrap();
    assert_eq!(result.content[0].as_text().unwrap().text, "fresh");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_written_when_it_timed_out_was_not_sent() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.stop_reading();
        assert_eq!(end.recv().await, None, "nothing is written later");
    })
    .await;
    // The script gets there.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let error = client.call_tool("x", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.delivery(), Delivery::NotSent);
}

#[tokio::test(start_paused = true)]
async fn progress_extends_the_timeout_and_comes_in_order() {
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
    let client = client.with_options(&options);
    client.call_tool("x", ()).await.unwrap();
    let want: Vec<_> = (1..=50)
        .map(|n| Progress::new(f64::from(n), Some(50.0), Some("m".into())))
        .collect();
    assert_eq!(*seen.lock().unwrap(), want);
}

#[tokio::test(start_paused = true)]
async fn a_silence_after_progress_times_out_from_there() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        tokio::time::sleep(Duration::from_secs(29)).await;
        let params = json!({"progressToken": request["id"], "progress": 1});
        end.notify("notifications/progress", params);
        while end.recv().await.is_some() {}
    })
    .await;
    let started = Instant::now();
    let error = client.call_tool("x", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(59));
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
    let error = client.with_options(&short).call_tool("x", ()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(45));
}

#[tokio::test(start_paused = true)]
async fn no_timeout_is_too_long() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|_| Reply::Result(text("ok"))).await;
    })
    .await;
    let endless = options()
        .with_timeout(Duration::MAX)
        .with_max_total(Duration::MAX);
    client
        .with_options(&endless)
        .call_tool("x", ())
        .await
        .unwrap();
    client.probe(Duration::MAX).await.unwrap();
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
    let call = client.call_tool("x", ());
    assert!(
        tokio::time::timeout(Duration::from_secs(1), call)
            .await
            .is_err()
    );
    hears.recv().await.unwrap();
}
