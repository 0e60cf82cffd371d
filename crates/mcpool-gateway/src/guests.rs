//! Which clients there are, for people who look. Nothing is decided by it: what a client says of
//! itself is its own word.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use mcpool_core::{ProtocolVersion, Raw, RawObject, units};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::scope::Scope;

/// Clients that are remembered. The one that was not heard of for the longest time makes way.
const MAX_GUESTS: usize = 256;

/// How long a client is shown after its last request. Those of MCP 2026-07-28 never say that they
/// leave.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// Characters of what a client says of itself.
const MAX_WORDS: usize = 100;

/// The member of a request's `_meta` that names the client (MCP 2026-07-28).
const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";

/// The clients that were heard of lately.
#[derive(Default)]
pub(crate) struct Guests(Mutex<HashMap<String, Guest>>);

/// A client.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Guest {
    /// What it calls itself, and its version; `None` when it has not said so to this replica.
    name: Option<String>,
    version: Option<String>,
    protocol: String,
    /// `http`, or `stream`.
    carrier: &'static str,
    pub(crate) principal: Option<Arc<str>>,
    /// What it is served.
    scope: String,
    #[serde(serialize_with = "units::time")]
    since: SystemTime,
    #[serde(serialize_with = "units::time")]
    last_seen: SystemTime,
    requests: u64,
    #[serde(skip)]
    heard: Instant,
}

/// A request, as far as it shows who sends it.
pub(crate) struct Visit<'a> {
    /// The session, for clients up to MCP 2025-11-25.
    pub(crate) session: Option<&'a str>,
    pub(crate) protocol: &'a ProtocolVersion,
    pub(crate) carrier: &'static str,
    pub(crate) principal: Option<&'a str>,
    pub(crate) scope: &'a Scope,
}

/// What a client says of itself.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
}

impl Guests {
    /// A session begins with these parameters of `initialize`.
    pub(crate) fn began(&self, visit: &Visit<'_>, params: Option<&Raw>) {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "clientInfo")]
            client: Said,
        }
        let params = params.and_then(|params| params.parse::<Params>().ok());
        self.enter(visit, params.map(|params| params.client));
    }

    /// A request came; `meta` is its `_meta`.
    pub(crate) fn seen(&self, visit: &Visit<'_>, meta: &RawObject) {
        let said = meta.get(META_CLIENT).and_then(|said| said.parse().ok());
        self.enter(visit, said);
    }

    fn enter(&self, visit: &Visit<'_>, said: Option<Said>) {
        let said = said.map(|said| (shown(&said.name), shown(&said.version)));
        let key = match visit.session {
            Some(session) => session.to_owned(),
            None => format!(
                "{:?} {} {} {said:?}",
                visit.principal,
                visit.carrier,
                visit.scope.key()
            ),
        };
        let (now, heard) = (SystemTime::now(), Instant::now());
        let mut guests = self.guests();
        if guests.len() >= MAX_GUESTS && !guests.contains_key(&key) {
            let oldest = guests.iter().min_by_key(|(_, guest)| guest.heard);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.map(|key| guests.remove(&key));
        }
        let guest = guests.entry(key).or_insert_with(|| Guest {
            name: None,
            version: None,
            protocol: visit.protocol.to_string(),
            carrier: visit.carrier,
            principal: visit.principal.map(Arc::from),
            scope: visit.scope.key(),
            since: now,
            last_seen: now,
            requests: 0,
            heard,
        });
        if let Some((name, version)) = said {
            guest.name = name;
            guest.version = version;
        }
        guest.requests = guest.requests.saturating_add(1);
        (guest.last_seen, guest.heard) = (now, heard);
    }

    /// A client has ended its session.
    pub(crate) fn left(&self, session: &str) {
        self.guests().remove(session);
    }

    /// Those that were heard of lately, the latest first.
    pub(crate) fn all(&self) -> Vec<Guest> {
        let mut guests = self.guests();
        guests.retain(|_, guest| guest.heard.elapsed() < IDLE);
        let mut all: Vec<Guest> = guests.values().cloned().collect();
        all.sort_by_key(|guest| std::cmp::Reverse(guest.heard));
        all
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<String, Guest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(text: &str) -> Option<String> {
    let text: String = text.chars().take(MAX_WORDS).collect();
    (!text.is_empty()).then(|| mcpool_core::Untrusted::line(&text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit<'a>(session: Option<&'a str>, protocol: &'a ProtocolVersion) -> Visit<'a> {
        Visit {
            session,
            protocol,
            carrier: "http",
            principal: None,
            scope: &Scope::Pool,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_shown_while_they_are_there() {
        let guests = Guests::default();
        let (old, new) = (ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28);
        let params = r#"{"clientInfo":{"name":"ada\u001b[2J","version":"1"}}"#;
        let params = Raw::from_text(params.to_owned()).unwrap();
        guests.began(&visit(Some("one"), &old), Some(&params));
        guests.seen(&visit(Some("one"), &old), &RawObject::new());
        let meta = r#"{"io.modelcontextprotocol/clientInfo":{"name":"bob"}}"#;
        let meta = RawObject::parse(&Raw::from_text(meta.to_owned()).unwrap()).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        guests.seen(&visit(None, &new), &meta);
        guests.seen(&visit(None, &new), &meta);
        let all = guests.all();
        let seen: Vec<_> = all
            .iter()
            .map(|guest| (guest.name.as_deref().unwrap(), guest.requests))
            .collect();
        assert_eq!(seen[0], ("bob", 2));
        assert!(seen[1].0.starts_with("ada") && !seen[1].0.contains('\u{1b}'));
        assert_eq!(seen[1].1, 2);
        guests.left("one");
        assert_eq!(guests.all().len(), 1);
        tokio::time::advance(IDLE).await;
        assert!(guests.all().is_empty());
    }

    #[test]
    fn there_is_a_most() {
        let guests = Guests::default();
        let version = ProtocolVersion::LATEST;
        for number in 0..=MAX_GUESTS {
            guests.began(&visit(Some(&number.to_string()), &version), None);
        }
        assert_eq!(guests.all().len(), MAX_GUESTS);
        assert!(!guests.guests().contains_key("0"));
    }
}
