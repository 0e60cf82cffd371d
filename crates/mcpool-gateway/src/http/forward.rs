//! What is kept by one replica reaches it from every other: a session of an older client belongs
//! to the replica that began it, and so does a call that is parked there. A request for another
//! replica goes there whole, by one hop, and its answer comes back as it is.
//!
//! The hop carries a sealed header, so that nobody else can send one: it says that the request was
//! checked for its `Host` and counted for its rate, and must not be sent on. The client's own
//! credentials go along, and are checked again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response,
};
use futures::{Stream, StreamExt as _, stream};
use mcpool_core::{
    Delivery, Error, ErrorKind, Message, ParsedLine, Raw, ResponseId, Result, ServerRequest,
    encode_response,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Front, Visitor, peer::Peer, post, reply, standing};
use crate::{fault, https, limits::Turn, replica::Replica, seal::SealingKeys, session::seconds};

/// The header of a hop.
const HOP: HeaderName = HeaderName::from_static("mcpool-hop");

/// What a hop is sealed for.
const PURPOSE: &str = "mcpool hop 1";

/// How long a connection to another replica may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a replica that could not be reached is not tried again.
const DOWN_PAUSE: Duration = Duration::from_secs(5);

/// Replicas that are known as down at once.
const MAX_DOWN: usize = 1_024;

/// How often a replica that could not be reached is sent the end of a session again, and for how
/// long.
const LATER_PAUSE: Duration = Duration::from_secs(5);
const LATER_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Ends of sessions that wait for their replicas.
const MAX_LATER: usize = 1_024;

/// How old a hop may be, and how far the clocks of two replicas may be apart.
const HOP_LIFETIME: Duration = Duration::from_secs(300);

/// When a connection to another replica that is silent is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Headers that belong to a connection, or say how the client reached the first replica.
const OF_CONNECTION: [HeaderName; 12] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::ORIGIN,
    header::PROXY_AUTHORIZATION,
    header::ACCEPT_ENCODING,
    HOP,
];

/// The way to other replicas.
pub(super) struct Forwarding {
    own: Replica,
    client: reqwest::Client,
    down: Mutex<HashMap<Replica, Instant>>,
    /// Places for what is sent later.
    later: Arc<Semaphore>,
}

/// A request that another replica has sent on.
#[derive(Clone, Copy)]
pub(super) struct Hopped {
    /// The address that it came from there.
    pub(super) peer: Option<IpAddr>,
}

#[derive(Serialize, Deserialize)]
struct Hop {
    /// Whom it was sent to.
    to: Replica,
    method: String,
    path: String,
    /// The address that the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    /// Seconds of the Unix clock.
    at: u64,
}

/// What a request holds while another replica runs it: its place among those of its principal, and
/// the end of this gateway.
struct Held {
    _turn: Turn,
    _running: TaskTrackerToken,
}

/// What came of a hop.
pub(super) enum Sent {
    Answered(reqwest::Response),
    /// The replica did not get it, or did not take it.
    NotRun,
    /// What became of it is not known.
    Lost,
}

