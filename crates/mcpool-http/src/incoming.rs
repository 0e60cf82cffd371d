//! Handing over what a server says: on the stream of a request, in the body of its answer, on the
//! standing stream.

use std::sync::Arc;

use mcpool_core::{
    Direction, Message, Notification, ParsedLine, Progress, RequestId, RequestSink, ResponseId,
    RpcError, ServerRequest, encode_response, is_client_method, parse_line,
};
use mcpool_http_pool::http::StatusCode;

use crate::{guarded::guarded, in_flight::Outcome, link::Link, post::Post, session::Session};

/// The request in whose course something is said.
pub(crate) struct About<'a> {
    pub(crate) id: RequestId,
    pub(crate) sink: Option<&'a Arc<dyn RequestSink>>,
}

/// What a program is that answers with [`Found::Echo`].
pub(crate) const ECHO: &str = "the server sends back what it is sent: it is not an MCP server";

/// What was in a text, beside what was handed over.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// The answer to the request.
    Answer(Outcome),
    /// An answer to another one.
    Stray,
    /// No answer.
    Nothing,
    /// Our own request, sent back.
    Echo,
    /// No message at all, and why.
    Unreadable(String),
}

/// Reads one text of a server's and hands over what it says. `about` is the request of ours whose
/// exchange it came in.
pub(crate) fn take(
    link: &Arc<Link>,
    session: &Arc<Session>,
    text: &str,
    status: Option<StatusCode>,
    about: Option<&About<'_>>,
) -> Found {
    let unreadable = |reason: String| {
        link.notes.skipped(text);
        link.tap(Direction::Skipped, status, text);
        Found::Unreadable(reason)
    };
    match parse_line(text) {
        Err(error) => unreadable(error.to_string()),
        Ok(ParsedLine::One(Err(no_message))) => unreadable(no_message.reason),
        Ok(ParsedLine::One(Ok(message))) => {
            link.tap(Direction::Received, status, text);
            one(link, session, message, about)
        }
        Ok(ParsedLine::Batch(members)) => {
            link.tap(Direction::Received, status, text);
            let mut found = Found::Nothing;
            for member in members {
                match member.map(|message| one(link, session, message, about)) {
                    Ok(answer @ (Found::Answer(_) | Found::Echo)) => found = answer,
                    Ok(Found::Stray) if found == Found::Nothing => found = Found::Stray,
                    Ok(_) => {}
                    Err(no_message) => link.notes.skipped(&no_message.reason),
                }
            }
            found
        }
        Ok(_) => Found::Nothing,
    }
}

fn one(
    link: &Arc<Link>,
    session: &Arc<Session>,
    message: Message,
    about: Option<&About<'_>>,
) -> Found {
    link.notes.received();
    match message {
        Message::Response { id, outcome } => return answer(link, id, outcome, about),
        Message::Request(request) if is_echo(&request, about) => return Found::Echo,
        Message::Request(request) => {
            ask(
                link,
                session,
                request.with_related(about.map(|about| about.id)),
            );
        }
        Message::Notification(notification) => tell(link, notification, about),
        _ => {}
    }
    Found::Nothing
}

/// Whether these are our own words: a request that only a client sends, under the id of ours.
fn is_echo(request: &ServerRequest, about: Option<&About<'_>>) -> bool {
    let id = ResponseId::read(request.id.as_raw_value());
    is_client_method(&request.method)
        && matches!((id, about), (ResponseId::Ours(id), Some(about)) if id == about.id)
}

fn answer(link: &Link, id: ResponseId, outcome: Outcome, about: Option<&About<'_>>) -> Found {
    let is_it = match (&id, about) {
        (ResponseId::Ours(id), Some(about)) => *id == about.id,
        // It came in the exchange of exactly one request.
        (ResponseId::Null, Some(_)) => {
            if outcome.is_ok() {
                link.notes.odd("an answer has no id");
            }
            true
        }
        // On the standing stream, answers find their requests by their ids alone. In an exchange
        // the ids of others mean nothing: the exchange is the better evidence.
        (ResponseId::Ours(id), None) => return found_elsewhere(link, *id, outcome),
        _ => false,
    };
    match is_it {
        true => Found::Answer(outcome),
        false => stray(link),
    }
}

fn found_elsewhere(link: &Link, id: RequestId, outcome: Outcome) -> Found {
    match link.in_flight.answer(id, outcome) {
        Ok(()) => Found::Nothing,
        Err(_) => stray(link),
    }
}

fn stray(link: &Link) -> Found {
    link.notes
        .odd("an answer has the id of no request that waits");
    Found::Stray
}

fn ask(link: &Arc<Link>, session: &Arc<Session>, request: ServerRequest) {
    let Err(refused) = link.inbox.request(request) else {
        return;
    };
    let busy = RpcError::new(
        RpcError::INTERNAL,
        "this client is still busy with earlier requests",
    );
    let Ok(body) = encode_response(&refused.id, &Err(busy)) else {
        return;
    };
    let (here, session) = (Arc::clone(link), Arc::clone(session));
    let runs = link.aside.run(async move {
        Post::one_way(&session, body).accepted(&here).await.ok();
    });
    if !runs {
        link.notes.dropped();
    }
}

fn tell(link: &Link, notification: Notification, about: Option<&About<'_>>) {
    if notification.method == "notifications/progress"
        && let Some((id, progress)) = notification.params.as_ref().and_then(Progress::read)
    {
        match about {
            Some(about) if about.id == id => {
                if let Some(sink) = about.sink {
                    guarded(|| sink.progress(progress));
                }
            }
            // Of a request that has ended, it is of no use to anybody.
            _ => {
                link.in_flight.progress(id, progress);
            }
        }
        return;
    }
    let sink = about.and_then(|about| about.sink);
    let kept = sink.and_then(|sink| guarded(|| sink.notification(&notification)));
    if kept != Some(true) {
        link.inbox.notification(notification);
    }
}
