//! What servers ask, on its way to the client whose call it belongs to.
//!
//! | the server speaks | the client speaks | how it is asked |
//! |---|---|---|
//! | up to 2025-11-25 | up to 2025-11-25 | a request on the client's stream |
//! | up to 2025-11-25 | from 2026-07-28 on | the call is parked and answered as `input_required`; the retry finds it |
//! | from 2026-07-28 on | up to 2025-11-25 | a request on the client's stream; the retry is ours |
//! | from 2026-07-28 on | from 2026-07-28 on | its `input_required` is passed on, with its state sealed |

use std::sync::Arc;

use async_trait::async_trait;
use mcpool_core::{
    Caller, LogLevel, Notification, Offered, Raw, RawObject, RpcError, ServerName, ServerRequest,
    ServerRequestHandler,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::{client::Client, outlet::Outlet};

/// The handler that a pool behind a gateway is built with: it declares to servers what clients may
/// be asked, and leaves the asking to the gateway.
///
/// What a server learns of client capabilities is fixed when it is connected, before it is known
/// who will call it. By default that is elicitation alone: roots and sampling of one client are
/// nothing to a server that many share, and declaring them makes servers ask at any time. A server
/// that clients do not share ([`Sharing::Client`](mcpool_core::Sharing::Client)) learns what its
/// client can do instead.
///
/// ```
/// use mcpool_core::{ServerName, ServerRequestHandler};
/// use mcpool_gateway::Relay;
///
/// let declared = Relay::new().capabilities(&ServerName::new("files")?);
/// assert_eq!(declared.get(), r#"{"elicitation":{"form":{},"url":{}}}"#);
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Relay {
    elicitation: bool,
    sampling: bool,
    roots: bool,
}

impl Relay {
    /// Declares elicitation, and nothing else.
    pub fn new() -> Self {
        Self {
            elicitation: true,
            sampling: false,
            roots: false,
        }
    }

    /// Sets whether elicitation is declared. Default: yes.
    pub fn with_elicitation(mut self, declared: bool) -> Self {
        self.elicitation = declared;
        self
    }

    /// Sets whether sampling is declared. Default: no.
    pub fn with_sampling(mut self, declared: bool) -> Self {
        self.sampling = declared;
        self
    }

    /// Sets whether roots are declared. Default: no.
    pub fn with_roots(mut self, declared: bool) -> Self {
        self.roots = declared;
        self
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ServerRequestHandler for Relay {
    fn capabilities(&self, _server: &ServerName) -> Raw {
        let mut declared = RawObject::new();
        let mut declare = |name: &str, value: serde_json::Value, wanted: bool| {
            if let (true, Ok(value)) = (wanted, Raw::of(&value)) {
                declared.insert(name, value);
            }
        };
        declare(
            "elicitation",
            json!({"form": {}, "url": {}}),
            self.elicitation,
        );
        declare("sampling", json!({}), self.sampling);
        declare("roots", json!({}), self.roots);
        declared.to_raw().unwrap_or_else(|_| Raw::empty_object())
    }

    /// Refuses: a question gets here only when no client's call is in flight.
    async fn answer(&self, _: &ServerName, _: ServerRequest) -> Result<Raw, RpcError> {
        Err(RpcError::new(
            RpcError::INTERNAL,
            "no client is in the middle of a call to this server, so there is nobody to ask",
        ))
    }
}

/// A question of a server that waits for its client.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) method: String,
    pub(crate) params: Option<Raw>,
    pub(crate) reply: oneshot::Sender<Result<Raw, RpcError>>,
}

/// The client behind one call.
pub(crate) struct ClientCaller {
    client: Client,
    /// Distinguishes the client from others, where its requests are known to be of one.
    key: Option<Arc<str>>,
    outlet: Outlet,
    /// Where questions of a call that can be parked go.
    parking: Option<mpsc::Sender<Question>>,
}

impl ClientCaller {
    /// The client behind a call whose questions go to its stream, or to `parking`. A `key`
    /// distinguishes it from other clients.
    pub(crate) fn new(
        client: Client,
        key: Option<Arc<str>>,
        outlet: Outlet,
        parking: Option<mpsc::Sender<Question>>,
    ) -> Self {
        Self {
            client,
            key,
            outlet,
            parking,
        }
    }
}

#[async_trait]
impl Caller for ClientCaller {
    fn client(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn heard(&self, notification: &Notification) -> bool {
        match notification.method.as_str() {
            "notifications/message" => {
                if self.client.wants_log(LogLevel::of(notification)) {
                    self.outlet.tell(notification);
                }
                true
            }
            "notifications/elicitation/complete" => {
                self.outlet.tell(notification);
                true
            }
            _ => false,
        }
    }

    async fn answer(&self, server: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        let capabilities = self.client.capabilities.to_raw();
        let capabilities = capabilities.unwrap_or_else(|_| Raw::empty_object());
        Offered::read(&capabilities).check(&request)?;
        // Anybody who is asked must know who asks (MCP, "Elicitation", security considerations).
        let params = signed(request.params.as_ref(), server);
        let Some(parking) = &self.parking else {
            return self.outlet.ask(&request.method, params.as_ref()).await;
        };
        let (reply, answer) = oneshot::channel();
        let question = Question {
            method: request.method,
            params,
            reply,
        };
        let gone = || RpcError::new(RpcError::INTERNAL, "the client of this request is gone");
        parking.send(question).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The parameters of a question with the name of the server that asks in their `_meta`.
fn signed(params: Option<&Raw>, server: &ServerName) -> Option<Raw> {
    let mut object = match params {
        Some(params) => match RawObject::parse(params) {
            Ok(object) => object,
            Err(_) => return Some(params.clone()),
        },
        None => RawObject::new(),
    };
    let meta = object
        .get("_meta")
        .and_then(|meta| RawObject::parse(meta).ok());
    let mut meta = meta.unwrap_or_default();
    // A question of another server's is none of this hop's.
    meta.remove("progressToken");
    meta.insert("mcpool/server", Raw::of(server.as_str()).ok()?);
    object.insert("_meta", meta.to_raw().ok()?);
    object.to_raw().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_which_server_asks_and_keeps_its_text() {
        let files = ServerName::new("files").unwrap();
        let raw = |text: &str| Raw::from_text(text.to_owned()).unwrap();
        let signed = |params: Option<&Raw>| signed(params, &files).unwrap().get().to_owned();
        assert_eq!(signed(None), r#"{"_meta":{"mcpool/server":"files"}}"#);
        assert_eq!(
            signed(Some(&raw(
                r#"{"x":1.0e400,"_meta":{"mcpool/server":"bank","t":1}}"#
            ))),
            r#"{"x":1.0e400,"_meta":{"mcpool/server":"files","t":1}}"#
        );
        assert_eq!(signed(Some(&raw("[1]"))), "[1]");
    }
}
