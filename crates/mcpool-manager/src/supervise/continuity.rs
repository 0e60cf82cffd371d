//! What a new connection must be given so that the application notices no difference: the
//! subscriptions and the log level.

use std::{collections::BTreeSet, sync::Mutex};

use mcpool_core::{Client, Error, Request, RequestOptions, Verbs};

/// The ledger of one server.
#[derive(Default)]
pub(crate) struct Continuity(Mutex<Ledger>);

#[derive(Default, Clone)]
struct Ledger {
    subscriptions: BTreeSet<String>,
    /// The request that set the level, as it was sent.
    log_level: Option<Request>,
}

impl Continuity {
    pub(crate) fn subscribed(&self, uri: &str) {
        self.ledger().subscriptions.insert(uri.to_owned());
    }

    pub(crate) fn unsubscribed(&self, uri: &str) {
        self.ledger().subscriptions.remove(uri);
    }

    pub(crate) fn has_subscriptions(&self) -> bool {
        !self.ledger().subscriptions.is_empty()
    }

    pub(crate) fn log_level(&self, request: &Request) {
        self.ledger().log_level = Some(request.clone());
    }

    /// Gives a new connection everything. What the server refuses is reported to the caller but is
    /// no reason to give the connection up.
    pub(crate) async fn restore(&self, client: &dyn Client) -> Vec<Error> {
        let ledger = self.ledger().clone();
        let mut refused = Vec::new();
        if let Some(level) = &ledger.log_level
            && let Err(error) = client.request(level, &RequestOptions::new()).await
        {
            refused.push(error.with_operation("logging/setLevel"));
        }
        for uri in ledger.subscriptions {
            if let Err(error) = client.subscribe(&uri).await {
                refused.push(error.with_operation("resources/subscribe"));
            }
        }
        refused
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        // A panic inside one of the short critical sections leaves nothing half done.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
