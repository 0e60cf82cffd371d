//! Requests that the server answers with a question of its own (MCP 2026-07-28, "Multi Round-Trip
//! Requests"): the question is answered, and the request is sent again with the answer.
//!
//! A round after the first carries what a person said. When it was not taken it is sent again, and
//! the first never is: that would ask the person once more, or run twice what was run in between.

use std::time::Duration;

use mcpool_core::{
    Delivery, Error, ErrorKind, Raw, RawObject, Recovery, Result, RpcError, ServerRequest,
};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::{
    call::Call,
    clock::{MAX_PAUSE, add},
};

/// The most questions of one round.
const MAX_QUESTIONS: usize = 64;

/// How often a round that was not taken is sent again.
const RESENDS: u32 = 3;

/// The pause before that, doubled each time, where the server does not name one; and before a
/// round that carries nothing but the server's state, so that it becomes no hot loop.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a request of this method may be answered with a question.
pub(crate) fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Sends a request until the server gives a result, at most `limits.max_rounds` times.
pub(crate) async fn drive(mut call: Call<'_>) -> Result<Raw> {
    let most = call.context.limits.max_rounds.max(1);
    let mut answer = call.send(call.request.params.as_ref()).await?;
    for round in 1.. {
        let required = match read(&answer) {
            Ok(None) => return Ok(answer),
            Ok(Some(required)) => required,
            Err(error) => return Err(finish(&call, error.with_raw(answer))),
        };
        if round >= most {
            break;
        }
        let params = match answered(&mut call, required).await {
            Ok(params) => params,
            Err(error) => return Err(finish(&call, error)),
        };
        answer = send_round(&call, &params).await?;
    }
    Err(finish(
        &call,
        protocol(format!(
            "the server asked for input {most} times in a row (limits.max_rounds)"
        )),
    ))
}

/// A result that asks for input.
struct InputRequired {
    input_requests: RawObject,
    /// The server's own, given back as it came.
    request_state: Option<Raw>,
}

const INPUT_REQUIRED: &str = "\"input_required\"";

/// Whether a result asks for input, and for which.
fn read(answer: &Raw) -> Result<Option<InputRequired>> {
    // Nearly every result is a last one, and may be large.
    let text = answer.get();
    if memchr::memmem::find(text.as_bytes(), INPUT_REQUIRED.as_bytes()).is_none()
        || !text.starts_with('{')
    {
        return Ok(None);
    }
    let Ok(mut members) = RawObject::parse(answer) else {
        return Ok(None);
    };
    let kind = members.get("resultType");
    if kind.is_none_or(|kind| kind.get() != INPUT_REQUIRED) {
        return Ok(None);
    }
    let questions = members.get("inputRequests").filter(|it| !it.is_null());
    let input_requests = match questions.map(RawObject::parse) {
        None => RawObject::new(),
        Some(questions) => questions
            .map_err(|error| protocol(format!("the server's question cannot be read: {error}")))?,
    };
    Ok(Some(InputRequired {
        input_requests,
        request_state: members.remove("requestState"),
    }))
}

/// Answers the questions of one round, in their order: a person is asked one thing at a time.
/// Gives the parameters of the next round.
async fn answered(call: &mut Call<'_>, required: InputRequired) -> Result<Raw> {
    let questions = required.input_requests;
    let mut responses = RawObject::new();
    for (at, (key, question)) in questions.iter().enumerate() {
        if at >= MAX_QUESTIONS {
            return Err(protocol(format!(
                "the server asked more than {MAX_QUESTIONS} questions at once"
            )));
        }
        let response = answer_one(call, key, question).await?;
        responses.insert(key, response);
    }
    if responses.is_empty() {
        sleep(PAUSE).await;
    }
    let mut params = match &call.request.params {
        Some(params) => RawObject::parse(params)?,
        None => RawObject::new(),
    };
    let mut set = |name: &str, value: Option<Raw>| match value {
        Some(value) => params.insert(name, value),
        None => drop(params.remove(name)),
    };
    let responses = match responses.is_empty() {
        true => None,
        false => Some(responses.to_raw()?),
    };
    set("inputResponses", responses);
    set("requestState", required.request_state);
    params.to_raw()
}

