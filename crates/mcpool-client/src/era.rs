//! Which era a server speaks: what its answer to `server/discover` says, and which of several
//! failures to show.
//!
//! The rules are those of MCP 2026-07-28, "Versioning and Compatibility", and of servers as they
//! are. They are pure functions.

use mcpool_core::{Error, ErrorKind, PeerInfo, ProtocolVersion, Raw, Result, RpcError, Untrusted};
use serde::Deserialize;
use serde_json::Value;

/// The versions that have `initialize`, newest first.
pub(crate) fn legacy_versions() -> impl Iterator<Item = &'static ProtocolVersion> {
    let versions = ProtocolVersion::KNOWN.iter().rev();
    versions.filter(|version| version.has_initialize())
}

/// The versions that have `server/discover`, newest first.
pub(crate) fn modern_versions() -> Vec<ProtocolVersion> {
    let versions = ProtocolVersion::KNOWN.iter().rev();
    versions
        .filter(|version| !version.has_initialize())
        .cloned()
        .collect()
}

/// What was agreed with a server.
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    pub(crate) version: ProtocolVersion,
    pub(crate) peer: PeerInfo,
}

/// What an answer to `server/discover` says.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The server speaks the modern era.
    Modern(Agreement),
    /// The server speaks the modern era, and asks for another version.
    Retry(ProtocolVersion),
    /// The server does not know the question, speaks older versions only, or refuses this question
    /// and perhaps not the other: `initialize`.
    Legacy {
        /// Why, in one line.
        why: String,
        /// The refusal, where it was more than that the question is not known.
        refusal: Option<Error>,
    },
    /// The transport ended: nothing is known, and the probe may be to blame.
    Lost(Error),
    /// Asking otherwise would not help.
    Fatal(Error),
}

impl Verdict {
    fn legacy(why: impl Into<String>) -> Self {
        Self::Legacy {
            why: why.into(),
            refusal: None,
        }
    }
}

/// Judges the outcome of `server/discover`.
///
/// `tried` are the versions that were asked for so far, the current one included; `ours` those
/// that this client would speak.
pub(crate) fn judge(
    outcome: Result<Raw>,
    tried: &[ProtocolVersion],
    ours: &[ProtocolVersion],
) -> Verdict {
    let error = match outcome {
        Ok(result) => return judge_result(&result, ours),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::Rpc => judge_rpc(error, tried, ours),
        ErrorKind::ConnectionLost | ErrorKind::ProcessExited | ErrorKind::Closed => {
            Verdict::Lost(error)
        }
        // Servers are known that refuse this question with whatever status, and good credentials
        // with it, and answer the other. Only a challenge is clear.
        ErrorKind::AuthRequired if error.challenge().is_none() && error.http_status().is_some() => {
            refused(error)
        }
        ErrorKind::HttpStatus
        | ErrorKind::Forbidden
        | ErrorKind::RateLimited
        | ErrorKind::Protocol
        | ErrorKind::TooLarge => refused(error),
        _ => Verdict::Fatal(error),
    }
}

fn refused(error: Error) -> Verdict {
    Verdict::Legacy {
        why: error.message().to_owned(),
        refusal: Some(error),
    }
}

/// The versions that a list names; members that are no text are left out. `None` for what is no
/// list.
fn versions(list: &Value) -> Option<Vec<ProtocolVersion>> {
    let named = list.as_array()?.iter().filter_map(Value::as_str);
    Some(named.map(ProtocolVersion::new).collect())
}

fn judge_result(result: &Raw, ours: &[ProtocolVersion]) -> Verdict {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Discovery {
        supported_versions: Value,
    }
    let discovery: Discovery = result.parse().unwrap_or_default();
    // Mocks and catch-all handlers answer anything with `{}`.
    let Some(supported) = versions(&discovery.supported_versions) else {
        return Verdict::legacy("the answer is not a DiscoverResult");
    };
    match common(ours, &supported) {
        Some(version) => Verdict::Modern(Agreement {
            version,
            peer: PeerInfo::read(result),
        }),
        None => judge_versions(&supported),
    }
}

