//! Which era a server speaks: what its answer to `server/discover` says, and what is remembered.
//!
//! The rules are those of MCP 2026-07-28, "Backward Compatibility". They are pure functions.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use mcpool_core::{
    Error, ErrorKind, ServerSpec, TransportKind, TransportSpec,
    model::{DiscoverResult, ErrorCode, MetaObject, ProtocolVersion, ServerPeerInfo, ServerResult},
};
use serde::Deserialize;

use crate::lenient;

/// The versions that have `initialize`, newest first.
pub(crate) fn legacy_versions() -> impl Iterator<Item = &'static ProtocolVersion> {
    ProtocolVersion::KNOWN_VERSIONS
        .iter()
        .rev()
        .filter(|version| version.has_initialize())
}

/// The versions that have `server/discover`, newest first.
pub(crate) fn modern_versions() -> Vec<ProtocolVersion> {
    ProtocolVersion::KNOWN_VERSIONS
        .iter()
        .rev()
        .filter(|version| !version.has_initialize())
        .cloned()
        .collect()
}

/// What an answer to `server/discover` says.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The server speaks the modern era, at this version.
    Modern(Box<ServerPeerInfo>),
    /// The server speaks the modern era, and asks for another version.
    Retry(ProtocolVersion),
    /// The server does not know the question, or speaks older versions only: `initialize`.
    Legacy(String),
    /// The transport ended: nothing is known, and the probe may be to blame.
    Lost(Error),
    /// Nothing is known of the era, and asking otherwise would not help.
    Fatal(Error),
}

/// A `DiscoverResult` of a server that leaves out what this client can do without.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LenientDiscovery {
    supported_versions: Vec<ProtocolVersion>,
    #[serde(default)]
    capabilities: mcpool_core::model::ServerCapabilities,
    instructions: Option<String>,
    #[serde(rename = "_meta")]
    meta: Option<MetaObject>,
}

/// Judges the outcome of `server/discover`.
///
/// `tried` are the versions that were asked for so far, the current one included; `ours` those
/// that this client would speak.
pub(crate) fn judge(
    outcome: Result<ServerResult, Error>,
    tried: &[ProtocolVersion],
    ours: &[ProtocolVersion],
) -> Verdict {
    let error = match outcome {
        Ok(result) => return judge_result(result, ours),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::Rpc => judge_rpc(error, tried, ours),
        // A status that says "not this way"; 408 and 425 say "not now".
        ErrorKind::HttpStatus => match error.http_status() {
            Some(408 | 425) => Verdict::Fatal(error),
            Some(status @ 400..=499) => Verdict::Legacy(format!("HTTP {status}")),
            _ => Verdict::Fatal(error),
        },
        ErrorKind::Protocol => Verdict::Legacy(error.message().to_owned()),
        ErrorKind::ConnectionLost | ErrorKind::ProcessExited | ErrorKind::Closed => {
            Verdict::Lost(error)
        }
        _ => Verdict::Fatal(error),
    }
}

fn judge_result(result: ServerResult, ours: &[ProtocolVersion]) -> Verdict {
    let discovery = match result {
        ServerResult::DiscoverResult(DiscoverResult {
            supported_versions,
            capabilities,
            instructions,
            meta,
            ..
        }) => LenientDiscovery {
            supported_versions,
            capabilities,
            instructions,
            meta,
        },
        other => match lenient::reread(&other) {
            Ok(discovery) => discovery,
            Err(_) => return Verdict::Legacy("the answer is no DiscoverResult".to_owned()),
        },
    };
    match common(ours, &discovery.supported_versions) {
        Some(version) => {
            let mut info = ServerPeerInfo::new(version, discovery.capabilities);
            info.server_info = discovery
                .meta
                .as_ref()
                .and_then(|meta| meta.get("io.modelcontextprotocol/serverInfo"))
                .and_then(|info| serde_json::from_value(info.clone()).ok());
            info.instructions = discovery.instructions;
            info.meta = discovery.meta;
            Verdict::Modern(Box::new(info))
        }
        None => judge_versions(&discovery.supported_versions),
    }
}

