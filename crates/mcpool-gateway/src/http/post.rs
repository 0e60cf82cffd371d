//! POST: a message of a client, and what answers it (MCP 2025-11-25 and 2026-07-28, "Streamable
//! HTTP").

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures::{StreamExt as _, stream};
use mcpool_core::{
    Message, NotAMessage, ParsedLine, ProtocolVersion, Raw, RawObject, ResponseId, RpcError,
    ServerRequest, encode_response, parse_line,
};

use super::{Front, Visitor, body, exchange::Exchange, headers, reply, standing};
use crate::{
    client::Client,
    era,
    gateway::Gateway,
    guests::Visit,
    limits::{Busy, Turn},
    own::ROOTS_CHANGED,
    session::Session,
    tool_search,
};

/// The refusal of a whole POST.
pub(super) type Refused = (StatusCode, RpcError);

/// Serves a POST.
pub(super) async fn serve(front: Arc<Front>, mut visitor: Visitor, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let refuse = |(status, error): Refused| reply::refused(status, &Raw::null(), error);
    if let Err(refused) = negotiated(&parts.headers) {
        return refuse(refused);
    }
    let text = match body::read(body, &visitor.allowance, front.body_timeout).await {
        Ok(read) => {
            visitor.room = Some(read.room);
            read.text
        }
        // It was not run for want of room, which may be there soon.
        Err(refused @ (StatusCode::TOO_MANY_REQUESTS, _)) => {
            return reply::later(refuse(refused), reply::A_WHILE);
        }
        Err(refused) => return refuse(refused),
    };
    let bad =
        |code: i64, reason: String| refuse((StatusCode::BAD_REQUEST, RpcError::new(code, reason)));
    let parsed = match parse_line(&text) {
        Ok(parsed) => parsed,
        Err(error) => return bad(RpcError::PARSE, error.to_string()),
    };
    if let Some(answer) = front.post_elsewhere(&visitor, &parts, &text, &parsed).await {
        return answer;
    }
    match parsed {
        ParsedLine::One(Err(NotAMessage { reason, .. })) => bad(RpcError::INVALID_REQUEST, reason),
        ParsedLine::One(Ok(message)) => one(front, visitor, &parts.headers, message).await,
        ParsedLine::Batch(members) => batch(front, visitor, &parts.headers, members),
        _ => bad(RpcError::INVALID_REQUEST, "it is not a message".to_owned()),
    }
}

/// Whether body and answer may be of the types that are spoken here.
fn negotiated(headers: &HeaderMap) -> Result<(), Refused> {
    if !headers::is_json(headers) {
        return Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            RpcError::new(
                RpcError::INVALID_REQUEST,
                "the body must be application/json",
            ),
        ));
    }
    if !headers::is_plain(headers) {
        return Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            RpcError::new(
                RpcError::INVALID_REQUEST,
                "the body must have no `Content-Encoding`",
            ),
        ));
    }
    if !(accepts(headers, "application/json") || accepts(headers, "text/event-stream")) {
        return Err((
            StatusCode::NOT_ACCEPTABLE,
            RpcError::new(
                RpcError::INVALID_REQUEST,
                "`Accept` must hold application/json and text/event-stream",
            ),
        ));
    }
    Ok(())
}

/// Whether an answer of this type may be given. Without a header any may.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    let family = kind.split('/').next().unwrap_or_default();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .map(str::trim)
        .any(|range| {
            range == "*/*"
                || range.eq_ignore_ascii_case(kind)
                || range.strip_suffix("/*") == Some(family)
        })
}

async fn one(
    front: Arc<Front>,
    visitor: Visitor,
    headers: &HeaderMap,
    message: Message,
) -> Response {
    match message {
        Message::Request(request) if front.gateway.is_draining() => reply::draining(&request.id),
        Message::Request(request) if is_modern(headers, &request) => {
            let request = headers::with_trace(headers, request);
            modern(front, visitor, headers, request).await
        }
        Message::Request(request) if request.method == "initialize" => {
            initialize(&front, &visitor, &request)
        }
        Message::Request(request) => {
            let request = headers::with_trace(headers, request);
            legacy(front, visitor, headers, request).await
        }
        message => {
            // From MCP 2026-07-28 on there is nothing that one could say apart from requests.
            if headers::text(headers, &headers::VERSION) == Some(ProtocolVersion::LATEST.as_str()) {
                return reply::accepted();
            }
            match standing::session(&front, &visitor, headers) {
                Ok(session) => {
                    said(&front, &session, message);
                    reply::accepted()
                }
                Err((status, error)) => reply::refused(status, &Raw::null(), error),
            }
        }
    }
}

/// Whether a request is of the era without `initialize`.
pub(super) fn is_modern(headers: &HeaderMap, request: &ServerRequest) -> bool {
    let said = headers::text(headers, &headers::VERSION);
    let is_older = |version: &str| ProtocolVersion::new(version).has_initialize();
    match said {
        Some(version) if is_older(version) => false,
        // A version that nobody knows, of a client with a session: the session has another one.
        Some(version) if headers.contains_key(standing::SESSION) => {
            version == ProtocolVersion::LATEST.as_str()
        }
        Some(_) => true,
        None => {
            request.method == "server/discover"
                || era::version(&era::meta(request.params.as_ref())).is_some()
        }
    }
}

