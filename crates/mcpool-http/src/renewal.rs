//! Beginning a lost session again, once for all that were refused.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use mcpool_core::{
    Delivery, Error, ErrorKind, Notification, Raw, RequestClass, Result, Untrusted, WireRequest,
    encode, encode_notification,
};
use tokio::time::timeout;

use crate::{
    exchange,
    incoming::About,
    link::Link,
    post::Post,
    session::{Session, Sessions},
};

/// From the refusal to the first request in the new session.
const WITHIN: Duration = Duration::from_secs(30);

/// How many subscriptions are set up again at once.
const AT_ONCE: usize = 8;

/// The session after the lost one: the one that is there by now, or one that is begun. It runs on
/// a task, so that a caller that gives up waiting does not stop it for the others.
///
/// # Errors
/// Why there is none. Unless that passes by itself (a pause that the server asks for, a silence),
/// it ends the connection.
pub(crate) async fn renewed(
    link: &Arc<Link>,
    sessions: &Arc<Sessions>,
    lost: &Arc<Session>,
) -> Result<Arc<Session>> {
    let current = sessions.current();
    if current.generation != lost.generation {
        return Ok(current);
    }
    let begin = || {
        let task = link.runtime.spawn(renew(
            Arc::clone(link),
            Arc::clone(sessions),
            Arc::clone(lost),
        ));
        let here = Arc::clone(link);
        async move {
            let gone = |_| Err(here.ended_error(Delivery::Rejected));
            task.await.unwrap_or_else(gone)
        }
        .boxed()
        .shared()
    };
    sessions.renewal(lost.generation, begin).await
}

async fn renew(
    link: Arc<Link>,
    sessions: Arc<Sessions>,
    lost: Arc<Session>,
) -> Result<Arc<Session>> {
    let begun = tokio::select! {
        biased;
        () = link.ended.cancelled() => return Err(link.ended_error(Delivery::Rejected)),
        begun = timeout(WITHIN, begin(&link, &sessions, &lost)) => begun,
    };
    let error = match begun {
        Ok(Ok(session)) => {
            tracing::debug!(server = %link.peer.server(), "the server lost the session; another one was begun");
            sessions.replace(Arc::clone(&session));
            link.inbox.session_renewed();
            return Ok(session);
        }
        Ok(Err(error)) => error,
        Err(_) => Error::new(
            ErrorKind::Timeout,
            format!("the server lost the session and gave no other within {WITHIN:?}"),
        ),
    };
    let error = error.with_delivery(Delivery::Rejected);
    let passes = matches!(
        error.kind(),
        ErrorKind::RateLimited | ErrorKind::Timeout | ErrorKind::Exhausted
    );
    if !passes {
        link.fail(error.clone());
    }
    Err(error)
}

async fn begin(link: &Arc<Link>, sessions: &Sessions, lost: &Session) -> Result<Arc<Session>> {
    let (initialize, held) = sessions.restore();
    let none = Arc::new(Session::none(&link.peer));
    let answer = ask(link, &none, "initialize", initialize.as_ref()).await?;
    let result = answer.outcome.map_err(|rpc| {
        Error::from_rpc(rpc).wrap(
            ErrorKind::ConnectionLost,
            "the server lost the session and refused a new one",
        )
    })?;
    let session = Arc::new(sessions.next(&link.peer, answer.session_id, &result));
    if session.version != lost.version {
        let name = |session: &Session| match &session.version {
            Some(version) => version.to_string(),
            None => "none".to_owned(),
        };
        return Err(Error::new(
            ErrorKind::ConnectionLost,
            format!(
                "the server lost the session and came back with another protocol version: {} and \
                 not {}",
                Untrusted::line(name(&session)).clip(40),
                name(lost)
            ),
        ));
    }
    let initialized = Notification::new("notifications/initialized", None);
    Post::one_way(&session, encode_notification(&initialized)?)
        .accepted(link)
        .await
        .map_err(|refusal| refusal.error)?;
    stream::iter(held)
        .for_each_concurrent(AT_ONCE, |(method, params)| {
            let session = &session;
            async move {
                let set = ask(link, session, method, Some(&params)).await;
                let error = match set.map(|answer| answer.outcome) {
                    Ok(Ok(_)) => return,
                    Ok(Err(rpc)) => Error::from_rpc(rpc),
                    Err(error) => error,
                };
                // The new session is good without it.
                link.notes.error(&error);
                tracing::debug!(server = %link.peer.server(), method, %error, "not restored");
            }
        })
        .await;
    Ok(session)
}

async fn ask(
    link: &Arc<Link>,
    session: &Arc<Session>,
    method: &'static str,
    params: Option<&Raw>,
) -> Result<exchange::Answer> {
    let id = link.next_id();
    let request = WireRequest::new(method, params).with_class(RequestClass::Handshake);
    let body = encode(id, &request, false)?;
    let about = About { id, sink: None };
    exchange::ask(link, session, &request, &about, body.into(), &|| {})
        .await
        .map_err(|refusal| refusal.error)
}
