//! The API, version 1: what the pool does now, what happens in it, and what one can do about it.
//! Calls are not here: they go over MCP.
//!
//! | request | what |
//! |---|---|
//! | `GET /api/v1/status` | every server, with how its calls go; the profiles; the workers of a fleet |
//! | `GET /api/v1/servers/{server}/tools` | its tools as MCP lists them, and where to call them |
//! | `GET /api/v1/servers/{server}/prompts`, `…/resources` | likewise |
//! | `GET /api/v1/clients` | who is connected |
//! | `GET /api/v1/events` | what happens from now on, as an event stream |
//! | `POST /api/v1/servers/{server}/{action}` | `reconnect`, `probe`, `enable`, `disable` |
//!
//! Answers of a later version 1 may have further members. An error is `{"error": "…"}` with the
//! status that fits.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{StreamExt as _, stream};
use mcpool_core::{EventKind, Raw, RawObject, Requester as _, ServerName, StderrLine, units};
use mcpool_manager::{EventItem, Refresh, ServerHandle, ServerStatus};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::{Front, Visitor, headers, place::Place};
use crate::{
    catalog::{Cost, Listed},
    fault,
    fleet::Fleet,
    own::Shown,
    pulse::Calls,
    scope::Scope,
};

/// The version of the API.
const VERSION: u32 = 1;

/// Event streams that are open at once.
pub(super) const MAX_EVENT_STREAMS: usize = 64;

/// Whose rights count here: those at the path of the pool.
const POOL: &str = "/mcp";

/// How often a comment keeps an event stream alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

type Answer = Result<Response, Refused>;

/// Why a request is not served.
#[derive(Debug)]
pub(super) enum Refused {
    /// Anybody who sends it may not.
    Barred(Box<Response>),
    /// Too many came; one may come after this.
    TooMany(Duration),
    /// Anything else.
    Because(StatusCode, String),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Barred(response) => *response,
            Self::TooMany(wait) => super::reply::too_many(&Raw::null(), wait),
            Self::Because(status, why) => (status, Json(json!({ "error": why }))).into_response(),
        }
    }
}

fn failed(status: StatusCode, why: impl Into<String>) -> Refused {
    Refused::Because(status, why.into())
}

/// Who asks: with a key of a profile, for that part of the pool.
///
/// # Errors
/// As for the pool's own path; 429.
async fn visitor(front: &Front, place: Place, headers: &HeaderMap) -> Result<Visitor, Refused> {
    let pool = place.at(POOL);
    let visitor = front.visitor(Scope::Pool, &pool, headers).await;
    let visitor =
        visitor.map_err(|barred| Refused::Barred(Box::new(barred.into_response(front, &pool))))?;
    match visitor.allowance.count() {
        Ok(()) => Ok(visitor),
        Err(wait) => Err(Refused::TooMany(wait)),
    }
}

/// A server that the visitor may see.
fn server(front: &Front, visitor: &Visitor, name: &str) -> Result<ServerHandle, Refused> {
    let found = ServerName::new(name)
        .ok()
        .filter(|name| visitor.scope.covers(name));
    found
        .and_then(|name| front.gateway.0.manager.server(name.as_str()).ok())
        .filter(|server| server.status().is_ok())
        .ok_or_else(|| failed(StatusCode::NOT_FOUND, "there is no such server"))
}

/// Whether this visitor may change the pool that others use too: everybody without keys, and with
/// keys those that were named.
fn is_operator(front: &Front, visitor: &Visitor) -> bool {
    match &visitor.principal {
        // Neither keys nor tokens are asked for.
        None => true,
        Some(principal) => front.operators.contains(&**principal),
    }
}

#[derive(Serialize)]
struct Server {
    #[serde(flatten)]
    status: ServerStatus,
    /// Why it is not connected, in short.
    why: Option<String>,
    calls: Calls,
    /// The instances that belong to one client each; with keys, each visitor sees its own.
    of_clients: Vec<Shown>,
}

#[derive(Serialize)]
struct Status<'a> {
    api: u32,
    version: &'static str,
    #[serde(serialize_with = "units::time")]
    since: std::time::SystemTime,
    pid: u32,
    /// Where HTTP is served, for those who may change things.
    listens: Vec<SocketAddr>,
    principal: Option<&'a str>,
    /// Whether this visitor may change things.
    operator: bool,
    /// What this visitor is served: the pool, or a profile.
    serves: Part,
    /// The profiles, for those who may have the whole pool.
    profiles: Vec<Part>,
    servers: Vec<Server>,
    /// The workers that servers run at, where there is a fleet.
    fleet: Option<Fleet>,
}