/// What a client says without asking anything.
fn said(front: &Front, session: &Session, message: Message) {
    match message {
        Message::Notification(notification) => match &*notification.method {
            "notifications/cancelled" => front.flights.cancelled(&session.id, &notification),
            ROOTS_CHANGED => front.gateway.0.hub.own().roots_changed(&session.id),
            _ => {}
        },
        Message::Response {
            id: ResponseId::Foreign(id),
            outcome,
        } => {
            // An answer to what nobody asks any more.
            let _ = front
                .gateway
                .0
                .questions
                .answered(&session.id, &id, outcome);
        }
        _ => {}
    }
}

fn initialize(front: &Front, visitor: &Visitor, request: &ServerRequest) -> Response {
    let begun = front
        .gateway
        .initialize(
            request.params.as_ref(),
            true,
            visitor.principal.as_deref(),
            &visitor.scope,
        )
        .and_then(|(session, result)| {
            let token = session.seal(&front.gateway.0.keys);
            let token = token.map_err(|error| crate::fault::rpc(&error))?;
            Ok((token, result))
        });
    let (token, result) = match begun {
        Ok(begun) => begun,
        Err(error) => return reply::refused(StatusCode::BAD_REQUEST, &request.id, error),
    };
    let mut response = match encode_response(&request.id, &Ok(result)) {
        Ok(message) => reply::json(StatusCode::OK, message),
        Err(error) => {
            let error = crate::fault::rpc(&error);
            return reply::refused(StatusCode::INTERNAL_SERVER_ERROR, &request.id, error);
        }
    };
    if let Ok(token) = HeaderValue::from_str(&token) {
        response.headers_mut().insert(standing::SESSION, token);
    }
    response
}

/// A request of MCP 2026-07-28.
async fn modern(
    front: Arc<Front>,
    visitor: Visitor,
    headers: &HeaderMap,
    request: ServerRequest,
) -> Response {
    let meta = era::meta(request.params.as_ref());
    let refuse = |error: RpcError| reply::refused(status_of(&error), &request.id, error);
    let version = era::version(&meta);
    if let Err(error) = headers::check(headers, &request, version.as_deref()) {
        // What is missing in the body is said before what a header says instead of it.
        let error = match era::declared(&meta, Gateway::speaks(true)) {
            Err(missing) if version.is_none() => missing,
            _ => error,
        };
        return reply::refused(StatusCode::BAD_REQUEST, &request.id, error);
    }
    let declared = match era::declared(&meta, Gateway::speaks(true)) {
        Ok(declared) => declared,
        Err(error) => return reply::refused(StatusCode::BAD_REQUEST, &request.id, error),
    };
    if let Err(error) = mirrored(&front, &visitor, headers, &request).await {
        return refuse(error);
    }
    let visit = Visit {
        session: None,
        protocol: &ProtocolVersion::LATEST,
        carrier: "http",
        principal: visitor.principal.as_deref(),
        scope: &visitor.scope,
    };
    front.gateway.0.guests.seen(&visit, &meta);
    let turn = match visitor.begin() {
        Ok(turn) => turn,
        Err(busy) => return reply::busy(&request.id, busy),
    };
    let client = Client {
        version: ProtocolVersion::LATEST,
        capabilities: Arc::new(declared.capabilities),
        principal: visitor.principal,
        session: None,
        peer: visitor.peer,
        scope: visitor.scope,
        log_level: declared.log_level,
        listener: None,
        turn: Some(Arc::new(turn)),
    };
    let owner: Arc<str> = "".into();
    let running = Exchange::begin(front, client, request, owner, None);
    // Dropping it, when the client goes, cancels the request.
    running.respond(accepts(headers, "text/event-stream")).await
}

/// Compares the headers that mirror a tool's arguments with them.
async fn mirrored(
    front: &Front,
    visitor: &Visitor,
    headers: &HeaderMap,
    request: &ServerRequest,
) -> Result<(), RpcError> {
    #[derive(serde::Deserialize)]
    struct Params {
        name: String,
    }
    let (true, Some(params)) = (request.method == "tools/call", &request.params) else {
        return Ok(());
    };
    let Ok(Params { name }) = params.parse() else {
        return Ok(());
    };
    // What is called through a tool of ours mirrors nothing.
    if front.gateway.searches(&visitor.scope) && tool_search::is_ours(&name) {
        return Ok(());
    }
    let catalog = &front.gateway.0.catalog;
    let Some(route) = catalog.tool(&name, &visitor.scope).await else {
        return Ok(());
    };
    match catalog.description(&route).await {
        Some(tool) => headers::check_arguments(headers, tool.raw(), params),
        None => Ok(()),
    }
}

