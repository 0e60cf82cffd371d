//! Multi-round-trip requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{Delivery, Error, ErrorKind, RequestOptions, Rounds, Verbs};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{application, call_tool, connect, connect_to, question, scripted, support::*, text};

fn asks(message: &str) -> Value {
    json!({
        "resultType": "input_required",
        "inputRequests": {"a": question(message)}, "requestState": "s1",
    })
}

#[tokio::test(start_paused = true)]
async fn rounds_are_answered_and_the_state_comes_back_untouched() {
    let (application, _) = application(Duration::from_secs(300));
    let (client, _) = connect(true, application, |mut end| async move {
        for (method, result) in [
            ("tools/call", text("done")),
            (
                "prompts/get",
                json!({"resultType": "complete", "messages": []}),
            ),
            (
                "resources/read",
                json!({"resultType": "complete", "contents": []}),
            ),
        ] {
            let first = end.expect(method).await;
            assert!(first["params"].get("inputResponses").is_none());
            end.reply(
                &first,
                json!({
                    "resultType": "input_required",
                    "inputRequests": {
                        "b": question("two"), "a": question("one"), "c": {"method": "roots/list"},
                    },
                    "requestState": {"opaque": [1.50, "s1"]},
                }),
            );
            let second = end.expect(method).await;
            assert_ne!(second["id"], first["id"]);
            let params = &second["params"];
            assert_eq!(params["name"], first["params"]["name"]);
            assert_eq!(params["arguments"], first["params"]["arguments"]);
            assert_eq!(params["requestState"], json!({"opaque": [1.50, "s1"]}));
            let responses = &params["inputResponses"];
            assert_eq!(responses["a"]["content"]["said"], "one");
            assert_eq!(responses["b"]["content"]["said"], "two");
            assert_eq!(responses["c"]["roots"][0]["uri"], "file:///work");
            // A round with nothing but state.
            end.reply(
                &second,
                json!({"resultType": "input_required", "requestState": "s2"}),
            );
            let third = end.expect(method).await;
            assert_eq!(third["params"]["requestState"], "s2");
            assert!(third["params"].get("inputResponses").is_none());
            // And one with nothing but a question: no state goes back.
            let mut last = asks("three");
            last.as_object_mut().unwrap().remove("requestState");
            end.reply(&third, last);
            let fourth = end.expect(method).await;
            assert!(fourth["params"].get("requestState").is_none());
            end.reply(&fourth, result);
        }
        end.recv().await;
    })
    .await;
    // Time that waits for a person does not count, against the maximum neither.
    let options = RequestOptions::new().with_max_total(Duration::from_secs(5));
    let client = client.with_options(&options);
    client.call_tool("x", json!({"n": 1})).await.unwrap();
    client.get_prompt("p", ()).await.unwrap();
    client.read_resource("a:b").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_question_had_does_not_come_back() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(true, application, |mut end| async move {
        let first = end.expect("tools/call").await;
        assert_eq!(first["params"]["requestState"], "of a caller");
        end.reply(
            &first,
            json!({"resultType": "input_required", "inputRequests": {"a": question("sure?")}}),
        );
        let second = end.expect("tools/call").await;
        assert!(second["params"].get("requestState").is_none());
        end.reply(&second, text("done"));
        end.recv().await;
    })
    .await;
    let request = mcpool_core::Request::new("tools/call")
        .with_params(&json!({"name": "x", "requestState": "of a caller"}))
        .unwrap();
    client.request(&request, &options()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_forwarder_gets_the_question_as_it_came() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(true, application, |mut end| async move {
        end.serve(|_| Reply::Result(asks("sure?"))).await;
    })
    .await;
    let request = mcpool_core::Request::new("tools/call")
        .with_params(&json!({"name": "x"}))
        .unwrap();
    let pass = RequestOptions::new().with_rounds(Rounds::Pass);
    let answer = client.request(&request, &pass).await.unwrap();
    let answer: Value = answer.parse().unwrap();
    assert_eq!(answer, asks("sure?"));
}

#[tokio::test(start_paused = true)]
async fn only_three_requests_are_driven_and_only_in_the_era_that_knows_them() {
    for (modern, method) in [(true, "completion/complete"), (false, "tools/call")] {
        let (application, _) = application(Duration::ZERO);
        let (client, _) = connect(modern, application, |mut end| async move {
            end.serve(|_| Reply::Result(asks("sure?"))).await;
        })
        .await;
        let request = mcpool_core::Request::new(method);
        let answer = client.request(&request, &options()).await.unwrap();
        assert!(answer.get().contains("input_required"));
    }
    // To a typed verb it is no result.
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(false, application, |mut end| async move {
        end.serve(|_| Reply::Result(asks("sure?"))).await;
    })
    .await;
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.delivery(), Delivery::Answered);
}