fn judge_rpc(error: Error, tried: &[ProtocolVersion], ours: &[ProtocolVersion]) -> Verdict {
    let Some(data) = error.rpc() else {
        return Verdict::Legacy(error.message().to_owned());
    };
    match data.code {
        ErrorCode::UNSUPPORTED_PROTOCOL_VERSION => {
            let supported: Vec<ProtocolVersion> = data
                .data
                .as_ref()
                .and_then(|data| data.get("supported"))
                .and_then(|versions| serde_json::from_value(versions.clone()).ok())
                .unwrap_or_default();
            // A server may refuse the first question of a version that it does speak; once.
            let times =
                |version: &ProtocolVersion| tried.iter().filter(|tried| *tried == version).count();
            let current = tried.last();
            let next = ours.iter().find(|version| {
                supported.contains(version)
                    && (times(version) == 0 || (Some(*version) == current && times(version) == 1))
            });
            match next {
                Some(version) => Verdict::Retry(version.clone()),
                None => judge_versions(&supported),
            }
        }
        code if is_modern_code(code) => Verdict::Fatal(error),
        _ => Verdict::Legacy(error.message().to_owned()),
    }
}

/// No modern version in common: is there an older one?
fn judge_versions(supported: &[ProtocolVersion]) -> Verdict {
    if legacy_versions().any(|version| supported.contains(version)) {
        return Verdict::Legacy("the server names older versions only".to_owned());
    }
    let named: Vec<&str> = supported.iter().map(ProtocolVersion::as_str).collect();
    let named = if named.is_empty() {
        "none".to_owned()
    } else {
        named.join(", ")
    };
    Verdict::Fatal(version_mismatch(format!(
        "no protocol version in common (the server names {named})"
    )))
}

pub(crate) fn version_mismatch(message: String) -> Error {
    Error::new(ErrorKind::VersionMismatch, message)
}

fn common(ours: &[ProtocolVersion], theirs: &[ProtocolVersion]) -> Option<ProtocolVersion> {
    ours.iter()
        .find(|version| theirs.contains(version))
        .cloned()
}

/// Whether the failure of `initialize` shows that a remembered "legacy" is no longer true.
pub(crate) fn contradicts_legacy(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Rpc | ErrorKind::Protocol | ErrorKind::VersionMismatch => true,
        ErrorKind::HttpStatus => matches!(error.http_status(), Some(400..=499)),
        _ => false,
    }
}

/// Whether a failure over Streamable HTTP leaves legacy HTTP+SSE possible: 400, 404 or 405 (MCP
/// 2025-03-26, "Backwards Compatibility"), also with a JSON-RPC error in the body, unless it is
/// one of the modern era.
pub(crate) fn suggests_sse(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::HttpStatus => matches!(error.http_status(), Some(400 | 404 | 405)),
        ErrorKind::Rpc => error.rpc().is_some_and(|rpc| !is_modern_code(rpc.code)),
        _ => false,
    }
}

/// The codes that only a server of the modern era gives (MCP 2026-07-28, "Errors").
fn is_modern_code(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::HEADER_MISMATCH
            | ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY
            | ErrorCode::UNSUPPORTED_PROTOCOL_VERSION
    )
}

/// What was found out about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) transport: TransportKind,
    pub(crate) modern: bool,
}

/// Remembers the era of each server, so that a reconnect needs no probe.
///
/// The key is the command with its arguments, or the origin with its path, and never an
/// environment variable, a header, or a query.
#[derive(Default)]
pub(crate) struct EraMemory(Mutex<HashMap<Key, Known>>);

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Process(String, Vec<String>),
    Url(&'static str, String),
}

fn key(spec: &ServerSpec) -> Option<Key> {
    match &spec.transport {
        TransportSpec::Stdio(stdio) => {
            Some(Key::Process(stdio.command.clone(), stdio.args.clone()))
        }
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            Some(Key::Url(spec.transport.as_str(), http.redacted_url()))
        }
        _ => None,
    }
}

impl EraMemory {
    pub(crate) fn recall(&self, spec: &ServerSpec) -> Option<Known> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key(spec)?).copied()
    }

    pub(crate) fn remember(&self, spec: &ServerSpec, found: Known) {
        if let Some(key) = key(spec) {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(key, found);
        }
    }

    pub(crate) fn forget(&self, spec: &ServerSpec) {
        if let Some(key) = key(spec) {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.remove(&key);
        }
    }
}
