//! The one error type of all crates.

mod kind;
mod masked;
mod show;

use std::{borrow::Cow, error::Error as StdError, sync::Arc, time::Duration};

pub use kind::{ErrorKind, Recovery};

use crate::{Delivery, Raw, RpcError, ServerName, StderrLine, Untrusted};

/// The result of every fallible operation of mcpool.
pub type Result<T, E = Error> = std::result::Result<T, E>;

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

/// A message as an error keeps it, no matter who wrote its parts.
fn clean(message: impl Into<String>) -> String {
    Untrusted::line(message.into())
        .clip(Error::MAX_MESSAGE_CHARS)
        .into_clean()
        .into_owned()
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests;
