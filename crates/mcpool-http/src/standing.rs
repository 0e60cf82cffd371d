//! The stream on which a server speaks by itself (MCP 2025-03-26 to 2025-11-25, "Listening for
//! Messages from the Server").

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use mcpool_core::{Error, ErrorKind};
use mcpool_http_pool::{
    Events, PeerRequest, Response, StreamItem, drain,
    http::{Method, StatusCode},
    status_error,
};
use tokio::{sync::watch, time::sleep};

use crate::{
    headers::{LAST_EVENT_ID, is_event_stream},
    incoming::take,
    link::Link,
    pacing::GetPacer,
    session::Session,
};

/// The longest pause of the server's that is kept.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Listens as long as the connection lives, in one session after the other. It runs on a task of
/// the runtime of the connect, whose end it notices by its own: then the connection has ended.
pub(crate) async fn keep(link: Arc<Link>, mut wanted: watch::Receiver<Option<Arc<Session>>>) {
    let alive = Alive(link);
    let link = &alive.0;
    let listening = async {
        loop {
            let session = wanted.borrow_and_update().clone();
            let listening = async {
                if let Some(session) = &session {
                    listen(link, session).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = listening => {}
                changed = wanted.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::select! {
        biased;
        () = link.ended.cancelled() => {}
        () = listening => {}
    }
}

/// Ends the connection when the runtime ends.
struct Alive(Arc<Link>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fail(Error::new(
            ErrorKind::ConnectionLost,
            "the runtime on which the connection was made has ended",
        ));
    }
}

/// Listens in one session until the server has no stream for it.
async fn listen(link: &Arc<Link>, session: &Arc<Session>) {
    let mut pacer = GetPacer::default();
    let mut last_event_id: Option<HeaderValue> = None;
    let mut pause = Duration::ZERO;
    loop {
        sleep(pacer.next_delay().max(pause)).await;
        let mut request = PeerRequest::new(Method::GET, link.peer.url().clone())
            .with_base(Arc::new(session.gets(&link.peer)))
            .with_repeatable(true);
        if let Some(id) = &last_event_id {
            request = request.with_header(LAST_EVENT_ID, id.clone());
        }
        let response = match link.peer.send(&request).await {
            Ok(response) => response,
            Err(error) => {
                session.standing.answer();
                link.notes.error(&error);
                if matches!(
                    error.kind(),
                    ErrorKind::AuthRequired | ErrorKind::Forbidden | ErrorKind::InvalidSpec
                ) {
                    return session.standing.refuse();
                }
                link.verify(&error).await;
                continue;
            }
        };
        link.heard();
        match refused(link, response).await {
            Ok(response) => {
                session.standing.answer();
                pacer.opened();
                let mut events = Events::new(response, link.bounds.message, link.bounds.read_idle);
                pause = read(link, session, &mut events, &mut pacer).await;
                last_event_id = events.last_id().and_then(|id| id.parse().ok());
            }
            Err(Some(asked)) => {
                session.standing.answer();
                pause = asked;
            }
            Err(None) => return session.standing.refuse(),
        }
    }
}

/// Whether the server gives a stream; if not, how long to wait before it is asked again, or that
/// there is none.
async fn refused(link: &Link, response: Response) -> Result<Response, Option<Duration>> {
    let status = response.status();
    if status.is_success() && is_event_stream(response.headers()) {
        return Ok(response);
    }
    let error = status_error(status, response.headers());
    link.answered(status, &[]);
    drain(response).await;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        link.notes.error(&error);
        let asked = error.retry_after().unwrap_or_default();
        return Err(Some(asked.min(LONGEST_PAUSE)));
    }
    // 405 by the book, but 404, 400 and web pages are seen as well. None of them says anything of
    // the POST side, nor of legacy SSE.
    tracing::debug!(
        server = %link.peer.server(),
        status = status.as_u16(),
        "the server offers no standing stream"
    );
    Err(None)
}

/// Reads a stream to its end, and gives the pause that the server wants before the next.
async fn read(
    link: &Arc<Link>,
    session: &Arc<Session>,
    events: &mut Events,
    pacer: &mut GetPacer,
) -> Duration {
    let mut retry = Duration::ZERO;
    loop {
        match events.next().await {
            Some(Ok(StreamItem::Event(event))) => {
                link.heard();
                if let Some(asked) = event.retry {
                    retry = asked.min(LONGEST_PAUSE);
                }
                if !event.data.is_empty() {
                    pacer.delivered();
                    take(link, session, &event.data, None, None);
                }
            }
            Some(Ok(StreamItem::OversizedEnd)) => {
                link.notes.odd("an event over the size limit was skipped");
                link.notes.skipped("");
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                link.notes.error(&error);
                link.verify(&error).await;
                return retry;
            }
            None => return retry,
        }
    }
}
