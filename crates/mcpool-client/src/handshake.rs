//! The two ways to begin a session: `server/discover`, and `initialize`.

use mcpool_core::{
    Result,
    model::{
        ClientCapabilities, ClientNotification, ClientRequest, DiscoverRequest,
        DiscoverRequestParams, Implementation, InitializeRequest, InitializeRequestParams,
        InitializedNotification, MetaObject, ProtocolVersion, RequestMetaObject,
        ServerCapabilities, ServerPeerInfo, ServerResult,
    },
};
use serde::Deserialize;

use crate::{
    era::{self, Verdict},
    error_map,
    evidence::Recorder,
    lenient,
    peer::{Ask, Peer},
};

/// Who the client says it is.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) info: Implementation,
    pub(crate) capabilities: ClientCapabilities,
}

impl Identity {
    /// The `_meta` of every request from MCP 2026-07-28 on.
    pub(crate) fn request_meta(&self, version: &ProtocolVersion) -> RequestMetaObject {
        RequestMetaObject::with_client_context(
            version.clone(),
            self.info.clone(),
            self.capabilities.clone(),
        )
    }
}

/// Asks `server/discover`, again with another version where the server wants one.
///
/// Never gives [`Verdict::Retry`].
pub(crate) async fn discover(
    peer: &Peer,
    identity: &Identity,
    ours: &[ProtocolVersion],
    recorder: &Recorder,
) -> Verdict {
    let mut tried = Vec::new();
    let mut next = ours.first().cloned();
    while let Some(version) = next.take() {
        let attempt = recorder.begin(peer.shared.kind, "server/discover");
        let mut request = DiscoverRequest::new(DiscoverRequestParams {});
        request.extensions.insert(identity.request_meta(&version));
        tried.push(version);
        let answer = peer
            .ask(Ask::new(ClientRequest::DiscoverRequest(request)).handshake())
            .await;
        match era::judge(answer, &tried, ours) {
            Verdict::Retry(version) => {
                attempt.failed(format!("the server wants version {version}"));
                next = Some(version);
            }
            verdict => {
                match &verdict {
                    Verdict::Modern(info) => attempt.succeeded(info.protocol_version.to_string()),
                    Verdict::Legacy(why) => attempt.failed(why.clone()),
                    Verdict::Lost(error) | Verdict::Fatal(error) => {
                        attempt.failed(error.message().to_owned());
                    }
                    Verdict::Retry(_) => {}
                }
                return verdict;
            }
        }
    }
    Verdict::Fatal(era::version_mismatch(
        "this client speaks no version without `initialize`".to_owned(),
    ))
}

/// An `InitializeResult` of a server that leaves out what this client can do without.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LenientInitialization {
    protocol_version: ProtocolVersion,
    #[serde(default)]
    capabilities: ServerCapabilities,
    server_info: Option<Implementation>,
    instructions: Option<String>,
    #[serde(rename = "_meta")]
    meta: Option<MetaObject>,
}

/// Asks `initialize`, and checks the version that the server chose.
///
/// With `exact`, no other version than the offered one will do.
pub(crate) async fn initialize(
    peer: &Peer,
    identity: &Identity,
    offered: &ProtocolVersion,
    exact: bool,
    recorder: &Recorder,
) -> Result<ServerPeerInfo> {
    let attempt = recorder.begin(peer.shared.kind, "initialize");
    let params = InitializeRequestParams::new(identity.capabilities.clone(), identity.info.clone())
        .with_protocol_version(offered.clone());
    let request = ClientRequest::InitializeRequest(InitializeRequest::new(params));
    let outcome = match peer.ask(Ask::new(request).handshake()).await {
        Ok(result) => read_initialization(result).and_then(|info| {
            check_version(&info.protocol_version, offered, exact)?;
            Ok(info)
        }),
        Err(error) => Err(error),
    };
    match &outcome {
        Ok(info) => attempt.succeeded(info.protocol_version.to_string()),
        Err(error) => attempt.failed(error.message().to_owned()),
    }
    outcome
}

/// Tells the server that the session has begun.
pub(crate) async fn confirm(peer: &Peer) -> Result<()> {
    peer.notify(ClientNotification::InitializedNotification(
        InitializedNotification {
            method: Default::default(),
            extensions: Default::default(),
        },
    ))
    .await
}

fn read_initialization(result: ServerResult) -> Result<ServerPeerInfo> {
    match result {
        ServerResult::InitializeResult(result) => Ok(result.into()),
        other => {
            let read: LenientInitialization = lenient::reread(&other).map_err(|reason| {
                error_map::protocol(format!("the answer is no InitializeResult: {reason}"))
            })?;
            let mut info = ServerPeerInfo::new(read.protocol_version, read.capabilities);
            info.server_info = read.server_info;
            info.instructions = read.instructions;
            info.meta = read.meta;
            Ok(info)
        }
    }
}

fn check_version(chosen: &ProtocolVersion, offered: &ProtocolVersion, exact: bool) -> Result<()> {
    if exact && chosen != offered {
        return Err(era::version_mismatch(format!(
            "the server chose protocol version {chosen}, but {offered} is pinned"
        )));
    }
    if !ProtocolVersion::KNOWN_VERSIONS.contains(chosen) {
        return Err(era::version_mismatch(format!(
            "the server chose protocol version {chosen}, which this client does not know \
             (it offered {offered})"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool_core::ErrorKind;

    #[test]
    fn only_known_versions_will_do() {
        let offered = ProtocolVersion::LATEST_WITH_INITIALIZE;
        let unknown: ProtocolVersion = serde_json::from_str("\"1999-01-01\"").unwrap();
        for version in ProtocolVersion::KNOWN_VERSIONS {
            assert!(check_version(version, &offered, false).is_ok());
        }
        let error = check_version(&unknown, &offered, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::VersionMismatch);
        assert!(error.message().contains("1999-01-01"));
        let other = ProtocolVersion::V_2024_11_05;
        assert!(check_version(&other, &offered, true).is_err());
    }
}
