use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{Delivery, Masker, Raw, RpcError, Sensitivity, ServerName, StderrLine, Untrusted};

/// The result of every fallible operation of mcpool.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in one word that a program can match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The spec cannot be used: a bad name, URL, header or value, or a transport that was not
    /// compiled in.
    InvalidSpec,
    /// A `${…}` in the spec could not be resolved.
    Unresolved,
    /// The command of a stdio server does not exist, or is not executable.
    CommandNotFound,
    /// The process of a stdio server could not be started.
    Spawn,
    /// The process of a stdio server exited.
    ProcessExited,
    /// No connection could be made: name resolution, TCP, TLS.
    Connect,
    /// A live connection ended.
    ConnectionLost,
    /// An HTTP status that is an error and has no kind of its own.
    HttpStatus,
    /// HTTP 429, or 503 with `Retry-After`.
    RateLimited,
    /// HTTP 401, or no usable token: somebody has to log in.
    AuthRequired,
    /// HTTP 403: the credentials are not enough.
    Forbidden,
    /// The time-out of the operation passed.
    Timeout,
    /// A message was over the configured size.
    TooLarge,
    /// The server broke the protocol.
    Protocol,
    /// Client and server have no protocol version in common.
    VersionMismatch,
    /// The server answered with a JSON-RPC error: see [`Error::rpc`].
    Rpc,
    /// The request may have run and was not replayed, because running it twice may do harm.
    OutcomeUnknown,
    /// No server of that name.
    UnknownServer,
    /// No tool of that name.
    UnknownTool,
    /// The server is disabled.
    Disabled,
    /// The server is not connected now.
    NotConnected,
    /// The fast attempts are spent; only the slow re-probe goes on.
    GivenUp,
    /// Too many calls are in flight and the queue's deadline passed.
    Overloaded,
    /// This process is out of a resource of the operating system: descriptors, processes, memory.
    /// Never evidence against a server.
    Exhausted,
    /// The caller, or a disconnect, cancelled the operation.
    Cancelled,
    /// The manager or the client is closed for good.
    Closed,
    /// The arguments of a verb are wrong.
    InvalidArgument,
    /// A bug in mcpool.
    Internal,
}