impl Forwarding {
    /// # Errors
    /// When no TLS can be spoken.
    pub(super) fn new(own: Replica) -> Result<Self> {
        let client = https::builder()?
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEP_ALIVE);
        let client = https::build(client)?;
        Ok(Self {
            own,
            client,
            down: Mutex::default(),
            later: Arc::new(Semaphore::new(MAX_LATER)),
        })
    }

    /// The replica, if it is another one. One that could not be reached a moment ago is left alone
    /// where this one can do the same; where it cannot, it is tried all the same.
    fn other(&self, replica: Replica, only_there: bool) -> Option<Replica> {
        let since = self.down().get(&replica).copied();
        let is_down = since.is_some_and(|since| since.elapsed() < DOWN_PAUSE);
        (replica != self.own && (only_there || !is_down)).then_some(replica)
    }

    fn mark_down(&self, replica: Replica) {
        let mut down = self.down();
        if down.len() >= MAX_DOWN {
            down.retain(|_, since| since.elapsed() < DOWN_PAUSE);
        }
        if down.len() < MAX_DOWN {
            down.insert(replica, Instant::now());
        }
    }

    fn down(&self) -> MutexGuard<'_, HashMap<Replica, Instant>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the end of a session until its replica answers, the gateway ends, or it was tried for
    /// long enough. One too many is not sent: its token is good there until it expires.
    fn send_later(&self, front: Weak<Front>, to: Replica, parts: Parts) {
        let Ok(place) = Arc::clone(&self.later).try_acquire_owned() else {
            tracing::warn!("too many ends of sessions wait for replicas that cannot be reached");
            return;
        };
        let until = Instant::now() + LATER_TIMEOUT;
        tokio::spawn(async move {
            let _place = place;
            while Instant::now() < until {
                tokio::time::sleep(LATER_PAUSE).await;
                let Some(front) = front.upgrade().filter(|f| !f.gateway.is_draining()) else {
                    return;
                };
                let Some(forwarding) = &front.forwarding else {
                    return;
                };
                let keys = &front.gateway.0.keys;
                let sent = forwarding.send(keys, to.clone(), &parts, String::new());
                // One that is stopped takes the connection and never answers.
                if let Ok(Sent::Answered(_)) = tokio::time::timeout(LATER_PAUSE, sent).await {
                    return;
                }
            }
        });
    }

    async fn send(&self, keys: &SealingKeys, to: Replica, parts: &Parts, body: String) -> Sent {
        let path = path_of(parts);
        let Ok(hop) = seal(keys, &to, parts, path) else {
            return Sent::NotRun;
        };
        let mut headers = parts.headers.clone();
        for name in OF_CONNECTION {
            headers.remove(name);
        }
        headers.insert(HOP, hop);
        let request = self
            .client
            .request(parts.method.clone(), format!("{}{path}", to.as_str()))
            .headers(headers)
            .body(body);
        match request.send().await {
            // It ends, or cannot check tokens now: either is said before anything is run.
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => Sent::NotRun,
            Ok(response) => Sent::Answered(response),
            Err(error) => {
                let connected = !error.is_connect();
                let error = error.without_url();
                tracing::debug!(replica = to.as_str(), %error, "a request did not get through");
                if connected {
                    return Sent::Lost;
                }
                self.mark_down(to);
                Sent::NotRun
            }
        }
    }
}

fn path_of(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", |path| path.as_str())
}

fn seal(keys: &SealingKeys, to: &Replica, parts: &Parts, path: &str) -> Result<HeaderValue> {
    let hop = Hop {
        to: to.clone(),
        method: parts.method.as_str().to_owned(),
        path: path.to_owned(),
        peer: parts.extensions.get::<Peer>().and_then(|peer| peer.0),
        at: seconds(SystemTime::now()),
    };
    let sealed = keys.seal(PURPOSE, Raw::of(&hop)?.get().as_bytes())?;
    HeaderValue::from_str(&sealed)
        .map_err(|_| Error::new(ErrorKind::Internal, "a hop cannot be said in a header"))
}

impl Front {
    /// Marks a request that another replica has sent on.
    ///
    /// # Errors
    /// The header of a hop that was not made for this request.
    pub(super) fn arrived(&self, request: &mut Request) -> std::result::Result<(), HopRefused> {
        let Some(sealed) = request.headers_mut().remove(HOP) else {
            return Ok(());
        };
        let opened = sealed
            .to_str()
            .ok()
            .and_then(|sealed| self.gateway.0.keys.open(PURPOSE, sealed))
            .and_then(|bytes| serde_json::from_slice::<Hop>(&bytes).ok());
        let path = request.uri().path_and_query();
        let good = opened.filter(|hop| {
            Some(&hop.to) == self.forwarding.as_ref().map(|forwarding| &forwarding.own)
                && hop.method == request.method().as_str()
                && Some(hop.path.as_str()) == path.map(|path| path.as_str())
                && hop.at.abs_diff(seconds(SystemTime::now())) <= HOP_LIFETIME.as_secs()
        });
        let Some(Hop { peer, .. }) = good else {
            return Err(HopRefused);
        };
        request.extensions_mut().insert(Hopped { peer });
        Ok(())
    }

