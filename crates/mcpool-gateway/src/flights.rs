//! The requests of older clients that are under way, so that a message of its own can cancel one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpool_core::{Notification, Raw, RpcError};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

/// Requests of one session, or of one connection, that are under way at once.
pub(crate) const MAX_IN_FLIGHT: usize = 256;

/// The requests that are under way, by their owners.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Arc<str>, HashMap<String, CancellationToken>>>);

/// A request that is under way, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    owner: Arc<str>,
    id: String,
    cancelled: CancellationToken,
}

impl Flights {
    /// Enters a request.
    ///
    /// # Errors
    /// The refusal of one too many, and of an id that is in use.
    pub(crate) fn enter(self: &Arc<Self>, owner: &Arc<str>, id: &Raw) -> Result<Flight, RpcError> {
        let mut owners = self.owners();
        let flights = owners.entry(Arc::clone(owner)).or_default();
        if flights.len() >= MAX_IN_FLIGHT {
            return Err(RpcError::new(
                RpcError::INTERNAL,
                format!("{MAX_IN_FLIGHT} requests of this session are under way"),
            ));
        }
        let id = id.get().to_owned();
        if flights.contains_key(&id) {
            return Err(RpcError::new(
                RpcError::INVALID_REQUEST,
                "a request with this id is under way",
            ));
        }
        let cancelled = CancellationToken::new();
        flights.insert(id.clone(), cancelled.clone());
        Ok(Flight {
            flights: Arc::clone(self),
            owner: Arc::clone(owner),
            id,
            cancelled,
        })
    }

    /// A client cancels a request of its own; fine when there is none.
    pub(crate) fn cancelled(&self, owner: &str, notification: &Notification) {
        if let Some(flight) = self.flight(owner, notification) {
            flight.cancel();
        }
    }

    /// Whether a notification cancels a request that is under way here.
    pub(crate) fn is_flight(&self, owner: &str, notification: &Notification) -> bool {
        notification.method == "notifications/cancelled"
            && self.flight(owner, notification).is_some()
    }

    fn flight(&self, owner: &str, notification: &Notification) -> Option<CancellationToken> {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "requestId")]
            id: Raw,
        }
        let params: Params = notification.params.as_ref()?.parse().ok()?;
        self.owners().get(owner)?.get(params.id.get()).cloned()
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<Arc<str>, HashMap<String, CancellationToken>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Runs a request; `None` when its client cancelled it.
    pub(crate) async fn run<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        self.cancelled.run_until_cancelled(request).await
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut owners = self.flights.owners();
        if let Some(flights) = owners.get_mut(&self.owner) {
            flights.remove(&self.id);
            if flights.is_empty() {
                owners.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_cancels_what_is_its_own() {
        let flights = Arc::new(Flights::default());
        let (me, other): (Arc<str>, Arc<str>) = ("me".into(), "other".into());
        let id = Raw::from_text("7".to_owned()).unwrap();
        let flight = flights.enter(&me, &id).unwrap();
        assert!(flights.enter(&me, &id).is_err());
        assert!(flights.enter(&other, &id).is_ok());
        let params = Raw::from_text(r#"{"requestId":7}"#.to_owned()).unwrap();
        let cancel = Notification::new("notifications/cancelled", Some(params));
        flights.cancelled("other", &cancel);
        assert_eq!(flight.run(async { 1 }).await, Some(1));
        flights.cancelled("me", &cancel);
        assert_eq!(flight.run(std::future::pending::<()>()).await, None);
        drop(flight);
        assert!(flights.owners().is_empty());
    }

    #[test]
    fn there_is_a_most_for_each() {
        let flights = Arc::new(Flights::default());
        let (me, other): (Arc<str>, Arc<str>) = ("me".into(), "other".into());
        let enter = |owner: &Arc<str>, id: usize| flights.enter(owner, &Raw::of(&id).unwrap());
        let open: Vec<_> = (0..MAX_IN_FLIGHT)
            .map(|id| enter(&me, id).unwrap())
            .collect();
        assert!(enter(&me, MAX_IN_FLIGHT).is_err());
        assert!(enter(&other, MAX_IN_FLIGHT).is_ok());
        drop(open);
        assert!(enter(&me, 0).is_ok());
    }
}
