//! Whether the clients of a gateway share a server.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

/// Whether the clients of `mcpool serve` share a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SharingName {
    /// All clients share its processes or sessions.
    Pool,
    /// Each client has one of its own.
    Client,
}