    /// The way to other replicas, for a request that may still go there.
    fn onward(&self, parts: &Parts) -> Option<&Forwarding> {
        let forwarding = self.forwarding.as_ref()?;
        parts
            .extensions
            .get::<Hopped>()
            .is_none()
            .then_some(forwarding)
    }

    /// Sends a POST to the replica that it is for; `None` when it is to be served here.
    pub(super) async fn post_elsewhere(
        &self,
        visitor: &Visitor,
        parts: &Parts,
        text: &str,
        parsed: &ParsedLine,
    ) -> Option<Response> {
        let forwarding = self.onward(parts)?;
        let replica = self.replica_of(visitor, &parts.headers, parsed)?;
        let request = match parsed {
            ParsedLine::One(Ok(Message::Request(request))) => Some(request),
            _ => None,
        };
        // A notification or an answer takes no place, and is read to the end: a request waits for it.
        let asks_nothing = matches!(
            parsed,
            ParsedLine::One(Ok(Message::Notification(_) | Message::Response { .. }))
        );
        // An answer, a cancel and a call that is parked are of no use anywhere else.
        let is_parked = request.is_some_and(|request| post::is_modern(&parts.headers, request));
        let to = forwarding.other(replica, asks_nothing || is_parked)?;
        let id = request.map_or_else(Raw::null, |request| request.id.clone());
        let held = match asks_nothing {
            true => None,
            false => {
                let running = self.gateway.0.drain.elsewhere();
                if self.gateway.is_draining() {
                    // It is refused here, as every other one.
                    return None;
                }
                let turn = match visitor.begin() {
                    Ok(turn) => turn,
                    Err(busy) => return Some(reply::busy(&id, busy)),
                };
                Some(Held {
                    _turn: turn,
                    _running: running,
                })
            }
        };
        let sent = forwarding.send(&self.gateway.0.keys, to, parts, text.to_owned());
        let lost = Lost::of(request);
        match sent.await {
            Sent::NotRun => None,
            Sent::Answered(response) => Some(passed_on(response, held, Some(lost))),
            Sent::Lost => Some(reply::json(StatusCode::OK, lost.message())),
        }
    }

    /// The replica that a message is for, if it is for a certain one.
    fn replica_of(
        &self,
        visitor: &Visitor,
        headers: &HeaderMap,
        parsed: &ParsedLine,
    ) -> Option<Replica> {
        if let ParsedLine::One(Ok(message)) = parsed {
            match message {
                Message::Request(request) if post::is_modern(headers, request) => {
                    return self.gateway.parked_at(request);
                }
                Message::Request(request) if request.method == "initialize" => return None,
                // The replica that asked stands in the id of the question.
                Message::Response {
                    id: ResponseId::Foreign(id),
                    ..
                } => {
                    if let Some(replica) = self.gateway.0.questions.asked_by(id) {
                        return Some(replica);
                    }
                }
                _ => {}
            }
        }
        let session = standing::session(self, visitor, headers).ok()?;
        if let ParsedLine::One(Ok(Message::Notification(notification))) = parsed
            && self.flights.is_flight(&session.id, notification)
        {
            // Its own replica was down when the request came.
            return None;
        }
        session.replica
    }
}

