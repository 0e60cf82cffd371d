//! The client that a request came from, as far as the request or its session says.

use std::{net::IpAddr, sync::Arc};

use mcpool_core::{LogLevel, ProtocolVersion, Raw, RawObject};

use crate::{
    hub::Listener,
    limits::Turn,
    own::Owner,
    scope::Scope,
    session::{self, Session},
};

/// The client of one request.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) version: ProtocolVersion,
    /// What it can be asked.
    pub(crate) capabilities: Arc<RawObject>,
    /// Who it is, where that is known.
    pub(crate) principal: Option<Arc<str>>,
    /// Its session, or its connection over a stream. Over HTTP from MCP 2026-07-28 on there is none.
    pub(crate) session: Option<Arc<str>>,
    /// The address that it comes from, where that is known.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) scope: Scope,
    /// The log messages that it wants with this request, from MCP 2026-07-28 on.
    pub(crate) log_level: Option<LogLevel>,
    /// What is kept of its session, up to MCP 2025-11-25.
    pub(crate) listener: Option<Arc<Listener>>,
    /// Its place among the requests of its principal, where those are counted.
    pub(crate) turn: Option<Arc<Turn>>,
}

impl Client {
    /// The client of a session, which is known by its key; who it is and where it comes from are
    /// not known.
    pub(crate) fn of_session(
        session: &Session,
        key: Arc<str>,
        scope: Scope,
        listener: Option<Arc<Listener>>,
    ) -> Self {
        Self {
            version: session.version.clone(),
            capabilities: Arc::clone(&session.capabilities),
            principal: None,
            session: Some(key),
            peer: None,
            scope,
            log_level: None,
            listener,
            turn: None,
        }
    }

    /// Whether it speaks the era without `initialize`.
    pub(crate) fn is_modern(&self) -> bool {
        !self.version.has_initialize()
    }

    /// Whether it wants a log message of its request. Up to MCP 2025-11-25 a client that has not
    /// set a level gets what the server sends; from 2026-07-28 on one that asks for none gets none.
    pub(crate) fn wants_log(&self, level: LogLevel) -> bool {
        if self.is_modern() {
            return self.log_level.is_some_and(|least| level >= least);
        }
        let least = self.listener.as_ref().and_then(|listener| listener.level());
        least.is_none_or(|least| level >= least)
    }

    /// It as one that may have instances of its own: by its session or connection; without one by
    /// its principal and what it can be asked, since an instance is given that once.
    pub(crate) fn owner(&self) -> Owner {
        let mut capabilities = session::kept(&self.capabilities);
        // Without a session nothing is said apart from requests: nobody would hear of a change.
        if self.session.is_none() && capabilities.get("roots").is_some() {
            capabilities.insert("roots", Raw::empty_object());
        }
        let key = match &self.session {
            Some(session) => Arc::clone(session),
            None => {
                let principal = self.principal.as_deref();
                let declared = capabilities.to_raw();
                let declared = declared.as_ref().map_or("", |declared| declared.get());
                format!("principal {principal:?} {declared}").into()
            }
        };
        Owner {
            key,
            principal: self.principal.clone(),
            capabilities,
        }
    }
}
