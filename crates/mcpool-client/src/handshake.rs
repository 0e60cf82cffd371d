//! The two ways to begin a session: `server/discover`, and `initialize`.

use mcpool_core::{
    Delivery, Error, ErrorKind, Notification, PeerInfo, ProtocolVersion, Raw, RawObject,
    RequestClass, Result, WireRequest,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    clock::Clock,
    era::{self, Agreement, Verdict},
    evidence::Recorder,
    link::{Ask, Link, META_VERSION},
};

/// Who the client says it is, and what it offers.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) info: Raw,
    pub(crate) capabilities: Raw,
}

impl Identity {
    /// The `_meta` of every request from MCP 2026-07-28 on.
    pub(crate) fn meta(&self, version: &ProtocolVersion) -> Result<RawObject> {
        let mut meta = RawObject::new();
        meta.insert(META_VERSION, Raw::of(version)?);
        meta.insert("io.modelcontextprotocol/clientInfo", self.info.clone());
        meta.insert(
            "io.modelcontextprotocol/clientCapabilities",
            self.capabilities.clone(),
        );
        Ok(meta)
    }
}

/// Asks `server/discover`, again with another version where the server wants one.
///
/// Never gives [`Verdict::Retry`].
pub(crate) async fn discover(
    link: &Link,
    identity: &Identity,
    ours: &[ProtocolVersion],
    recorder: &Recorder,
) -> Verdict {
    let mut tried = Vec::new();
    let mut next = ours.first().cloned();
    while let Some(version) = next.take() {
        let attempt = recorder.begin(link.kind(), "server/discover");
        let meta = match identity.meta(&version) {
            Ok(meta) => meta,
            Err(error) => return Verdict::Fatal(error),
        };
        let wire = WireRequest::new("server/discover", None)
            .with_meta(Some(&meta))
            .with_version(Some(&version))
            .with_class(RequestClass::Handshake);
        let answer = link
            .ask(Ask::new(wire), &Clock::stopped(), "server/discover")
            .await;
        tried.push(version);
        match era::judge(answer, &tried, ours) {
            Verdict::Retry(version) => {
                attempt.failed(format!("the server wants version {version}"));
                next = Some(version);
            }
            verdict => {
                match &verdict {
                    Verdict::Modern(agreed) => attempt.succeeded(agreed.version.to_string()),
                    Verdict::Legacy { why, .. } => attempt.failed(why.clone()),
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

/// Asks `initialize`, and checks the version that the server chose.
///
/// With `exact`, no other version than the offered one will do.
pub(crate) async fn initialize(
    link: &Link,
    identity: &Identity,
    offered: &ProtocolVersion,
    exact: bool,
    recorder: &Recorder,
) -> Result<Agreement> {
    let attempt = recorder.begin(link.kind(), "initialize");
    let mut params = RawObject::new();
    params.insert("protocolVersion", Raw::of(offered)?);
    params.insert("capabilities", identity.capabilities.clone());
    params.insert("clientInfo", identity.info.clone());
    let params = params.to_raw()?;
    let wire = WireRequest::new("initialize", Some(&params)).with_class(RequestClass::Handshake);
    let answer = link
        .ask(Ask::new(wire), &Clock::stopped(), "initialize")
        .await;
    let outcome = match answer {
        Ok(result) => read(&result, offered).and_then(|agreed| {
            check(&agreed.version, offered, exact)?;
            Ok(agreed)
        }),
        Err(error) => Err(error),
    };
    match &outcome {
        Ok(agreed) => attempt.succeeded(agreed.version.to_string()),
        Err(error) => attempt.failed(error.message().to_owned()),
    }
    outcome
}

/// Notifies the server that the session has begun.
pub(crate) async fn confirm(link: &Link) -> Result<()> {
    let initialized = Notification::new("notifications/initialized", None);
    let sent = link.transport.notify(&initialized).await;
    sent.map_err(|error| link.explain(error))
}

/// Reads an answer to `initialize`. What this client can do without may be missing or of another
/// type; a server that says who it is, and not which version it chose, has taken the offered one.
fn read(result: &Raw, offered: &ProtocolVersion) -> Result<Agreement> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Answer {
        protocol_version: Value,
        capabilities: Value,
        server_info: Value,
    }
    let unreadable = |why: &str| {
        Error::new(
            ErrorKind::Protocol,
            format!("the answer is not an InitializeResult: {why}"),
        )
        .with_delivery(Delivery::Answered)
        .with_raw(result.clone())
    };
    let answer: Answer = result
        .parse()
        .map_err(|error| unreadable(error.message()))?;
    let mut peer = PeerInfo::read(result);
    let version = match answer.protocol_version {
        Value::String(version) => ProtocolVersion::new(version),
        Value::Null if !answer.capabilities.is_null() || !answer.server_info.is_null() => {
            peer.odd.push("there is no protocolVersion".to_owned());
            offered.clone()
        }
        Value::Null => return Err(unreadable("there is no protocolVersion")),
        other => ProtocolVersion::new(other.to_string()),
    };
    Ok(Agreement { version, peer })
}

fn check(chosen: &ProtocolVersion, offered: &ProtocolVersion, exact: bool) -> Result<()> {
    let shown = era::shown(chosen.as_str());
    if exact && chosen != offered {
        return Err(era::version_mismatch(format!(
            "the server chose protocol version {shown}, but {offered} is pinned"
        )));
    }
    if !chosen.is_known() {
        return Err(era::version_mismatch(format!(
            "the server chose protocol version {shown}, which this client does not know \
             (it offered {offered})"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw {
        Raw::from_text(text.to_owned()).unwrap()
    }

    #[test]
    fn only_known_versions_will_do() {
        let offered = ProtocolVersion::LATEST_WITH_INITIALIZE;
        for version in ProtocolVersion::KNOWN {
            assert!(check(version, &offered, false).is_ok());
        }
        let error = check(&ProtocolVersion::new("1999-01-01"), &offered, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::VersionMismatch);
        assert!(error.message().contains("1999-01-01"));
        assert!(check(&ProtocolVersion::V_2024_11_05, &offered, true).is_err());
        let steers = check(&ProtocolVersion::new("\u{1b}[2J"), &offered, false).unwrap_err();
        assert!(!steers.message().contains('\u{1b}'));
    }

    #[test]
    fn what_is_not_needed_is_not_required() {
        let offered = ProtocolVersion::V_2025_11_25;
        let version = |text: &str| read(&raw(text), &offered).map(|agreed| agreed.version);
        for text in [
            r#"{"protocolVersion":"2025-06-18"}"#,
            r#"{"protocolVersion":"2025-06-18","capabilities":[],"serverInfo":"x"}"#,
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":true},"instructions":5}"#,
        ] {
            assert_eq!(
                version(text).unwrap(),
                ProtocolVersion::V_2025_06_18,
                "{text}"
            );
        }
        assert_eq!(version(r#"{"capabilities":{}}"#).unwrap(), offered);
        let number = version(r#"{"protocolVersion":2025}"#).unwrap();
        assert!(!number.is_known());
        for text in ["{}", "[]", "null", "\"ok\"", r#"{"ok":true}"#] {
            let error = version(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{text}");
            assert_eq!(error.delivery(), Delivery::Answered);
        }
    }
}
