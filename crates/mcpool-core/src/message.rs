//! The JSON-RPC envelope: parsed once, with every payload left as text.
//!
//! # What is decided about odd messages
//!
//! | seen | meaning |
//! |---|---|
//! | a batch (MCP up to 2025-03-26) | its members in order; [`parse_line`] gives them one by one |
//! | an id that is a number or a string | kept as its text; ours are numbers, and a string that holds one of ours is taken for it |
//! | a null id in an answer | [`ResponseId::Null`]: whom it means is the transport's to decide |
//! | a member that is there twice | the last one counts, as in JavaScript |
//! | members that nobody knows | left out |
//! | `result` and `error` both | `error`, unless it is null |
//! | `result: null` | a result that is null, not a missing one |
//! | an `error` that is no object | its text is the message, the code is [`RpcError::INTERNAL`] |
//! | big numbers, lone surrogates | kept: payloads are text |

mod envelope;
mod object;
mod rpc_error;

pub use envelope::{Message, NotAMessage, ParsedLine, ResponseId, parse_line};
pub use object::RawObject;
pub use rpc_error::RpcError;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::Raw;

/// The id of one of our requests: assigned by the transport, counted from 1, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

impl RequestId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// A request of the server. Its id is echoed as it came.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServerRequest {
    /// The id, as its JSON text.
    pub id: Raw,
    /// What is asked.
    pub method: String,
    /// The parameters, as they came.
    pub params: Option<Raw>,
    /// The request of ours in whose course it is asked, where that is known: over Streamable
    /// HTTP it came on the stream of that request.
    pub related: Option<RequestId>,
}

impl ServerRequest {
    /// A request that belongs to none of ours, as far as is known.
    #[must_use]
    pub fn new(id: Raw, method: impl Into<String>, params: Option<Raw>) -> Self {
        Self {
            id,
            method: method.into(),
            params,
            related: None,
        }
    }

    /// Says in the course of which request of ours it is asked.
    #[must_use]
    pub fn with_related(mut self, related: Option<RequestId>) -> Self {
        self.related = related;
        self
    }
}

/// A notification, of the server or of ours.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Notification {
    /// What it is.
    pub method: String,
    /// The parameters, as they came.
    pub params: Option<Raw>,
}

impl Notification {
    /// A notification.
    #[must_use]
    pub fn new(method: impl Into<String>, params: Option<Raw>) -> Self {
        Self {
            method: method.into(),
            params,
        }
    }
}