/// A request of a session.
async fn legacy(
    front: Arc<Front>,
    visitor: Visitor,
    headers: &HeaderMap,
    request: ServerRequest,
) -> Response {
    let turn = match visitor.begin() {
        Ok(turn) => turn,
        Err(busy) => return reply::busy(&request.id, busy),
    };
    let (client, session) = match of_session(&front, visitor, turn, headers, &request) {
        Ok(of_session) => of_session,
        Err((status, error)) => return reply::refused(status, &request.id, error),
    };
    let owner: Arc<str> = session.id.into();
    let flight = match front.flights.enter(&owner, &request.id) {
        Ok(flight) => flight,
        Err(error) if error.code == RpcError::INTERNAL => {
            return reply::busy(&request.id, Busy::Requests);
        }
        Err(error) => return reply::refused(StatusCode::BAD_REQUEST, &request.id, error),
    };
    let running = Exchange::begin(front, client, request, owner, Some(flight));
    running.respond(accepts(headers, "text/event-stream")).await
}

/// The client of a request of a session.
fn of_session(
    front: &Front,
    visitor: Visitor,
    turn: Turn,
    headers: &HeaderMap,
    request: &ServerRequest,
) -> Result<(Client, Session), Refused> {
    let session = standing::session(front, &visitor, headers)?;
    // Up to MCP 2025-03-26 there is no such header; a later client that leaves it out is known
    // all the same.
    if let Some(version) = headers::text(headers, &headers::VERSION)
        && version != session.version.as_str()
    {
        return Err((
            StatusCode::BAD_REQUEST,
            RpcError::new(
                RpcError::INVALID_REQUEST,
                "MCP-Protocol-Version is not the version of this session",
            ),
        ));
    }
    let visit = Visit {
        session: Some(&session.id),
        protocol: &session.version,
        carrier: "http",
        principal: visitor.principal.as_deref(),
        scope: &visitor.scope,
    };
    front.gateway.0.guests.seen(&visit, &RawObject::new());
    let sets = matches!(
        request.method.as_str(),
        "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe"
    );
    let listener = match sets {
        true => Some(front.standing.listener(front, &session, &visitor)),
        false => front.standing.known(&session),
    };
    let client = standing::of_session(&session, &visitor, listener, Some(turn));
    Ok((client, session))
}

/// Several messages at once, as MCP 2025-03-26 has them: their answers come one by one.
fn batch(
    front: Arc<Front>,
    visitor: Visitor,
    headers: &HeaderMap,
    members: Vec<Result<Message, NotAMessage>>,
) -> Response {
    if front.gateway.is_draining() {
        return reply::draining(&Raw::null());
    }
    let session = match standing::session(&front, &visitor, headers) {
        Ok(session) => session,
        Err((status, error)) => return reply::refused(status, &Raw::null(), error),
    };
    let refuse = |reason: &str| {
        let error = RpcError::new(RpcError::INVALID_REQUEST, reason);
        reply::refused(StatusCode::BAD_REQUEST, &Raw::null(), error)
    };
    if session.version != ProtocolVersion::V_2025_03_26 {
        return refuse("batches are no part of this version");
    }
    if members.is_empty() {
        return refuse("the batch is empty");
    }
    // It is refused as a whole before any of it is run.
    for member in &members {
        match member {
            Err(NotAMessage { reason, .. }) => return refuse(reason),
            Ok(Message::Request(request)) if request.method == "initialize" => {
                return refuse("`initialize` is no part of a batch");
            }
            Ok(_) => {}
        }
    }
    let owner: Arc<str> = session.id.clone().into();
    let mut streams = Vec::new();
    for member in members.into_iter().flatten() {
        match member {
            Message::Request(request) => {
                let turn = visitor.begin().map_err(|busy| {
                    let error = RpcError::new(RpcError::INTERNAL, busy.as_str());
                    (StatusCode::TOO_MANY_REQUESTS, error)
                });
                let begun = turn.and_then(|turn| {
                    let visitor = visitor.clone();
                    let (client, _) = of_session(&front, visitor, turn, headers, &request)?;
                    let flight = front.flights.enter(&owner, &request.id);
                    let flight = flight.map_err(|error| (StatusCode::BAD_REQUEST, error))?;
                    Ok((client, flight))
                });
                match begun {
                    Ok((client, flight)) => {
                        let owner = Arc::clone(&owner);
                        let front = Arc::clone(&front);
                        let running = Exchange::begin(front, client, request, owner, Some(flight));
                        streams.push(running.into_messages().boxed());
                    }
                    Err((_, error)) => {
                        let line = encode_response(&request.id, &Err(error)).unwrap_or_default();
                        streams.push(stream::iter([line]).boxed());
                    }
                }
            }
            message => said(&front, &session, message),
        }
    }
    match streams.is_empty() {
        true => reply::accepted(),
        false => reply::events(stream::select_all(streams)),
    }
}

/// The HTTP status of an error of MCP 2026-07-28.
pub(super) fn status_of(error: &RpcError) -> StatusCode {
    match error.code {
        RpcError::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        RpcError::HEADER_MISMATCH
        | RpcError::MISSING_CLIENT_CAPABILITY
        | RpcError::UNSUPPORTED_PROTOCOL_VERSION
        | RpcError::PARSE
        | RpcError::INVALID_REQUEST => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}