impl ErrorKind {
    /// The kind as it stands in JSON output, in `snake_case`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "invalid_spec",
            Self::Unresolved => "unresolved",
            Self::CommandNotFound => "command_not_found",
            Self::Spawn => "spawn",
            Self::ProcessExited => "process_exited",
            Self::Connect => "connect",
            Self::ConnectionLost => "connection_lost",
            Self::HttpStatus => "http_status",
            Self::RateLimited => "rate_limited",
            Self::AuthRequired => "auth_required",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Protocol => "protocol",
            Self::VersionMismatch => "version_mismatch",
            Self::Rpc => "rpc",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::UnknownServer => "unknown_server",
            Self::UnknownTool => "unknown_tool",
            Self::Disabled => "disabled",
            Self::NotConnected => "not_connected",
            Self::GivenUp => "given_up",
            Self::Overloaded => "overloaded",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
            Self::Closed => "closed",
            Self::InvalidArgument => "invalid_argument",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What another try takes: see [`Error::recovery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// Trying again the same way must fail again: something has to be changed first.
    Never,
    /// Somebody has to log in first.
    Login,
    /// Neither a pause nor a new connection is needed.
    Now,
    /// The server asked for this pause.
    After(Duration),
    /// A new connection is needed first.
    Reconnect,
}

/// The error of every mcpool crate.
///
/// It carries the kind, the server's name, the operation, what is known of the request's
/// delivery, and for a stdio server the last lines of its stderr. `Display` is one line of at most
/// [`MAX_MESSAGE_CHARS`](Error::MAX_MESSAGE_CHARS) and its prefix, does not repeat its source,
/// shows no secret, and shows what strangers put into the message escaped (see [`Untrusted`]). Cloning it is one reference count, so that every
/// caller that waited for one connect gets the same error.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    server: Option<ServerName>,
    operation: Option<Cow<'static, str>>,
    delivery: Option<Delivery>,
    retry_after: Option<Duration>,
    http_status: Option<u16>,
    challenge: Option<String>,
    rpc: Option<RpcError>,
    raw: Option<Raw>,
    stderr_tail: Vec<StderrLine>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// The longest message, in characters; a longer one is cut.
    pub const MAX_MESSAGE_CHARS: usize = 2_000;

    /// An error of a kind, with a message that says what happened and, where it helps, what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: clean(message),
            server: None,
            operation: None,
            delivery: None,
            retry_after: None,
            http_status: None,
            challenge: None,
            rpc: None,
            raw: None,
            stderr_tail: Vec::new(),
            source: None,
        }))
    }

    /// The error for a JSON-RPC error object in an answer: the server did answer.
    #[must_use]
    pub fn from_rpc(error: RpcError) -> Self {
        Self::new(ErrorKind::Rpc, format!("the server answered {error}"))
            .with_delivery(Delivery::Answered)
            .edit(|inner| inner.rpc = Some(error))
    }

    /// Names the server, unless one is named already.
    #[must_use]
    pub fn with_server(self, server: &ServerName) -> Self {
        if self.0.server.is_some() {
            return self;
        }
        self.edit(|inner| inner.server = Some(server.clone()))
    }

    /// Names the operation (`"connect"`, `"tools/call"`), unless one is named already.
    #[must_use]
    pub fn with_operation(self, operation: impl Into<Cow<'static, str>>) -> Self {
        if self.0.operation.is_some() {
            return self;
        }
        self.edit(|inner| inner.operation = Some(operation.into()))
    }

    /// Says what is known of the request's delivery.
    #[must_use]
    pub fn with_delivery(self, delivery: Delivery) -> Self {
        self.edit(|inner| inner.delivery = Some(delivery))
    }

    /// Keeps the pause that the server asked for.
    #[must_use]
    pub fn with_retry_after(self, pause: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(pause))
    }

    /// Keeps the HTTP status.
    #[must_use]
    pub fn with_http_status(self, status: u16) -> Self {
        self.edit(|inner| inner.http_status = Some(status))
    }

    /// Keeps the `WWW-Authenticate` header of a 401 or 403.
    #[must_use]
    pub fn with_challenge(self, challenge: impl Into<String>) -> Self {
        let challenge = challenge.into();
        self.edit(|inner| inner.challenge = Some(challenge))
    }

    /// Keeps an answer that could not be read.
    #[must_use]
    pub fn with_raw(self, raw: Raw) -> Self {
        self.edit(|inner| inner.raw = Some(raw))
    }

    /// Keeps the last lines of the server's stderr.
    #[must_use]
    pub fn with_stderr_tail(self, lines: Vec<StderrLine>) -> Self {
        self.edit(|inner| inner.stderr_tail = lines)
    }

    /// Keeps the cause. Its text must not hold a secret.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source: Box<dyn StdError + Send + Sync> = source.into();
        self.edit(|inner| inner.source = Some(source.into()))
    }

    /// Gives the error another kind and message and keeps the rest: the old error becomes the
    /// source.
    #[must_use]
    pub fn wrap(self, kind: ErrorKind, message: impl Into<String>) -> Self {
        let mut inner = (*self.0).clone();
        inner.kind = kind;
        inner.message = clean(message);
        inner.source = Some(Arc::new(self));
        Self(Arc::new(inner))
    }

    /// The error with every [known secret](Masker) taken out of its message, its causes, its
    /// stderr lines, its challenge and the JSON-RPC error that the server sent.
    ///
    /// A chain of causes that holds none stays as it is. One that does is replaced by its texts,
    /// so nothing in it can be downcast any more.
    #[must_use]
    pub fn masked(self, masker: &Masker) -> Self {
        let mask = |text: &str| masker.mask(text, Sensitivity::Value).into_owned();
        self.edit(|inner| {
            inner.message = mask(&inner.message);
            inner.challenge = inner.challenge.as_deref().map(mask);
            for line in &mut inner.stderr_tail {
                line.text = mask(&line.text);
            }
            if let Some(rpc) = &mut inner.rpc {
                rpc.message = mask(&rpc.message);
                rpc.data = rpc.data.take().and_then(|data| masked_json(data, masker));
            }
            inner.raw = inner.raw.take().and_then(|raw| masked_json(raw, masker));
            if let Some(causes) = inner
                .source
                .as_deref()
                .and_then(|cause| causes(cause, &mask))
            {
                inner.source = Some(Arc::new(causes));
            }
        })
    }

    /// Gives the error another message and keeps the rest.
    #[must_use]
    pub fn with_message(self, message: impl Into<String>) -> Self {
        let message = clean(message);
        self.edit(|inner| inner.message = message)
    }

    fn edit(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut shared = self.0;
        change(Arc::make_mut(&mut shared));
        Self(shared)
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message without the server's name and the operation.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The message with those of its causes that say more, in one line.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut message = self.0.message.clone();
        let mut source = StdError::source(self);
        // A cycle cannot be made of `Arc`s; a chain this long is of no use to a reader.
        for _ in 0..16 {
            let Some(cause) = source else { break };
            let text = match cause.downcast_ref::<Self>() {
                Some(error) => error.message().to_owned(),
                None => cause.to_string(),
            };
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        message
    }

    /// The server it is about.
    #[must_use]
    pub fn server(&self) -> Option<&ServerName> {
        self.0.server.as_ref()
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    /// What is known of the request's delivery; [`Delivery::Unknown`] unless it was said.
    ///
    /// Kinds that arise before anything is sent (`Disabled`, `NotConnected`, `UnknownServer` …)
    /// are [`Delivery::NotSent`].
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.0.delivery.unwrap_or(match self.0.kind {
            ErrorKind::InvalidSpec
            | ErrorKind::Unresolved
            | ErrorKind::CommandNotFound
            | ErrorKind::Spawn
            | ErrorKind::Connect
            | ErrorKind::UnknownServer
            | ErrorKind::UnknownTool
            | ErrorKind::Disabled
            | ErrorKind::NotConnected
            | ErrorKind::GivenUp
            | ErrorKind::Overloaded
            | ErrorKind::Exhausted
            | ErrorKind::Closed
            | ErrorKind::InvalidArgument
            | ErrorKind::VersionMismatch => Delivery::NotSent,
            ErrorKind::AuthRequired | ErrorKind::Forbidden | ErrorKind::RateLimited => {
                Delivery::Rejected
            }
            ErrorKind::Rpc => Delivery::Answered,
            _ => Delivery::Unknown,
        })
    }

    /// What another try takes: the one decision that the call path, the supervisor and the caller
    /// share. It says nothing of whether the request may be sent again: one whose
    /// [`delivery`](Self::delivery) is [`Unknown`](Delivery::Unknown) may have run, and is sent
    /// again only if running twice does no harm.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        if self.0.kind == ErrorKind::AuthRequired {
            return Recovery::Login;
        }
        if let Some(pause) = self.0.retry_after {
            return Recovery::After(pause);
        }
        match self.0.kind {
            ErrorKind::ProcessExited
            | ErrorKind::Connect
            | ErrorKind::ConnectionLost
            | ErrorKind::NotConnected
            | ErrorKind::Spawn
            | ErrorKind::Exhausted => Recovery::Reconnect,
            ErrorKind::HttpStatus => match self.0.http_status {
                Some(408 | 425 | 500..=599) => Recovery::Reconnect,
                _ => Recovery::Never,
            },
            ErrorKind::Overloaded | ErrorKind::Timeout | ErrorKind::RateLimited => Recovery::Now,
            _ => Recovery::Never,
        }
    }

    /// Whether connecting again the same way must fail again: the reconnect ladder stops here.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self.0.kind {
            ErrorKind::InvalidSpec
            | ErrorKind::Unresolved
            | ErrorKind::CommandNotFound
            | ErrorKind::AuthRequired
            | ErrorKind::Forbidden
            | ErrorKind::VersionMismatch
            | ErrorKind::Disabled
            | ErrorKind::Closed => true,
            ErrorKind::HttpStatus => self.recovery() == Recovery::Never,
            _ => false,
        }
    }

    /// The pause that the server asked for, from `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status, where there was one.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// The `WWW-Authenticate` header of a 401 or 403.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.0.challenge.as_deref()
    }