/// Sends a GET or DELETE to the replica of its session; `None` when it is to be served here. When
/// that replica cannot be reached, it is notified of the end of its session later.
pub(super) async fn session_elsewhere(
    front: &Arc<Front>,
    visitor: &Visitor,
    parts: &Parts,
) -> Option<Response> {
    let forwarding = front.onward(parts)?;
    let session = standing::session(front, visitor, &parts.headers).ok()?;
    // The stream and the end of a session belong where the rest of it is kept.
    let to = forwarding.other(session.replica?, true)?;
    let keys = &front.gateway.0.keys;
    let sent = forwarding.send(keys, to.clone(), parts, String::new());
    match sent.await {
        Sent::Answered(response) => Some(passed_on(response, None, None)),
        // To open a stream, or to end a session, twice does no harm.
        Sent::NotRun | Sent::Lost => {
            if parts.method == Method::DELETE {
                forwarding.send_later(Arc::downgrade(front), to, parts.clone());
            }
            None
        }
    }
}

/// A header of a hop that was not made by a replica, or not for this request.
pub(super) struct HopRefused;

/// A request whose answer another replica may lose.
struct Lost {
    id: Raw,
    /// Its method; `None` for a batch, and for what is no request.
    method: Option<String>,
}

impl Lost {
    fn of(request: Option<&ServerRequest>) -> Self {
        Self {
            id: request.map_or_else(Raw::null, |request| request.id.clone()),
            method: request.map(|request| request.method.clone()),
        }
    }

    /// The answer to the client when it is lost.
    fn message(&self) -> String {
        let error = Error::new(
            ErrorKind::ConnectionLost,
            "the gateway that ran the request was lost",
        )
        .with_delivery(Delivery::Unknown);
        let outcome = match &self.method {
            Some(method) => fault::outcome(method, &error),
            None => Err(fault::rpc(&error)),
        };
        encode_response(&self.id, &outcome).unwrap_or_default()
    }
}

/// The answer of another replica as that of this one. When its stream of events breaks off, its
/// last event says that the answer is lost.
fn passed_on(response: reqwest::Response, held: Option<Held>, lost: Option<Lost>) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = response.status();
    for (name, value) in response.headers() {
        if !OF_CONNECTION.contains(name) {
            answer.headers_mut().append(name, value.clone());
        }
    }
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let lost = lost.filter(|_| is_stream);
    *answer.body_mut() = Body::from_stream(to_the_end(response.bytes_stream(), held, lost));
    answer
}

/// The pieces of a body. What its request holds is held to its end.
fn to_the_end(
    pieces: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    held: Option<Held>,
    lost: Option<Lost>,
) -> impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static {
    stream::unfold(Some((Box::pin(pieces), held, lost)), |reading| async move {
        let (mut pieces, held, lost) = reading?;
        match (pieces.next().await?, lost) {
            (Ok(piece), lost) => Some((Ok(piece), Some((pieces, held, lost)))),
            (Err(_), Some(lost)) => {
                let last = format!("\n\ndata: {}\n\n", lost.message());
                Some((Ok(last.into()), None))
            }
            (Err(error), None) => Some((Err(error), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_down_is_left_alone_for_a_while() {
        let own = Replica::new("http://127.0.0.1:1").unwrap();
        let other = Replica::new("http://127.0.0.1:2").unwrap();
        let forwarding = Forwarding::new(own.clone()).unwrap();
        let there = |replica: &Replica| forwarding.other(replica.clone(), false);
        assert_eq!(there(&own), None);
        assert_eq!(forwarding.other(own, true), None);
        assert_eq!(there(&other), Some(other.clone()));
        forwarding.mark_down(other.clone());
        assert_eq!(there(&other), None);
        assert_eq!(forwarding.other(other.clone(), true), Some(other.clone()));
        tokio::time::advance(DOWN_PAUSE).await;
        assert_eq!(there(&other), Some(other));
        for number in 0..2 * MAX_DOWN {
            forwarding.mark_down(Replica::new(&format!("http://127.0.0.1:9/{number}")).unwrap());
        }
        assert!(forwarding.down().len() <= MAX_DOWN);
    }
}
