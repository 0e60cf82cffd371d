//! The client that a request came from, as far as the request or its session tells.

use std::sync::Arc;

use mcpool_core::{ProtocolVersion, RawObject};

use crate::{hub::Listener, level::Level, limits::Turn, scope::Scope};

/// The client of one request.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) version: ProtocolVersion,
    /// What it can be asked.
    pub(crate) capabilities: RawObject,
    /// Who it is, where that is known.
    pub(crate) principal: Option<Arc<str>>,
    pub(crate) scope: Scope,
    /// The log messages that it wants with this request, from MCP 2026-07-28 on.
    pub(crate) log_level: Option<Level>,
    /// What is kept of its session, up to MCP 2025-11-25.
    pub(crate) listener: Option<Arc<Listener>>,
    /// Its place among the requests of its principal, where those are counted.
    pub(crate) _turn: Option<Arc<Turn>>,
}

impl Client {
    /// Whether it speaks the era without `initialize`.
    pub(crate) fn is_modern(&self) -> bool {
        !self.version.has_initialize()
    }

    /// Whether it wants a log message of its request. Up to MCP 2025-11-25 a client that has not
    /// set a level gets what the server sends; from 2026-07-28 on one that asks for none gets none.
    pub(crate) fn wants_log(&self, level: Level) -> bool {
        if self.is_modern() {
            return self.log_level.is_some_and(|least| level >= least);
        }
        let least = self.listener.as_ref().and_then(|listener| listener.level());
        least.is_none_or(|least| level >= least)
    }
}
