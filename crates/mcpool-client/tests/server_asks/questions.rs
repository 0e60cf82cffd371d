//! Requests of the server.

use std::time::Duration;

use mcpool_core::{ErrorKind, Verbs};
use serde_json::json;
use tokio::time::Instant;

use crate::{application, call_tool, connect, question, support::*, text};

#[tokio::test(start_paused = true)]
async fn the_application_answers_what_the_server_asks() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(false, application, |mut end| async move {
        let call = end.expect("tools/call").await;
        let roots = end.ask(json!("r"), json!({"method": "roots/list"})).await;
        assert_eq!(roots["result"]["roots"][0]["uri"], "file:///work");
        let answer = end.ask(json!("e"), question("sure?")).await;
        assert_eq!(answer["result"]["action"], "accept");
        assert_eq!(answer["result"]["content"]["said"], "sure?");
        let pong = end.ask(json!(7), json!({"method": "ping"})).await;
        assert_eq!(pong["result"], json!({}));
        // What it does not offer.
        let sampling = json!({
            "method": "sampling/createMessage",
            "params": {"messages": [], "maxTokens": 1},
        });
        let refused = end.ask(json!("s"), sampling).await;
        assert_eq!(refused["error"]["code"], -32601);
        let refused = end.ask(json!("v"), json!({"method": "vendor/ask"})).await;
        assert_eq!(refused["error"]["code"], -32601);
        let url = json!({"method": "elicitation/create", "params": {"mode": "url"}});
        let refused = end.ask(json!("u"), url).await;
        assert_eq!(refused["error"]["code"], -32602);
        // A handler that panics.
        let failed = end.ask(json!("p"), question("panic")).await;
        assert_eq!(failed["error"]["code"], -32603);
        end.reply(&call, text("done"));
        end.recv().await;
    })
    .await;
    call_tool(&*client).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_not_offered_is_refused_by_the_session() {
    // The default handler declares nothing.
    let (client, _) = connect_legacy(|mut end| async move {
        let call = end.expect("tools/call").await;
        for method in ["elicitation/create", "sampling/createMessage", "roots/list"] {
            let refused = end.ask(json!(method), json!({"method": method})).await;
            assert_eq!(refused["error"]["code"], -32601, "{method}");
        }
        end.reply(&call, text("done"));
        end.recv().await;
    })
    .await;
    call_tool(&*client).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_a_call_stands_still_while_a_person_thinks() {
    // Longer than the hard maximum too.
    let thinks = Duration::from_secs(1_000);
    let (application, _) = application(thinks);
    let (client, _) = connect(false, application, |mut end| async move {
        let call = end.expect("tools/call").await;
        tokio::time::sleep(Duration::from_secs(29)).await;
        end.ask(json!(1), question("sure?")).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        end.reply(&call, text("done"));
        // Afterwards it runs on: half a second and what a look may be late.
        end.expect("tools/call").await;
        tokio::time::sleep(Duration::from_secs(29)).await;
        end.ask(json!(2), question("sure?")).await;
        end.expect("notifications/cancelled").await;
        end.recv().await;
    })
    .await;
    let started = Instant::now();
    call_tool(&*client).await.unwrap();
    assert_eq!(started.elapsed(), thinks + Duration::from_millis(29_500));
    let started = Instant::now();
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let late = started.elapsed() - thinks - Duration::from_secs(30);
    assert!(late <= Duration::from_secs(1), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_question_stops_the_clock_of_its_own_call_alone() {
    let thinks = Duration::from_secs(300);
    let (application, _) = application(thinks);
    let (client, _) = connect(false, application, |mut end| async move {
        let asking = end.expect("tools/call").await;
        end.expect("prompts/get").await;
        let params = question("sure?")["params"].clone();
        end.ask_during(&asking, 1, "elicitation/create", params);
        end.expect("notifications/cancelled").await;
        let answer = end.recv().await.unwrap();
        assert_eq!(answer["result"]["action"], "accept");
        end.reply(&asking, text("done"));
        end.recv().await;
    })
    .await;
    let started = Instant::now();
    let (asking, other) = tokio::join!(call_tool(&*client), async {
        let error = client.get_prompt("p", ()).await.unwrap_err();
        (error.kind(), started.elapsed())
    });
    asking.unwrap();
    assert_eq!(started.elapsed(), thinks);
    assert_eq!(other, (ErrorKind::Timeout, Duration::from_secs(30)));
}

#[tokio::test(start_paused = true)]
async fn an_application_that_never_answers_holds_a_call_for_an_hour_at_most() {
    let (application, gone) = application(Duration::from_secs(100_000));
    let (client, _) = connect(false, application, |mut end| async move {
        end.expect("tools/call").await;
        let answer = end.ask(json!(1), question("sure?")).await;
        assert_eq!(answer["error"]["code"], -32603);
        while end.recv().await.is_some() {}
    })
    .await;
    let started = Instant::now();
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let waited = started.elapsed();
    let hour = Duration::from_secs(3_600);
    assert!(
        waited >= hour && waited <= hour + Duration::from_secs(31),
        "{waited:?}"
    );
    gone.notified().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_that_the_server_takes_back_is_dropped() {
    let (application, gone) = application(Duration::from_secs(300));
    let (client, _) = connect(false, application, |mut end| async move {
        let mut request = question("sure?");
        request["jsonrpc"] = json!("2.0");
        request["id"] = json!(1);
        end.send(request);
        tokio::time::sleep(Duration::from_secs(1)).await;
        end.notify("notifications/cancelled", json!({"requestId": 1}));
        end.serve(|request| {
            assert!(request.get("method").is_some(), "no answer is sent");
            Reply::Result(text("ok"))
        })
        .await;
    })
    .await;
    let started = Instant::now();
    gone.notified().await;
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    call_tool(&*client).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn questions_that_are_taken_back_do_not_use_up_what_may_be_open() {
    let (application, _) = application(Duration::from_secs(300));
    let (client, _) = connect(false, application, |mut end| async move {
        for id in 0..200 {
            let mut request = question("sure?");
            request["id"] = json!(id);
            end.send(request);
            end.notify("notifications/cancelled", json!({"requestId": id}));
            // The session takes what waits.
            tokio::task::yield_now().await;
        }
        let call = end.expect("tools/call").await;
        end.reply(&call, text("ok"));
        end.recv().await;
    })
    .await;
    call_tool(&*client).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_question_does_not_outlive_the_connection() {
    let (application, gone) = application(Duration::from_secs(300));
    let (client, connector) = connect(false, application, |mut end| async move {
        end.ask(json!(1), question("sure?")).await;
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    client.close().await;
    gone.notified().await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    drop(client);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_may_ask_only_during_a_request() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(true, application, |mut end| async move {
        // The client knows by now in which era it speaks.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let refused = end.ask(json!("r"), json!({"method": "roots/list"})).await;
        assert_eq!(refused["error"]["code"], -32602);
        let call = end.expect("tools/call").await;
        let roots = end.ask(json!("r"), json!({"method": "roots/list"})).await;
        assert!(roots["result"]["roots"].is_array());
        end.reply(&call, text("done"));
        end.recv().await;
    })
    .await;
    // The first question is answered before the call is made.
    tokio::time::sleep(Duration::from_secs(1)).await;
    call_tool(&*client).await.unwrap();
}
