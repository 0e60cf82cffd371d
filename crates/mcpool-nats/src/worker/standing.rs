//! What sessions have set up at one connection of a server: subscriptions and the log level of
//! all of them become one.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpool_core::{Client, Error, ErrorKind, LogLevel, Raw, Request, RequestOptions, Result};
use serde::Deserialize;

/// Resources that one session may be subscribed to.
const MAX_SUBSCRIPTIONS: usize = 1_024;

/// One connection of a server and what its sessions have set up there.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) client: Arc<dyn Client>,
    sessions: Mutex<HashMap<String, Wishes>>,
}

/// What one session has set up.
#[derive(Debug, Default)]
struct Wishes {
    uris: HashSet<String>,
    level: Option<LogLevel>,
}

#[derive(Deserialize)]
struct Target {
    uri: String,
}

impl Standing {
    pub(super) fn new(client: Arc<dyn Client>) -> Arc<Self> {
        Arc::new(Self {
            client,
            sessions: Mutex::default(),
        })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Wishes>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this session wants to hear of changes of this resource.
    pub(super) fn is_subscribed(&self, session: &str, uri: &str) -> bool {
        let sessions = self.sessions();
        sessions
            .get(session)
            .is_some_and(|wishes| wishes.uris.contains(uri))
    }

    /// `resources/subscribe`: before the server is asked, so that no change is missed.
    pub(super) async fn subscribe(
        &self,
        session: &str,
        request: &Request,
        options: &RequestOptions,
    ) -> Result<Raw> {
        let uri = uri(request)?;
        let is_new = {
            let mut sessions = self.sessions();
            let wishes = sessions.entry(session.to_owned()).or_default();
            if wishes.uris.len() >= MAX_SUBSCRIPTIONS {
                let message =
                    format!("there are {MAX_SUBSCRIPTIONS} subscriptions of this session");
                return Err(Error::new(ErrorKind::Overloaded, message));
            }
            wishes.uris.insert(uri.clone())
        };
        // A server takes it twice: who else is subscribed notices nothing.
        let answer = self.client.request(request, options).await;
        if answer.is_err() && is_new {
            self.forget(session, &uri);
        }
        answer
    }

    /// `resources/unsubscribe`: the last that has it notifies the server.
    pub(super) async fn unsubscribe(
        &self,
        session: &str,
        request: &Request,
        options: &RequestOptions,
    ) -> Result<Raw> {
        let uri = uri(request)?;
        if self.forget(session, &uri) {
            self.client.request(request, options).await
        } else {
            Ok(Raw::empty_object())
        }
    }

    /// Whether the session was the last that had it.
    fn forget(&self, session: &str, uri: &str) -> bool {
        let mut sessions = self.sessions();
        let had = sessions
            .get_mut(session)
            .is_some_and(|wishes| wishes.uris.remove(uri));
        had && !sessions.values().any(|wishes| wishes.uris.contains(uri))
    }

    /// `logging/setLevel`: the server gets the least severe that any session wants.
    pub(super) async fn set_level(
        &self,
        session: &str,
        request: &Request,
        options: &RequestOptions,
    ) -> Result<Raw> {
        #[derive(Deserialize)]
        struct Wanted {
            level: LogLevel,
        }
        let wanted = request.params.as_ref().map(Raw::parse::<Wanted>);
        let Some(Ok(Wanted { level })) = wanted else {
            // What it thinks of another level is the server's to say.
            return self.client.request(request, options).await;
        };
        let lowest = {
            let mut sessions = self.sessions();
            sessions.entry(session.to_owned()).or_default().level = Some(level);
            sessions.values().filter_map(|wishes| wishes.level).min()
        };
        let lowest = lowest.unwrap_or(level);
        let request = Request::new("logging/setLevel")
            .with_params(&serde_json::json!({ "level": lowest }))?;
        self.client.request(&request, options).await
    }

    /// A session has ended: what only it had is given back.
    pub(super) async fn leave(&self, session: &str) {
        let mut left = {
            let mut sessions = self.sessions();
            let Some(wishes) = sessions.remove(session) else {
                return;
            };
            let mut left = wishes.uris;
            left.retain(|uri| !sessions.values().any(|wishes| wishes.uris.contains(uri)));
            left
        };
        for uri in left.drain() {
            if self.client.is_closed() {
                return;
            }
            let request = Request::new("resources/unsubscribe")
                .with_params(&serde_json::json!({ "uri": uri }));
            let Ok(request) = request else { continue };
            if let Err(error) = self.client.request(&request, &RequestOptions::new()).await {
                tracing::debug!(server = %self.client.server(), %error, "a subscription was not ended");
            }
        }
    }
}

fn uri(request: &Request) -> Result<String> {
    let target = request.params.as_ref().map(Raw::parse::<Target>);
    match target {
        Some(Ok(target)) => Ok(target.uri),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            "the parameters hold no `uri`",
        )),
    }
}
