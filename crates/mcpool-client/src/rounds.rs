//! Requests that the server answers with a question of its own (MCP 2026-07-28,
//! "Multi Round-Trip Requests"): the question is answered, then the request is sent anew.

use mcpool_core::{
    Error, ErrorKind, RequestOptions, Result,
    model::{ClientRequest, ErrorData, InputRequiredResult, InputResponses},
};

use crate::{
    error_map, handler,
    lenient::{self, Round, Single},
    session::{Clock, Session},
};

/// What the next round carries.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) responses: Option<InputResponses>,
    /// The server's own, given back untouched.
    pub(crate) state: Option<String>,
}

/// Sends a request until the server gives a result, at most `limits.max_rounds` times.
pub(crate) async fn drive<T: Single>(
    session: &Session,
    operation: &'static str,
    request: impl Fn(Answers) -> ClientRequest,
    options: &RequestOptions,
) -> Result<T> {
    let clock = session.clock(options);
    let finish = |error: Error| session.explain(error.with_operation(operation));
    let max = session.limits.max_rounds.max(1);
    let mut answers = Answers::default();
    for _ in 0..max {
        let result = session.ask(request(answers), &clock, options).await?;
        match lenient::round(result).map_err(finish)? {
            Round::Complete(result) => return Ok(result),
            Round::InputRequired(_) if !session.is_modern() => {
                return Err(finish(error_map::protocol(
                    "the server asks for input, which the negotiated protocol does not know",
                )));
            }
            Round::InputRequired(required) => {
                answers = answer(session, required, &clock).await.map_err(finish)?;
            }
        }
    }
    Err(finish(error_map::protocol(format!(
        "the server asked for input {max} times in a row (limits.max_rounds)"
    ))))
}

/// Answers the questions of one round, in their order: a person is asked one thing at a time.
async fn answer(
    session: &Session,
    required: InputRequiredResult,
    clock: &Clock,
) -> Result<Answers> {
    let questions = required.input_requests.unwrap_or_default();
    if questions.is_empty() {
        // The server only wants to be asked again; not at once, or this becomes a hot loop.
        tokio::time::sleep(STATE_ONLY_PAUSE).await;
    }
    let shared = &session.peer.shared;
    let mut responses = InputResponses::new();
    for (key, question) in questions {
        let answering = handler::answer_input(&*session.handler, &shared.server, question);
        let answered = tokio::select! {
            answered = answering => answered,
            () = shared.dead.cancelled() => return Err(session.peer.gone()),
            () = tokio::time::sleep_until(clock.deadline) => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "the server's question was not answered in time",
                ));
            }
        };
        responses.insert(key, answered.map_err(unanswered)?);
    }
    Ok(Answers {
        responses: (!responses.is_empty()).then_some(responses),
        state: required.request_state,
    })
}

/// The pause before a round that carries nothing but the server's state.
const STATE_ONLY_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

fn unanswered(error: ErrorData) -> Error {
    Error::new(
        ErrorKind::Cancelled,
        format!("the server's question was not answered: {}", error.message),
    )
    .with_delivery(mcpool_core::Delivery::Answered)
}