/// The pool or a profile, and what its tools cost a model.
#[derive(Serialize)]
struct Part {
    /// Of a profile.
    name: Option<String>,
    /// Where it is served, below the path of the gateway.
    at: String,
    #[serde(flatten)]
    cost: Cost,
    /// Whether clients are shown two tools in place of all these.
    tool_search: bool,
}

impl Part {
    async fn of(front: &Front, scope: &Scope, at: String) -> Self {
        let catalog = &front.gateway.0.catalog;
        Self {
            name: match scope {
                Scope::Profile(profile) => Some(profile.name().to_owned()),
                _ => None,
            },
            at,
            cost: catalog.tools(scope, Refresh::Cached, &[]).await.cost(),
            tool_search: front.gateway.searches(scope),
        }
    }
}

pub(super) async fn status(
    State(front): State<Arc<Front>>,
    place: Place,
    headers: HeaderMap,
) -> Answer {
    let visitor = visitor(&front, place, &headers).await?;
    let manager = &front.gateway.0.manager;
    let pulse = &front.gateway.0.pulse;
    pulse.keep(&manager.names());
    let everybody = is_operator(&front, &visitor);
    let mut instances = front.gateway.0.hub.own().shown();
    let mut of_clients = |server: &ServerName| {
        let mut shown = instances.remove(server).unwrap_or_default();
        shown.retain(|one| everybody || one.principal == visitor.principal);
        shown
    };
    let servers = manager
        .status_all()
        .into_iter()
        .filter(|status| visitor.scope.covers(&status.name))
        .map(|status| Server {
            calls: pulse.of(&status.name),
            of_clients: of_clients(&status.name),
            why: status.last_error.as_ref().map(in_short),
            status,
        })
        .collect();
    let serves = Part::of(&front, &visitor.scope, "mcp".to_owned()).await;
    let mut profiles = Vec::new();
    if visitor.scope == Scope::Pool {
        for profile in front.profiles.all() {
            let at = format!("mcp/{}", profile.name());
            profiles.push(Part::of(&front, &Scope::Profile(profile), at).await);
        }
    }
    let fleet = &front.gateway.0.fleet;
    let status = Status {
        api: VERSION,
        version: env!("CARGO_PKG_VERSION"),
        since: front.gateway.0.since,
        pid: std::process::id(),
        listens: match everybody {
            true => front.gateway.0.addresses.all(),
            false => Vec::new(),
        },
        principal: visitor.principal.as_deref(),
        operator: everybody,
        serves,
        profiles,
        servers,
        fleet: fleet.as_ref().map(|fleet| fleet.0().within(&visitor.scope)),
    };
    Ok(Json(status).into_response())
}

pub(super) async fn tools(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    place: Place,
    headers: HeaderMap,
) -> Answer {
    let (at, tools) = listed(&front, Listed::Tools, &name, place, &headers).await?;
    Ok(Json(json!({ "at": at, "tools": tools })).into_response())
}

pub(super) async fn prompts(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    place: Place,
    headers: HeaderMap,
) -> Answer {
    let (at, prompts) = listed(&front, Listed::Prompts, &name, place, &headers).await?;
    Ok(Json(json!({ "at": at, "prompts": prompts })).into_response())
}

pub(super) async fn resources(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    place: Place,
    headers: HeaderMap,
) -> Answer {
    let (at, resources) = listed(&front, Listed::Resources, &name, place, &headers).await?;
    Ok(Json(json!({ "at": at, "resources": resources })).into_response())
}

