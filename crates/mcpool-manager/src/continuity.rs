//! What a new connection must be told so that the application notices no difference: the
//! subscriptions and the log level.
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

use std::{collections::BTreeSet, sync::Mutex};

use mcpool_core::{Client, Error, model::LoggingLevel};

use crate::server::lock;

/// The ledger of one server.
#[derive(Default)]
pub(crate) struct Continuity(Mutex<Ledger>);

#[derive(Default, Clone)]
struct Ledger {
    subscriptions: BTreeSet<String>,
    log_level: Option<LoggingLevel>,
}

impl Continuity {
    pub(crate) fn subscribed(&self, uri: &str) {
        lock(&self.0).subscriptions.insert(uri.to_owned());
    }

    pub(crate) fn unsubscribed(&self, uri: &str) {
        lock(&self.0).subscriptions.remove(uri);
    }

    pub(crate) fn has_subscriptions(&self) -> bool {
        !lock(&self.0).subscriptions.is_empty()
    }

    pub(crate) fn log_level(&self, level: LoggingLevel) {
        lock(&self.0).log_level = Some(level);
    }

    /// Tells a new connection everything. What the server refuses is told to the caller but is
    /// no reason to give the connection up.
    pub(crate) async fn restore(&self, client: &dyn Client) -> Vec<Error> {
        let ledger = lock(&self.0).clone();
        let mut refused = Vec::new();
        if let Some(level) = ledger.log_level
            && let Err(error) = client.set_log_level(level).await
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
}