async fn answer_one(call: &mut Call<'_>, key: &str, question: &Raw) -> Result<Raw> {
    #[derive(Deserialize)]
    struct Question {
        method: String,
        #[serde(default)]
        params: Option<Raw>,
    }
    let Question { method, params } = question
        .parse()
        .map_err(|error| protocol(format!("the server's question cannot be read: {error}")))?;
    let request = ServerRequest::new(Raw::of(key)?, method, params);
    let context = call.context;
    let caller = call.options.caller.as_deref();
    if caller.is_none() {
        context.answerer.check(&request).map_err(unanswered)?;
    }
    let asked = Instant::now();
    let answer = context
        .answerer
        .answer(caller, &context.link.server, request);
    let answer = tokio::select! {
        biased;
        () = tokio::time::sleep_until(add(asked, call.clock.pause_left())) => {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("the server's questions were not answered within {MAX_PAUSE:?}"),
            )
            .with_delivery(Delivery::Answered));
        }
        answer = answer => answer,
        reason = context.link.transport.closed() => {
            let closed = || Error::new(ErrorKind::Closed, "the client was closed");
            let error = reason.unwrap_or_else(closed);
            return Err(context.link.explain(error).with_delivery(Delivery::Answered));
        }
    };
    // Time that waits for a person does not count.
    call.clock.stood_still(asked.elapsed());
    answer.map_err(unanswered)
}

/// Sends a round after the first.
async fn send_round(call: &Call<'_>, params: &Raw) -> Result<Raw> {
    let mut resends = 0;
    loop {
        let error = match call.send(Some(params)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match error.delivery() {
            Delivery::Answered => return Err(error),
            Delivery::NotSent | Delivery::Rejected => {
                let pause = error.retry_after().unwrap_or(PAUSE * 2_u32.pow(resends));
                let then = add(Instant::now(), pause);
                let worth_it = resends < RESENDS
                    && error.kind() != ErrorKind::Timeout
                    && error.recovery() != Recovery::Login
                    && !call.context.link.transport.is_closed()
                    && then < call.clock.deadline();
                if !worth_it {
                    let message = format!(
                        "the server's question was answered, and the answer was not taken: {}",
                        error.message()
                    );
                    // The request as a whole was answered, by the question: sent from the start
                    // it would be another one.
                    let kind = error.kind();
                    return Err(error.wrap(kind, message).with_delivery(Delivery::Answered));
                }
                tokio::time::sleep_until(then).await;
                resends += 1;
            }
            _ => {
                let message = format!(
                    "the server's question was answered, and what became of the answer is unknown: {}",
                    error.message()
                );
                return Err(error.wrap(ErrorKind::OutcomeUnknown, message));
            }
        }
    }
}

fn finish(call: &Call<'_>, error: Error) -> Error {
    let error = error.with_server(&call.context.link.server);
    error.with_operation(call.operation())
}

/// A result that is not what the protocol says.
fn protocol(message: String) -> Error {
    Error::new(ErrorKind::Protocol, message).with_delivery(Delivery::Answered)
}

fn unanswered(error: RpcError) -> Error {
    Error::new(
        ErrorKind::Cancelled,
        format!("the server's question was not answered: {}", error.message),
    )
    .with_delivery(Delivery::Answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_result_of_that_type_asks() {
        let raw = |text: &str| Raw::from_text(text.to_owned()).unwrap();
        for text in [
            "{}",
            "null",
            r#"{"resultType":"complete","content":[{"type":"text","text":"x"}]}"#,
            r#"{"resultType":"complete","structuredContent":{"resultType":"input_required"}}"#,
            r#"["input_required"]"#,
        ] {
            assert!(read(&raw(text)).unwrap().is_none(), "{text}");
        }
        let asks = r#"{"resultType":"input_required","requestState":{"n":1e999}}"#;
        let asks = read(&raw(asks)).unwrap().unwrap();
        assert_eq!(asks.request_state.unwrap().get(), r#"{"n":1e999}"#);
        assert!(asks.input_requests.is_empty());
        let bad = raw(r#"{"resultType":"input_required","inputRequests":[]}"#);
        assert_eq!(read(&bad).err().unwrap().delivery(), Delivery::Answered);
    }
}
