//! Two layers that many applications want: a cap on timeouts, and a line for each request.
//!
//! Both can stand at a connection or at a handle; [`ClientLayer`] says what that means.

use std::time::Duration;

use async_trait::async_trait;
use mcpool_core::{
    ClientLayer, Delivery, Error, Next, Raw, RawObject, Request, RequestOptions, Result, Untrusted,
};
use tokio::time::Instant;

/// No request takes longer than this, whatever its options, its progress and the policy of its
/// server say.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use mcpool_client::{StandardFactory, TimeoutCap};
/// use mcpool_core::LayeredFactory;
///
/// let cap = Arc::new(TimeoutCap::new(Duration::from_secs(20)));
/// let factory = LayeredFactory::new(StandardFactory::new(), cap);
/// # let _ = factory;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutCap(Duration);

impl TimeoutCap {
    /// A cap of so much for each request.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self(longest)
    }
}

#[async_trait]
impl ClientLayer for TimeoutCap {
    async fn request(
        &self,
        request: &Request,
        options: &RequestOptions,
        next: Next<'_>,
    ) -> Result<Raw> {
        let longest = options.max_total.map_or(self.0, |total| total.min(self.0));
        let options = options.clone().with_max_total(longest);
        next.request(request, &options).await
    }
}

/// One `tracing` event at INFO for each request that ends, with the target `mcpool::audit`: the
/// server, the method, what it names (a tool, a prompt, a URI), the outcome, the time, and the
/// bytes of parameters and result. Arguments and contents are never in it. A request whose future
/// is dropped is `cancelled`.
///
/// | `outcome` | meaning |
/// |---|---|
/// | `good` | a result |
/// | `tool_error` | the result of a tool says `isError` |
/// | `rpc_error` | the server answered with a JSON-RPC error |
/// | `not_sent`, `rejected` | it did not run |
/// | `unknown` | it may have run |
/// | `unreadable` | it was answered, and the answer cannot be read |
/// | `cancelled` | the caller did not wait for it |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditLog;

impl AuditLog {
    /// The layer.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl ClientLayer for AuditLog {
    async fn request(
        &self,
        request: &Request,
        options: &RequestOptions,
        next: Next<'_>,
    ) -> Result<Raw> {
        let mut line = Line {
            server: next.server().as_str(),
            request,
            begun: Instant::now(),
            outcome: "cancelled",
            bytes_in: 0,
        };
        let result = next.request(request, options).await;
        line.outcome = outcome(&request.method, &result);
        line.bytes_in = result.as_ref().map_or(0, Raw::len);
        result
    }
}

/// Writes itself when it is dropped, so that a cancelled request has a line too.
struct Line<'a> {
    server: &'a str,
    request: &'a Request,
    begun: Instant,
    outcome: &'static str,
    bytes_in: usize,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let params = self.request.params.as_ref();
        tracing::info!(
            target: "mcpool::audit",
            server = self.server,
            method = %Untrusted::line(&*self.request.method),
            name = %Untrusted::line(named(params).unwrap_or_default()),
            outcome = self.outcome,
            elapsed_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            bytes_out = params.map_or(0, Raw::len),
            bytes_in = self.bytes_in,
        );
    }
}

/// The tool, the prompt or the resource that a request names.
fn named(params: Option<&Raw>) -> Option<String> {
    let members = RawObject::parse(params?).ok()?;
    let name = members.get("name").or_else(|| members.get("uri"))?;
    name.parse().ok()
}

fn outcome(method: &str, result: &Result<Raw>) -> &'static str {
    match result {
        Ok(result) if method == "tools/call" && is_error(result) => "tool_error",
        Ok(_) => "good",
        Err(error) => failed(error),
    }
}

fn is_error(result: &Raw) -> bool {
    RawObject::parse(result).is_ok_and(|members| {
        members
            .get("isError")
            .is_some_and(|value| value.get() == "true")
    })
}

fn failed(error: &Error) -> &'static str {
    if error.rpc().is_some() {
        return "rpc_error";
    }
    match error.delivery() {
        Delivery::NotSent => "not_sent",
        Delivery::Rejected => "rejected",
        Delivery::Answered => "unreadable",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool_core::{ErrorKind, RpcError};

    #[test]
    fn the_outcome_tells_the_kinds_of_failure_apart() {
        let raw = |text: &str| Ok(Raw::from_text(text.to_owned()).unwrap());
        let error = |delivery| Err(Error::new(ErrorKind::Timeout, "no").with_delivery(delivery));
        for (result, wanted) in [
            (raw(r#"{"content":[]}"#), "good"),
            (raw(r#"{"content":[],"isError":true}"#), "tool_error"),
            (raw(r#"{"content":[{"isError":true}]}"#), "good"),
            (Err(Error::from_rpc(RpcError::new(-1, "no"))), "rpc_error"),
            (error(Delivery::NotSent), "not_sent"),
            (error(Delivery::Rejected), "rejected"),
            (error(Delivery::Unknown), "unknown"),
            (error(Delivery::Answered), "unreadable"),
        ] {
            assert_eq!(outcome("tools/call", &result), wanted, "{result:?}");
        }
    }
}