    /// The JSON-RPC error object of the answer, for [`ErrorKind::Rpc`].
    #[must_use]
    pub fn rpc(&self) -> Option<&RpcError> {
        self.0.rpc.as_ref()
    }

    /// The answer, as it came, where there was one that could not be read.
    #[must_use]
    pub fn raw(&self) -> Option<&Raw> {
        self.0.raw.as_ref()
    }

    /// The last lines of the server's stderr, oldest first.
    #[must_use]
    pub fn stderr_tail(&self) -> &[StderrLine] {
        &self.0.stderr_tail
    }
}

/// A payload without the known secrets; untouched when it holds none, `None` when it cannot be
/// written without them.
fn masked_json(raw: Raw, masker: &Masker) -> Option<Raw> {
    match raw.parse::<serde_json::Value>() {
        Ok(before) => {
            let mut after = before.clone();
            masker.mask_json(&mut after, Sensitivity::Value);
            if after == before {
                return Some(raw);
            }
            Raw::of(&after).ok()
        }
        // It holds a number that is no `Value`: by its text.
        Err(_) => match masker.mask(raw.get(), Sensitivity::Value) {
            Cow::Borrowed(_) => Some(raw),
            Cow::Owned(text) => Raw::from_text(text).ok(),
        },
    }
}

