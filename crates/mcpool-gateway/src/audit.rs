//! What clients did, for those who run the gateway: an entry for each request that a server
//! answered, or could not.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mcpool_core::{Raw, Result, ServerName, TraceContext, Untrusted, units};
use serde::Serialize;

use crate::span::Span;

/// One request of a client. It serialises as one JSON object: `at` in RFC 3339, the time it took
/// as `ms`.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// When it ended.
    #[serde(serialize_with = "units::time")]
    pub at: SystemTime,
    /// Whose key it was; `None` where keys are not asked for.
    pub principal: Option<Arc<str>>,
    /// The address that the request came from; `None` over streams.
    pub peer: Option<IpAddr>,
    /// The server.
    pub server: ServerName,
    /// The method.
    pub method: String,
    /// The tool or prompt, by the server's own name, or the URI. Text of the client's.
    pub name: String,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// How long it took.
    #[serde(rename = "ms", serialize_with = "units::ms")]
    pub elapsed: Duration,
    /// Bytes of its parameters.
    pub bytes_in: usize,
    /// Bytes of its result.
    pub bytes_out: usize,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditOutcome {
    /// A result.
    Good,
    /// The tool says that it failed: HTTP and JSON-RPC hide this one.
    ToolError,
    /// The server answered with a JSON-RPC error.
    RpcError,
    /// It was not sent, or was refused before it ran.
    NotRun,
    /// The connection or the time ended before the answer: it may have run.
    Unknown,
    /// Its client cancelled it.
    Cancelled,
    /// The server asks its client; a further entry follows with the retry.
    Asks,
}

/// Takes the entries. Called on the task of the request: it must not block.
pub type AuditSink = Arc<dyn Fn(AuditEntry) + Send + Sync>;

impl AuditOutcome {
    /// What a result or an error means.
    pub(crate) fn of(outcome: &Result<Raw>) -> Self {
        use mcpool_core::Delivery;
        match outcome {
            Ok(result) => Self::of_result(result),
            Err(error) if error.rpc().is_some() => Self::RpcError,
            Err(error) => match error.delivery() {
                Delivery::NotSent | Delivery::Rejected => Self::NotRun,
                _ => Self::Unknown,
            },
        }
    }

    fn of_result(result: &Raw) -> Self {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Members {
            #[serde(rename = "isError")]
            is_error: bool,
            #[serde(rename = "resultType")]
            result_type: String,
        }
        let text = result.get().as_bytes();
        let holds = |word: &[u8]| memchr::memmem::find(text, word).is_some();
        // Nearly every result has neither, and may be large.
        if !holds(b"isError") && !holds(b"input_required") {
            return Self::Good;
        }
        match result.parse::<Members>() {
            Ok(members) if members.is_error => Self::ToolError,
            Ok(members) if members.result_type == "input_required" => Self::Asks,
            _ => Self::Good,
        }
    }
}

/// Characters of the name of what is called, in an entry. A client may send any.
const MAX_NAME: usize = 500;

/// An entry in the making. Dropped before its end, the request was cancelled.
pub(crate) struct Record {
    sink: Option<AuditSink>,
    entry: AuditEntry,
    span: Span,
    started: tokio::time::Instant,
}

impl Record {
    pub(crate) fn begin(
        sink: Option<&AuditSink>,
        (principal, peer): (Option<&Arc<str>>, Option<IpAddr>),
        server: &ServerName,
        method: &str,
        name: &str,
        params: Option<&Raw>,
    ) -> Self {
        let entry = AuditEntry {
            at: SystemTime::now(),
            principal: principal.map(Arc::clone),
            peer,
            server: server.clone(),
            method: method.to_owned(),
            name: Untrusted::line(name).clip(MAX_NAME).to_string(),
            outcome: AuditOutcome::Cancelled,
            elapsed: Duration::ZERO,
            bytes_in: params.map_or(0, Raw::len),
            bytes_out: 0,
        };
        Self {
            sink: sink.map(Arc::clone),
            span: Span::begin(server, method, name, params),
            entry,
            started: tokio::time::Instant::now(),
        }
    }

    /// The trace, as the server gets it; `None` where it gets that of the client unchanged.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        self.span.context()
    }

    /// The request has ended so.
    pub(crate) fn end(mut self, outcome: &Result<Raw>) {
        self.entry.outcome = AuditOutcome::of(outcome);
        self.entry.bytes_out = outcome.as_ref().map_or(0, Raw::len);
    }

    /// The server asks its client.
    pub(crate) fn asks(mut self) {
        self.entry.outcome = AuditOutcome::Asks;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let outcome = self.entry.outcome;
        let is_good = matches!(outcome, AuditOutcome::Good | AuditOutcome::Asks);
        self.span.end(&outcome, is_good);
        if let Some(sink) = &self.sink {
            self.entry.at = SystemTime::now();
            self.entry.elapsed = self.started.elapsed();
            sink(self.entry.clone());
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use mcpool_core::{Error, ErrorKind, RpcError};

    use super::*;

    #[test]
    fn the_outcomes_are_told_apart() {
        let raw = |text: &str| Ok(Raw::from_text(text.to_owned()).unwrap());
        let of = |outcome: Result<Raw>| AuditOutcome::of(&outcome);
        assert_eq!(of(raw(r#"{"content":[]}"#)), AuditOutcome::Good);
        assert_eq!(
            of(raw(r#"{"content":["isError"],"isError":false}"#)),
            AuditOutcome::Good
        );
        assert_eq!(of(raw(r#"{"isError":true}"#)), AuditOutcome::ToolError);
        assert_eq!(
            of(raw(r#"{"resultType":"input_required"}"#)),
            AuditOutcome::Asks
        );
        let rpc = Error::from_rpc(RpcError::new(-32602, "no"));
        assert_eq!(of(Err(rpc)), AuditOutcome::RpcError);
        let gone = Error::new(ErrorKind::NotConnected, "gone");
        assert_eq!(of(Err(gone)), AuditOutcome::NotRun);
        let late = Error::new(ErrorKind::Timeout, "late");
        assert_eq!(of(Err(late)), AuditOutcome::Unknown);
    }
}
