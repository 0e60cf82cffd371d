//! What one replica keeps of a session of an older client: its standing stream, its log level, its
//! subscriptions (MCP 2025-11-25, "Listening for Messages from the Server").
//!
//! None of it is needed to serve requests, so all of it may be lost: a client opens its stream and
//! subscribes again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use mcpool_core::{Inbox, Incoming, Raw, RpcError, encode_notification};
use tokio::{
    sync::{OwnedMutexGuard, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Front, Visitor, headers, reply};
use crate::{
    client::Client,
    hub::{Listener, Wants},
    limits::Turn,
    outlet::{MESSAGE_QUEUE, Outlet},
    own::Presence,
    session::Session,
};

/// The header of a session token.
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// Sessions of which something is kept at once. The one that was not used for the longest time is
/// forgotten first.
const MAX_SESSIONS: usize = 10_000;

/// Sessions that are remembered as ended.
const MAX_ENDED: usize = 10_000;

/// What is kept of all sessions.
#[derive(Default)]
pub(crate) struct Standing(Mutex<Sessions>);

#[derive(Default)]
struct Sessions {
    kept: HashMap<String, Kept>,
    /// Those that their clients have ended, and when.
    ended: HashMap<String, Instant>,
}

struct Kept {
    listener: Arc<Listener>,
    /// Held by the stream that is open.
    inbox: Arc<tokio::sync::Mutex<Inbox>>,
    /// Ends the stream that is open.
    replaced: CancellationToken,
    used: Instant,
}

impl Drop for Kept {
    /// Its stream holds the listener as well, so it would not end by itself.
    fn drop(&mut self) {
        self.replaced.cancel();
    }
}

impl Standing {
    /// What is kept of a session, from now on at the latest.
    pub(super) fn listener(
        &self,
        front: &Front,
        session: &Session,
        visitor: &Visitor,
    ) -> Arc<Listener> {
        let mut sessions = self.sessions();
        Arc::clone(&sessions.of(front, session, visitor).listener)
    }

    /// What is kept of a session, if anything is.
    pub(super) fn known(&self, session: &Session) -> Option<Arc<Listener>> {
        let mut sessions = self.sessions();
        let kept = sessions.kept.get_mut(&session.id)?;
        kept.used = Instant::now();
        Some(Arc::clone(&kept.listener))
    }

    fn is_ended(&self, session: &Session) -> bool {
        self.sessions().ended.contains_key(&session.id)
    }

    fn end(&self, session: &Session) {
        let mut sessions = self.sessions();
        sessions.kept.remove(&session.id);
        if sessions.ended.len() >= MAX_ENDED {
            let oldest = sessions.ended.iter().min_by_key(|(_, at)| **at);
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.map(|id| sessions.ended.remove(&id));
        }
        sessions.ended.insert(session.id.clone(), Instant::now());
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn of(&mut self, front: &Front, session: &Session, visitor: &Visitor) -> &mut Kept {
        if self.kept.len() >= MAX_SESSIONS && !self.kept.contains_key(&session.id) {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.map(|id| self.kept.remove(&id));
        }
        let kept = self.kept.entry(session.id.clone()).or_insert_with(|| {
            let hub = &front.gateway.0.hub;
            let owner = session.id.as_str().into();
            let (listener, inbox) = hub.listen(owner, visitor.scope.clone(), Wants::EVERYTHING);
            Kept {
                listener: Arc::new(listener),
                inbox: Arc::new(tokio::sync::Mutex::new(inbox)),
                replaced: CancellationToken::new(),
                used: Instant::now(),
            }
        });
        kept.used = Instant::now();
        kept
    }
}

/// The session that a request belongs to. Its token is opened once.
///
/// # Errors
/// 400 without a token, 404 for one that is not, or not any more, a session of this client.
pub(super) fn session(
    front: &Front,
    visitor: &Visitor,
    headers: &HeaderMap,
) -> Result<Session, (StatusCode, RpcError)> {
    let opened = visitor
        .session
        .get_or_init(|| open_token(front, visitor, headers));
    opened.clone()
}

fn open_token(
    front: &Front,
    visitor: &Visitor,
    headers: &HeaderMap,
) -> Result<Session, (StatusCode, RpcError)> {
    let Some(token) = headers::text(headers, &SESSION) else {
        return Err((
            StatusCode::BAD_REQUEST,
            RpcError::new(
                RpcError::INVALID_REQUEST,
                "there is no Mcp-Session-Id: send `initialize` first, or say the protocol version \
                 in `_meta` (MCP 2026-07-28)",
            ),
        ));
    };
    let principal = visitor.principal.as_deref();
    let session = Session::open(token, &front.gateway.0.keys, principal, &visitor.scope);
    session
        .filter(|session| !front.standing.is_ended(session))
        .ok_or_else(|| {
            (
                StatusCode::NOT_FOUND,
                RpcError::new(RpcError::INVALID_REQUEST, "there is no such session"),
            )
        })
}

/// GET: opens the standing stream of a session. An earlier one of it ends.
pub(super) fn open(front: &Front, visitor: &Visitor, headers: &HeaderMap) -> Response {
    if headers::text(headers, &headers::VERSION).is_some_and(|version| version == "2026-07-28") {
        return reply::not_allowed();
    }
    let session = match session(front, visitor, headers) {
        Ok(session) => session,
        Err((status, error)) => return reply::refused(status, &Raw::null(), error),
    };
    let (inbox, replaced, listener) = {
        let mut sessions = front.standing.sessions();
        let kept = sessions.of(front, &session, visitor);
        kept.replaced.cancel();
        kept.replaced = CancellationToken::new();
        let listener = Arc::clone(&kept.listener);
        (Arc::clone(&kept.inbox), kept.replaced.clone(), listener)
    };
    let gateway = &front.gateway.0;
    // What servers that are the client's own ask while nothing of it is under way comes here too.
    let (asks, asked) = mpsc::channel(MESSAGE_QUEUE);
    let key: Arc<str> = session.id.as_str().into();
    let outlet = Outlet::new(asks, Arc::clone(&gateway.questions), Arc::clone(&key));
    let client = of_session(&session, visitor, Some(listener), None);
    let presence = front.gateway.present_on_stream(client, key, outlet);
    let said = Said {
        held: None,
        inbox,
        asked,
        replaced,
        _presence: presence,
    };
    let messages = stream::unfold(said, |mut said| async move {
        let line = said.next().await?;
        Some((line, said))
    });
    let ended = gateway.drain.ended().clone();
    reply::events(messages.take_until(ended.cancelled_owned()))
}

/// What goes over one standing stream.
struct Said {
    held: Option<OwnedMutexGuard<Inbox>>,
    inbox: Arc<tokio::sync::Mutex<Inbox>>,
    asked: mpsc::Receiver<String>,
    replaced: CancellationToken,
    _presence: Presence,
}

impl Said {
    /// The next message; `None` at the end, or when a later stream takes its place.
    async fn next(&mut self) -> Option<String> {
        let Self {
            held,
            inbox,
            asked,
            replaced,
            ..
        } = self;
        let next = async {
            if held.is_none() {
                // The earlier stream drops it.
                *held = Some(Arc::clone(inbox).lock_owned().await);
            }
            let inbox = held.as_mut()?;
            loop {
                tokio::select! {
                    item = inbox.next() => if let Incoming::Notification(notification) = item?
                        && let Ok(line) = encode_notification(&notification)
                    {
                        return Some(line);
                    },
                    Some(question) = asked.recv() => return Some(question),
                }
            }
        };
        replaced.run_until_cancelled(next).await.flatten()
    }
}

/// The client of a session.
pub(super) fn of_session(
    session: &Session,
    visitor: &Visitor,
    listener: Option<Arc<Listener>>,
    turn: Option<Turn>,
) -> Client {
    let key = session.id.as_str().into();
    Client {
        principal: visitor.principal.clone(),
        peer: visitor.peer,
        turn: turn.map(Arc::new),
        ..Client::of_session(session, key, visitor.scope.clone(), listener)
    }
}

/// DELETE: ends a session.
pub(super) fn end(front: &Front, visitor: &Visitor, headers: &HeaderMap) -> Response {
    match session(front, visitor, headers) {
        Ok(session) => {
            front.standing.end(&session);
            front.gateway.0.guests.left(&session.id);
            front.gateway.0.hub.own().end(&session.id);
            StatusCode::NO_CONTENT.into_response()
        }
        Err((status, error)) => reply::refused(status, &Raw::null(), error),
    }
}