fn judge_rpc(error: Error, tried: &[ProtocolVersion], ours: &[ProtocolVersion]) -> Verdict {
    let Some(rpc) = error.rpc() else {
        return Verdict::legacy(error.message());
    };
    match rpc.code {
        RpcError::UNSUPPORTED_PROTOCOL_VERSION => {
            let data: Value = rpc
                .data
                .as_ref()
                .and_then(|data| data.parse().ok())
                .unwrap_or_default();
            let supported = data.get("supported").and_then(versions).unwrap_or_default();
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
        _ => Verdict::legacy(error.message()),
    }
}

/// No modern version in common: is there an older one?
fn judge_versions(supported: &[ProtocolVersion]) -> Verdict {
    if legacy_versions().any(|version| supported.contains(version)) {
        return Verdict::legacy("the server names older versions only");
    }
    let named: Vec<&str> = supported.iter().map(ProtocolVersion::as_str).collect();
    let named = if named.is_empty() {
        "none".to_owned()
    } else {
        shown(&named.join(", "))
    };
    Verdict::Fatal(version_mismatch(format!(
        "no protocol version in common (the server names {named})"
    )))
}

/// A version of the server's as it stands in an error.
pub(crate) fn shown(version: &str) -> String {
    Untrusted::line(version).clip(200).to_string()
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
/// one of the modern era; or an answer that is no message, such as the event stream of a server
/// that takes the POST for its GET.
pub(crate) fn suggests_sse(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::HttpStatus => matches!(error.http_status(), Some(400 | 404 | 405)),
        ErrorKind::Rpc => error.rpc().is_some_and(|rpc| !is_modern_code(rpc.code)),
        ErrorKind::Protocol => true,
        _ => false,
    }
}

/// The codes that only a server of the modern era gives (MCP 2026-07-28, "Error Codes").
fn is_modern_code(code: i64) -> bool {
    matches!(
        code,
        RpcError::HEADER_MISMATCH
            | RpcError::MISSING_CLIENT_CAPABILITY
            | RpcError::UNSUPPORTED_PROTOCOL_VERSION
    )
}

/// Of two failures the one that was nearer to success, which is the one to show; of two that were
/// as near, the first.
pub(crate) fn nearer(first: Error, second: Error) -> Error {
    if nearness(&second) > nearness(&first) {
        second
    } else {
        first
    }
}

/// How near to a session a failure was: what a person can mend counts most, then that MCP was
/// spoken, then that something answered.
fn nearness(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::AuthRequired => 9,
        ErrorKind::VersionMismatch => 8,
        ErrorKind::RateLimited => 7,
        ErrorKind::Forbidden => 6,
        ErrorKind::Rpc => 5,
        ErrorKind::HttpStatus => match error.http_status() {
            // What a server says of a path that is none.
            Some(400 | 404 | 405) => 1,
            _ => 3,
        },
        ErrorKind::Protocol | ErrorKind::TooLarge => 2,
        ErrorKind::ProcessExited | ErrorKind::ConnectionLost | ErrorKind::Timeout => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw {
        Raw::from_text(text.to_owned()).unwrap()
    }

    fn of(outcome: Result<Raw>) -> Verdict {
        let ours = modern_versions();
        judge(outcome, &ours[..1], &ours)
    }

    fn rpc(code: i64, data: Option<&str>) -> Error {
        let error = RpcError::new(code, "no");
        Error::from_rpc(match data {
            Some(data) => error.with_data(raw(data)),
            None => error,
        })
    }

    fn status(kind: ErrorKind, status: u16) -> Error {
        Error::new(kind, format!("HTTP {status}")).with_http_status(status)
    }

    #[test]
    fn only_a_list_of_versions_is_a_discovery() {
        for text in ["{}", "[]", "null", r#"{"supportedVersions":"2026-07-28"}"#] {
            assert!(
                matches!(of(Ok(raw(text))), Verdict::Legacy { refusal: None, .. }),
                "{text}"
            );
        }
        let odd = r#"{"supportedVersions":[5,"2026-07-28"],"capabilities":{"tools":true}}"#;
        match of(Ok(raw(odd))) {
            Verdict::Modern(Agreement { version, peer }) => {
                assert_eq!(version, ProtocolVersion::V_2026_07_28);
                assert!(peer.capabilities.tools && !peer.odd.is_empty());
            }
            other => panic!("{other:?}"),
        }
        let old = r#"{"supportedVersions":["2025-06-18"]}"#;
        assert!(matches!(of(Ok(raw(old))), Verdict::Legacy { .. }));
        for none in [
            r#"{"supportedVersions":[]}"#,
            r#"{"supportedVersions":["2099"]}"#,
        ] {
            assert!(matches!(of(Ok(raw(none))), Verdict::Fatal(_)), "{none}");
        }
    }

    #[test]
    fn any_refusal_but_a_clear_challenge_leaves_initialize() {
        let refusals = [
            status(ErrorKind::HttpStatus, 400),
            status(ErrorKind::HttpStatus, 500),
            status(ErrorKind::HttpStatus, 501),
            status(ErrorKind::Forbidden, 403),
            status(ErrorKind::AuthRequired, 401),
            status(ErrorKind::RateLimited, 429),
            Error::new(ErrorKind::Protocol, "HTML"),
        ];
        for error in refusals {
            let verdict = of(Err(error.clone()));
            assert!(
                matches!(&verdict, Verdict::Legacy { refusal: Some(refusal), .. }
                    if refusal.kind() == error.kind()),
                "{verdict:?}"
            );
        }
        let clear = status(ErrorKind::AuthRequired, 401).with_challenge("Bearer");
        // Known before anything was sent.
        let untold = Error::new(ErrorKind::AuthRequired, "no token");
        let dead = Error::new(ErrorKind::Connect, "refused");
        for error in [clear, untold, dead, rpc(-32021, None), rpc(-32020, None)] {
            assert!(matches!(of(Err(error)), Verdict::Fatal(_)));
        }
        let gone = Error::new(ErrorKind::ProcessExited, "gone");
        assert!(matches!(of(Err(gone)), Verdict::Lost(_)));
    }

    #[test]
    fn a_version_that_is_named_is_asked_for_once_more_and_not_twice() {
        let ours = modern_versions();
        let named = || Err(rpc(-32022, Some(r#"{"supported":["2026-07-28"]}"#)));
        assert!(matches!(
            judge(named(), &ours[..1], &ours),
            Verdict::Retry(_)
        ));
        let twice = [ours[0].clone(), ours[0].clone()];
        assert!(matches!(judge(named(), &twice, &ours), Verdict::Fatal(_)));
        for data in [None, Some("5"), Some(r#"{"supported":7}"#)] {
            assert!(matches!(of(Err(rpc(-32022, data))), Verdict::Fatal(_)));
        }
    }

    #[test]
    fn the_failure_that_was_nearest_to_success_is_shown() {
        let not_found = || status(ErrorKind::HttpStatus, 404);
        for (first, second, shown) in [
            (not_found(), status(ErrorKind::AuthRequired, 401), 401),
            (status(ErrorKind::Forbidden, 403), not_found(), 403),
            (status(ErrorKind::HttpStatus, 500), not_found(), 500),
            (not_found(), status(ErrorKind::HttpStatus, 405), 404),
        ] {
            assert_eq!(nearer(first, second).http_status(), Some(shown));
        }
        let refused = Error::new(ErrorKind::Connect, "refused");
        assert_eq!(nearer(refused, rpc(-1, None)).kind(), ErrorKind::Rpc);
    }
}
