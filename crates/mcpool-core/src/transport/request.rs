//! A request on its way, and who hears of its progress.

use std::{fmt, time::Duration};

use serde::Deserialize;

use crate::{Notification, ProtocolVersion, Raw, RawObject, RequestId};

/// A request as a transport gets it. It has no id: that is the transport's to assign.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct WireRequest<'a> {
    /// What is asked.
    pub method: &'a str,
    /// The parameters, an object.
    pub params: Option<&'a Raw>,
    /// Members for the parameters' `_meta`; they win over members that are there.
    /// [`encode`](crate::encode) puts them in.
    pub meta: Option<&'a RawObject>,
    /// The negotiated version, for `MCP-Protocol-Version`; `None` for `initialize`, and for
    /// `server/discover` the version that it asks in.
    pub version: Option<&'a ProtocolVersion>,
    /// What the request is for, for `Mcp-Name`: a tool's or prompt's name, a resource's URI. Plain
    /// text: what a header cannot hold is the transport's to encode.
    pub name: Option<&'a str>,
    /// Headers that mirror parameters, over Streamable HTTP from MCP 2026-07-28: the whole name
    /// (`Mcp-Param-Region`) and the value as plain text, as for `name`.
    pub headers: &'a [(String, String)],
    /// How it is treated.
    pub class: RequestClass,
    /// How long its caller waits for the answer at most, where that is known: for a transport that
    /// can pass it on. The transport itself has no timeouts of requests.
    pub timeout: Option<Duration>,
}

impl<'a> WireRequest<'a> {
    /// A plain request.
    #[must_use]
    pub fn new(method: &'a str, params: Option<&'a Raw>) -> Self {
        Self {
            method,
            params,
            meta: None,
            version: None,
            name: None,
            headers: &[],
            class: RequestClass::Call,
            timeout: None,
        }
    }

    /// Sets members for `_meta`.
    #[must_use]
    pub fn with_meta(mut self, meta: Option<&'a RawObject>) -> Self {
        self.meta = meta;
        self
    }

    /// Sets the negotiated version.
    #[must_use]
    pub fn with_version(mut self, version: Option<&'a ProtocolVersion>) -> Self {
        self.version = version;
        self
    }

    /// Sets what the request is for.
    #[must_use]
    pub fn with_name(mut self, name: Option<&'a str>) -> Self {
        self.name = name;
        self
    }

    /// Sets the headers that mirror parameters.
    #[must_use]
    pub fn with_headers(mut self, headers: &'a [(String, String)]) -> Self {
        self.headers = headers;
        self
    }

    /// Sets how it is treated.
    #[must_use]
    pub fn with_class(mut self, class: RequestClass) -> Self {
        self.class = class;
        self
    }

    /// Sets how long its caller waits at most.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }
}

/// How a request is treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestClass {
    /// As any.
    #[default]
    Call,
    /// Part of beginning a session (`initialize`, a probe by `server/discover`): never cancelled
    /// in words (MCP, "Cancellation": `initialize` must not be), and over HTTP not sent again when
    /// a session was lost.
    Handshake,
    /// A listen stream: stays open, is not counted among what is in flight, and an answer without
    /// an id is never taken for its own.
    Listen,
}

/// Hears of a request while it is under way.
///
/// Called by the transport's reader: it must not block. A panic in it is caught and logged.
pub trait RequestSink: Send + Sync {
    /// The request has its id. Called once, before anything is written.
    fn assigned(&self, _id: RequestId) {}

    /// A byte of it may have been written. Until then it counts as not sent. Called at most once
    /// for each time that it is sent.
    fn sent(&self) {}

    /// The other side has refused what was sent, and the carrier waits for the end of the
    /// connection to say so. Until it is sent again it counts as not sent.
    fn returned(&self) {}

    /// Whether the server is asked to report progress.
    fn wants_progress(&self) -> bool {
        false
    }

    /// The server reported progress.
    fn progress(&self, _progress: Progress) {}

    /// A notification that belongs to this request: of a listen stream its events, over
    /// Streamable HTTP what came on its stream. `true` keeps it from the [`Inbox`](crate::Inbox).
    fn notification(&self, _notification: &Notification) -> bool {
        false
    }
}

impl fmt::Debug for dyn RequestSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestSink")
    }
}

/// How far a request has come.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// How much is done.
    pub progress: f64,
    /// Of how much, where the server knows.
    pub total: Option<f64>,
    /// What it does now. Text of the server's.
    pub message: Option<String>,
}

impl Progress {
    /// So much, of so much.
    #[must_use]
    pub fn new(progress: f64, total: Option<f64>, message: Option<String>) -> Self {
        Self {
            progress,
            total,
            message,
        }
    }

    /// Reads the parameters of `notifications/progress`: which request it is of, and how far it
    /// has come. Members of another type count as missing. `None` when no request is named.
    #[must_use]
    pub fn read(params: &Raw) -> Option<(RequestId, Self)> {
        #[derive(Deserialize)]
        struct Params<'a> {
            #[serde(borrow, rename = "progressToken")]
            token: &'a serde_json::value::RawValue,
            #[serde(default)]
            progress: serde_json::Value,
            #[serde(default)]
            total: serde_json::Value,
            #[serde(default)]
            message: serde_json::Value,
        }
        let params: Params<'_> = serde_json::from_str(params.get()).ok()?;
        let crate::ResponseId::Ours(id) = crate::ResponseId::read(params.token) else {
            return None;
        };
        let progress = Self {
            progress: params.progress.as_f64().unwrap_or_default(),
            total: params.total.as_f64(),
            message: params.message.as_str().map(str::to_owned),
        };
        Some((id, progress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_as_servers_send_it() {
        let read = |text: &str| Progress::read(&Raw::from_text(text.to_owned()).unwrap());
        assert_eq!(
            read(r#"{"progressToken":"3","progress":1,"total":4,"message":"m"}"#),
            Some((
                RequestId::new(3),
                Progress::new(1.0, Some(4.0), Some("m".into()))
            ))
        );
        assert_eq!(
            read(r#"{"progressToken":3,"progress":"x","message":7}"#),
            Some((RequestId::new(3), Progress::new(0.0, None, None)))
        );
        assert_eq!(read(r#"{"progress":1}"#), None);
        assert_eq!(read(r#"{"progressToken":"job"}"#), None);
    }
}