/// What a server lists for this visitor, and where that is used.
async fn listed(
    front: &Front,
    what: Listed,
    name: &str,
    place: Place,
    headers: &HeaderMap,
) -> Result<(String, Vec<Raw>), Refused> {
    let visitor = visitor(front, place, headers).await?;
    let server = server(front, &visitor, name)?;
    let catalog = &front.gateway.0.catalog;
    // Who sees a part of the pool calls there, by the names of the pool.
    let (scope, at) = match visitor.scope {
        Scope::Pool => {
            let own = Scope::Server(server.server().clone());
            (own, format!("servers/{}/mcp", server.server()))
        }
        part => (part, "mcp".to_owned()),
    };
    let list = catalog.list(what, &scope, &[]).await;
    let mut entries = list
        .map_err(|error| failed(StatusCode::BAD_GATEWAY, fault::words(&error)))?
        .entries;
    if !matches!(scope, Scope::Server(_)) {
        let mut own = Vec::new();
        for entry in entries {
            let member = match what {
                Listed::Resources | Listed::Templates => "uri",
                Listed::Tools | Listed::Prompts => "name",
            };
            let key = RawObject::parse(&entry).ok();
            let key = key.and_then(|entry| entry.get(member)?.parse::<String>().ok());
            let of = match (what, key) {
                (_, None) => None,
                (Listed::Tools, Some(name)) => {
                    catalog.tool(&name, &scope).await.map(|at| at.server)
                }
                (Listed::Prompts, Some(name)) => {
                    catalog.prompt(&name, &scope).await.map(|at| at.server)
                }
                (_, Some(uri)) => catalog.resource(&uri, &scope).await,
            };
            if of.is_some_and(|of| of == *server.server()) {
                own.push(entry);
            }
        }
        entries = own;
    }
    Ok((at, entries))
}

pub(super) async fn clients(
    State(front): State<Arc<Front>>,
    place: Place,
    headers: HeaderMap,
) -> Answer {
    let visitor = visitor(&front, place, &headers).await?;
    let everybody = is_operator(&front, &visitor);
    let mut clients = front.gateway.0.guests.all();
    clients.retain(|guest| everybody || guest.principal == visitor.principal);
    Ok(Json(json!({ "clients": clients })).into_response())
}

pub(super) async fn events(
    State(front): State<Arc<Front>>,
    place: Place,
    headers: HeaderMap,
) -> Answer {
    let visitor = visitor(&front, place, &headers).await?;
    // Without keys all are one principal.
    let share = match visitor.principal.is_some() {
        true => Some(visitor.allowance.begin_events().ok_or_else(|| {
            failed(
                StatusCode::TOO_MANY_REQUESTS,
                "too many event streams of this principal are open",
            )
        })?),
        false => None,
    };
    let permit = Arc::clone(&front.event_streams).try_acquire_owned();
    let permit = permit.map_err(|_| {
        failed(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{MAX_EVENT_STREAMS} event streams are open"),
        )
    })?;
    let events = front.gateway.0.manager.events();
    let scope = visitor.scope;
    let shown = events.filter_map(move |item| {
        let event = match &item {
            EventItem::Event(event) => {
                let may_see = match &event.server {
                    Some(server) => scope.covers(server),
                    None => scope == Scope::Pool,
                };
                let text = may_see.then(|| happened(event)).flatten();
                text.map(|text| Event::default().data(text))
            }
            // The reader was too slow, and is notified.
            EventItem::Missed(missed) => {
                let text = json!({ "missed": missed }).to_string();
                Some(Event::default().event("missed").data(text))
            }
            _ => None,
        };
        std::future::ready(event.map(Ok::<_, Infallible>))
    });
    // With the first event the reader knows that it misses nothing from now on.
    let begun = stream::iter([Ok(Event::default().event("begun").data("{}"))]);
    let gateway = front.gateway.clone();
    let drained = async move { gateway.0.drain.begun().await };
    let all = begun.chain(shown).take_until(Box::pin(drained));
    let all = all.inspect(move |_| {
        // Held for as long as the stream is.
        let _ = (&permit, &share);
    });
    Ok(Sse::new(all)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

/// An event as it is sent: with `why`, in short, where it has an error.
fn happened(event: &mcpool_core::Event) -> Option<String> {
    let error = match &event.kind {
        EventKind::ConnectFailed { error, .. }
        | EventKind::HeartbeatMissed { error, .. }
        | EventKind::CatalogStale { error } => Some(in_short(error)),
        EventKind::Disconnected { error, .. } => error.as_ref().map(in_short),
        // Where in the file it is stands among the causes.
        EventKind::ConfigRejected { error } => Some(error.with_causes()),
        _ => None,
    };
    let mut event = serde_json::to_value(event).ok()?;
    if let (Some(error), Some(members)) = (error, event.as_object_mut()) {
        members.insert("why".to_owned(), error.into());
    }
    Some(event.to_string())
}

/// An error without what was tried, and with the line of stderr that says most.
fn in_short(error: &mcpool_core::Error) -> String {
    match StderrLine::telling(error.stderr_tail()) {
        Some(line) => format!("{}: {}", error.message(), line.text.trim()),
        None => error.message().to_owned(),
    }
}

/// What came of an action.
#[derive(Serialize)]
struct Done {
    ok: bool,
    /// Why it was not done, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(serialize_with = "said", skip_serializing_if = "Option::is_none")]
    error: Option<mcpool_core::Error>,
}

fn said<S: Serializer>(error: &Option<mcpool_core::Error>, s: S) -> Result<S::Ok, S::Error> {
    error.serialize(s)
}

/// What may be done to a server.
#[derive(Debug, Clone, Copy)]
enum Action {
    Reconnect,
    Probe,
    Enable,
    Disable,
}

impl Action {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "reconnect" => Self::Reconnect,
            "probe" => Self::Probe,
            "enable" => Self::Enable,
            "disable" => Self::Disable,
            _ => return None,
        })
    }

    async fn done_to(self, server: &ServerHandle) -> mcpool_core::Result<()> {
        match self {
            Self::Reconnect => {
                server.disconnect().await?;
                server.connect().await
            }
            Self::Probe => server.health_check().await.map(drop),
            Self::Enable => server.enable().await,
            Self::Disable => server.disable().await,
        }
    }
}