/// A message as an error keeps it, whoever wrote its parts.
fn clean(message: impl Into<String>) -> String {
    Untrusted::line(message.into())
        .clip(Error::MAX_MESSAGE_CHARS)
        .into_clean()
        .into_owned()
}

/// The texts of a chain of causes, masked; `None` when nothing had to be masked.
fn causes(first: &(dyn StdError + 'static), mask: &impl Fn(&str) -> String) -> Option<Cause> {
    let chain: Vec<String> = std::iter::successors(Some(first), |&cause| cause.source())
        .map(ToString::to_string)
        .collect();
    let masked: Vec<String> = chain.iter().map(|text| mask(text)).collect();
    if masked == chain {
        return None;
    }
    masked.into_iter().rev().fold(None, |below, text| {
        let source = below.map(Box::new);
        Some(Cause { text, source })
    })
}

/// The text of a cause that held a secret.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.server, self.operation()) {
            (Some(server), Some(operation)) => write!(f, "{server}: {operation}: ")?,
            (Some(server), None) => write!(f, "{server}: ")?,
            (None, Some(operation)) => write!(f, "{operation}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.0.message)
    }
}

/// One object: `kind`, `message` (with its causes, in one line), `delivery`, `stderr_tail`, and
/// where they are known `server`, `operation`, `http_status`, `retry_after_ms`, `rpc`.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let inner = &*self.0;
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("kind", &inner.kind)?;
        out.serialize_entry("message", &self.with_causes())?;
        out.serialize_entry("delivery", &self.delivery())?;
        if let Some(server) = &inner.server {
            out.serialize_entry("server", server)?;
        }
        if let Some(operation) = self.operation() {
            out.serialize_entry("operation", operation)?;
        }
        if let Some(status) = inner.http_status {
            out.serialize_entry("http_status", &status)?;
        }
        if let Some(pause) = inner.retry_after {
            let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            out.serialize_entry("retry_after_ms", &ms)?;
        }
        if let Some(rpc) = &inner.rpc {
            out.serialize_entry("rpc", rpc)?;
        }
        let lines: Vec<&str> = inner.stderr_tail.iter().map(|l| l.text.as_str()).collect();
        out.serialize_entry("stderr_tail", &lines)?;
        out.end()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("delivery", &self.delivery());
        if let Some(server) = &self.0.server {
            out.field("server", server);
        }
        if let Some(operation) = self.operation() {
            out.field("operation", &operation);
        }
        if let Some(status) = self.0.http_status {
            out.field("http_status", &status);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        if !self.0.stderr_tail.is_empty() {
            out.field("stderr_tail", &self.0.stderr_tail);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_and_leaves_the_source_to_the_chain() {
        let error = Error::new(ErrorKind::Connect, "cannot reach the server")
            .with_server(&"github".parse().unwrap())
            .with_operation("connect")
            .with_source(std::io::Error::other("refused"));
        assert_eq!(
            error.to_string(),
            "github: connect: cannot reach the server"
        );
        assert_eq!(error.source().unwrap().to_string(), "refused");
    }

    #[test]
    fn the_first_server_and_operation_stay() {
        let error = Error::new(ErrorKind::Timeout, "no answer")
            .with_operation("tools/call")
            .with_operation("call");
        assert_eq!(error.operation(), Some("tools/call"));
    }

    #[test]
    fn a_message_is_clean_and_bounded_whoever_wrote_it() {
        let error = Error::from_rpc(RpcError::new(-32603, "\x1b[2J\n\u{202e}"));
        assert_eq!(
            error.message(),
            r"the server answered -32603: \u{1b}[2J\n\u{202e}"
        );
        let error = error.wrap(ErrorKind::Internal, "x".repeat(100_000));
        assert_eq!(error.message().chars().count(), Error::MAX_MESSAGE_CHARS);
    }

    #[test]
    fn known_secrets_are_taken_out_everywhere() {
        let masker = Masker::new();
        masker.add("canary-value", Sensitivity::Value);
        let rpc = RpcError::new(-1, "bad canary-value")
            .with_data(Raw::of(&serde_json::json!({"canary-value": "canary-value"})).unwrap());
        let error = Error::from_rpc(rpc)
            .with_challenge("Bearer error=\"canary-value\"")
            .with_stderr_tail(vec![StderrLine::now("token canary-value")])
            .with_source(
                Error::new(ErrorKind::Connect, "at canary-value")
                    .with_source(std::io::Error::other("no canary-value")),
            );
        let masked = error.masked(&masker);
        let shown = format!(
            "{masked} {masked:?} {:?} {:?}",
            masked.rpc(),
            masked.challenge()
        );
        assert!(!shown.contains("canary"), "{shown}");
        let cause = masked.source().unwrap();
        assert_eq!(cause.to_string(), "at [redacted]");
        assert_eq!(cause.source().unwrap().to_string(), "no [redacted]");
    }

    #[test]
    fn causes_without_a_secret_stay_what_they_are() {
        let masker = Masker::new();
        masker.add("canary-value", Sensitivity::Value);
        let error = Error::new(ErrorKind::Spawn, "of canary-value")
            .with_source(std::io::Error::other("refused"))
            .masked(&masker);
        assert_eq!(error.message(), "of [redacted]");
        assert!(error.source().unwrap().is::<std::io::Error>());
    }

    #[test]
    fn defaults_of_delivery_and_recovery() {
        let lost = Error::new(ErrorKind::ConnectionLost, "gone");
        assert_eq!(lost.delivery(), Delivery::Unknown);
        assert_eq!(lost.recovery(), Recovery::Reconnect);
        let disabled = Error::new(ErrorKind::Disabled, "off");
        assert_eq!(disabled.delivery(), Delivery::NotSent);
        assert!(disabled.is_permanent());
        let limited = Error::new(ErrorKind::RateLimited, "slow down")
            .with_retry_after(Duration::from_secs(3));
        assert_eq!(limited.recovery(), Recovery::After(Duration::from_secs(3)));
        assert_eq!(limited.delivery(), Delivery::Rejected);
        assert!(!limited.is_permanent());
    }
}
