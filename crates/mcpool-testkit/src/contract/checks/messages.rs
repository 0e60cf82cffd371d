//! What is sent arrives, whole and in order, both ways.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use super::in_order;
use crate::contract::{
    ContractTarget, Verdict,
    drive::{AT_ONCE, Drive, text, tool_call, violated},
};

/// A handshake, a list and a call go through, and the monitor counts them.
///
/// # Errors
/// The violation.
pub async fn answers_a_call(target: &dyn ContractTarget) -> Verdict {
    let check = "answers_a_call";
    let mut drive = Drive::connect(check, target).await?;
    drive.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    let listed = drive.receive_until(|message| message["id"] == 1).await?;
    let tools = listed.last().map_or(0, |answer| {
        answer["result"]["tools"].as_array().map_or(0, Vec::len)
    });
    if tools == 0 {
        return violated(check, format!("no tools: {listed:?}"));
    }
    let message = "hi, \u{1f980} \"quoted\"\nand a second line\r\n\u{2028}";
    let answer = drive.call(2, "echo", json!({"message": message})).await?;
    if answer.last().map(text) != Some(message) {
        return violated(check, format!("echo gave {answer:?}"));
    }
    drive.finish_sends().await?;
    let monitor = drive.transport.monitor();
    if let Some(failure) = monitor.failure() {
        return violated(
            check,
            format!("a live transport reports a failure: {failure}"),
        );
    }
    let counted = monitor.diagnostics();
    if counted.sent < 4 || counted.received < 3 {
        return violated(check, format!("the counters are wrong: {counted:?}"));
    }
    drive.close(AT_ONCE + Duration::from_secs(2)).await
}

/// Messages that are sent one after the other arrive in that order.
///
/// # Errors
/// The violation.
pub async fn keeps_order_of_sends(target: &dyn ContractTarget) -> Verdict {
    const COUNT: u64 = 200;
    let check = "keeps_order_of_sends";
    let mut drive = Drive::connect(check, target).await?;
    for number in 0..COUNT {
        drive
            .send_now(json!({
                "jsonrpc": "2.0",
                "method": "notifications/sequence",
                "params": {"number": number},
            }))
            .await?;
    }
    let answer = drive.call(1, "state", json!({})).await?;
    let arrived = answer
        .last()
        .map(|a| a["result"]["structuredContent"]["sequence"].clone());
    let sent: Vec<u64> = (0..COUNT).collect();
    if arrived != Some(json!(sent)) {
        return violated(check, format!("arrived as {arrived:?}"));
    }
    Ok(())
}

/// Messages of the server are received in the order in which it sent them.
///
/// # Errors
/// The violation.
pub async fn keeps_order_of_receives(target: &dyn ContractTarget) -> Verdict {
    let check = "keeps_order_of_receives";
    let mut drive = Drive::connect(check, target).await?;
    let seen = drive.call(1, "burst", json!({"count": 1000})).await?;
    in_order(check, &seen, 1000)
}

/// A thousand sends that run at once are all carried, and each request gets its answer.
///
/// # Errors
/// The violation.
pub async fn sends_concurrently(target: &dyn ContractTarget) -> Verdict {
    const COUNT: u64 = 1000;
    let check = "sends_concurrently";
    let mut drive = Drive::connect(check, target).await?;
    for id in 1..=COUNT {
        drive.send(tool_call(
            id,
            "echo",
            json!({"message": format!("message {id}")}),
        ));
    }
    let mut open: BTreeSet<u64> = (1..=COUNT).collect();
    let mut wrong = None;
    drive
        .receive_until(|message| {
            if let Some(id) = message["id"].as_u64() {
                let twice = !open.remove(&id);
                if twice || text(message) != format!("message {id}") {
                    wrong = Some(message.clone());
                }
            }
            open.is_empty() || wrong.is_some()
        })
        .await?;
    if let Some(wrong) = wrong {
        return violated(check, format!("a wrong answer: {wrong}"));
    }
    drive.finish_sends().await
}

/// Twenty megabytes go through in both directions.
///
/// # Errors
/// The violation.
pub async fn carries_large_messages(target: &dyn ContractTarget) -> Verdict {
    const SIZE: usize = 20 * 1024 * 1024;
    let check = "carries_large_messages";
    let mut drive = Drive::connect(check, target).await?;
    let message: String = ('a'..='z').cycle().take(SIZE).collect();
    let answer = drive.call(1, "echo", json!({"message": message})).await?;
    if answer.last().map(text) != Some(message.as_str()) {
        let size = answer.last().map(|a| text(a).len());
        return violated(
            check,
            format!("{SIZE} bytes came back as {size:?}, or changed"),
        );
    }
    drive.finish_sends().await
}

/// The server may notify, and ask, while a call runs; the client's answer reaches it.
///
/// # Errors
/// The violation.
pub async fn passes_notifications_and_requests_of_the_server(
    target: &dyn ContractTarget,
) -> Verdict {
    let check = "passes_notifications_and_requests_of_the_server";
    let mut drive = Drive::connect(check, target).await?;
    let logged = drive
        .call(1, "log", json!({"level": "warning", "data": "careful"}))
        .await?;
    let log = logged
        .iter()
        .find(|message| message["method"] == "notifications/message");
    if log.is_none_or(|log| log["params"]["data"] != "careful") {
        return violated(check, format!("the notification did not come: {logged:?}"));
    }
    drive.send(tool_call(2, "ask", json!({"method": "roots/list"})));
    let asked = drive
        .receive_until(|message| message["method"] == "roots/list")
        .await?;
    let id = asked
        .last()
        .map(|request| request["id"].clone())
        .unwrap_or_default();
    let roots = json!({"roots": [{"uri": "file:///srv", "name": "srv"}]});
    drive
        .send_now(json!({"jsonrpc": "2.0", "id": id, "result": roots}))
        .await?;
    let answer = drive.receive_until(|message| message["id"] == 2).await?;
    let heard = answer
        .last()
        .map(|a| a["result"]["structuredContent"]["result"].clone());
    if heard.as_ref().map(|heard| &heard["roots"][0]["uri"]) != Some(&json!("file:///srv")) {
        return violated(check, format!("the server heard {heard:?}"));
    }
    drive.finish_sends().await
}