pub(super) async fn act(
    State(front): State<Arc<Front>>,
    Path((name, action)): Path<(String, String)>,
    place: Place,
    headers: HeaderMap,
) -> Answer {
    meant(&headers)?;
    let visitor = visitor(&front, place, &headers).await?;
    let server = server(&front, &visitor, &name)?;
    if !is_operator(&front, &visitor) {
        return Err(failed(
            StatusCode::FORBIDDEN,
            "this key or token is not an operator's: start the gateway with `--operator NAME` \
             (`HttpOptions::with_operator`)",
        ));
    }
    let action = Action::named(&action)
        .ok_or_else(|| failed(StatusCode::NOT_FOUND, "there is no such action"))?;
    tracing::info!(server = %name, ?action, principal = visitor.principal.as_deref(), "an action of a client");
    // The client may go in the middle: what was begun is done all the same, or a server that is to
    // be connected again would stay disconnected.
    let done = tokio::spawn(async move { action.done_to(&server).await }).await;
    let done = done.unwrap_or_else(|_| {
        Err(mcpool_core::Error::new(
            mcpool_core::ErrorKind::Internal,
            "the action ended before it was done",
        ))
    });
    let error = done.err();
    let ok = error.is_none();
    let why = error.as_ref().map(in_short);
    Ok(Json(Done { ok, why, error }).into_response())
}

/// Whether an action is meant by who sends it, and is no trick of another page: it must say that
/// it is JSON, which a form cannot and a script of another origin may not without leave; and an
/// `Origin` must be this very one, port included.
fn meant(headers: &HeaderMap) -> Result<(), Refused> {
    if !headers::is_json(headers) {
        return Err(failed(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send actions with `Content-Type: application/json`",
        ));
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_ours = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let of = origin.split_once("://").map(|(_, host)| host);
        of.is_some() && of.map(str::to_ascii_lowercase) == host.map(str::to_ascii_lowercase)
    });
    if is_ours {
        Ok(())
    } else {
        Err(failed(
            StatusCode::FORBIDDEN,
            "an action must come from the gateway's own page",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_of_another_page_is_refused() {
        let status = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let refused = meant(&map).err().map(IntoResponse::into_response);
            refused.map(|refused| refused.status().as_u16())
        };
        let (host, json) = (
            ("host", "localhost:1"),
            ("content-type", "application/json; charset=utf-8"),
        );
        assert_eq!(status(&[host, json]), None);
        assert_eq!(
            status(&[host, json, ("origin", "http://LOCALHOST:1")]),
            None
        );
        for origin in [
            "http://localhost:2",
            "http://localhost",
            "null",
            "http://evil.example",
            "localhost:1",
        ] {
            assert_eq!(
                status(&[host, json, ("origin", origin)]),
                Some(403),
                "{origin}"
            );
        }
        assert_eq!(status(&[json, ("origin", "null")]), Some(403));
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "text/application/json",
        ] {
            assert_eq!(status(&[host, ("content-type", kind)]), Some(415), "{kind}");
        }
        assert_eq!(status(&[host]), Some(415));
    }
}