#[tokio::test(start_paused = true)]
async fn rounds_are_capped() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(true, application, move |mut end| {
        let count = Arc::clone(&count);
        async move {
            end.serve(|_| {
                count.fetch_add(1, Ordering::SeqCst);
                Reply::Result(json!({"resultType": "input_required", "requestState": "again"}))
            })
            .await;
        }
    })
    .await;
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.delivery(), Delivery::Answered);
    assert_eq!(asked.load(Ordering::SeqCst), 10);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_never_answers_holds_a_call_for_an_hour_at_most() {
    let (application, gone) = application(Duration::from_secs(100_000));
    let (client, _) = connect(true, application, |mut end| async move {
        end.serve(|_| Reply::Result(asks("sure?"))).await;
    })
    .await;
    let started = Instant::now();
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(
        error.delivery(),
        Delivery::Answered,
        "the call is not to be made again"
    );
    assert_eq!(started.elapsed(), Duration::from_secs(3_600));
    gone.notified().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_about_what_was_not_offered_ends_the_call() {
    let (client, _) = connect_modern(|mut end| async move {
        end.serve(|_| Reply::Result(asks("sure?"))).await;
    })
    .await;
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(error.delivery(), Delivery::Answered);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_cannot_be_read_is_an_answer() {
    for bad in [
        json!({"resultType": "input_required", "inputRequests": [1]}),
        json!({"resultType": "input_required", "inputRequests": {"a": {"method": 5}}}),
    ] {
        let (application, _) = application(Duration::ZERO);
        let (client, _) = connect(true, application, move |mut end| {
            let bad = bad.clone();
            async move { end.serve(|_| Reply::Result(bad.clone())).await }
        })
        .await;
        let error = call_tool(&*client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(error.delivery(), Delivery::Answered);
    }
}

/// A server that asks once, whose client's later rounds fail as `fails` says, by their number.
async fn call_with_failing_rounds(
    fails: fn(usize) -> Option<Error>,
) -> (mcpool_core::Result<()>, Vec<bool>) {
    let rounds = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&rounds);
    let (application, _) = application(Duration::ZERO);
    let script = scripted(true, |mut end| async move {
        end.serve(|request| match request["params"].get("requestState") {
            None => Reply::Result(asks("sure?")),
            Some(_) => Reply::Result(text("done")),
        })
        .await;
    })
    .refusing(move |_, message| {
        if message["method"] != "tools/call" {
            return None;
        }
        let later = message["params"].get("requestState").is_some();
        let mut seen = seen.lock().unwrap();
        seen.push(later);
        let nth = seen.iter().filter(|later| **later).count();
        later.then(|| fails(nth)).flatten()
    });
    let (client, _) = connect_to(script, application).await;
    let outcome = call_tool(&*client).await.map(drop);
    let rounds = rounds.lock().unwrap().clone();
    (outcome, rounds)
}

#[tokio::test(start_paused = true)]
async fn a_round_that_was_not_taken_is_sent_again_and_never_the_first() {
    let (outcome, rounds) = call_with_failing_rounds(|nth| match nth {
        1 => Some(Error::new(ErrorKind::Connect, "refused")),
        2 => Some(
            Error::new(ErrorKind::RateLimited, "slow down")
                .with_retry_after(Duration::from_secs(3)),
        ),
        _ => None,
    })
    .await;
    outcome.unwrap();
    assert_eq!(rounds, [false, true, true, true]);

    // Not for ever, and then it is no request that somebody may make again from the start.
    let (outcome, rounds) =
        call_with_failing_rounds(|_| Some(Error::new(ErrorKind::Connect, "refused"))).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.delivery(), Delivery::Answered);
    assert_eq!(rounds, [false, true, true, true, true]);

    // A login is no matter of a moment.
    let (outcome, rounds) =
        call_with_failing_rounds(|_| Some(Error::new(ErrorKind::AuthRequired, "401"))).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::AuthRequired);
    assert_eq!(rounds, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_round_whose_fate_is_unknown_is_an_unknown_outcome() {
    let (outcome, rounds) =
        call_with_failing_rounds(|_| Some(Error::new(ErrorKind::ConnectionLost, "broke"))).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert_eq!(rounds, [false, true]);
}
