//! The two eras of the protocol as a server speaks them: what a request says of its client, and
//! how a result looks to a client of either. Pure.
//!
//! Up to MCP 2025-11-25 a client says once, in `initialize`, what it can do; from 2026-07-28 on
//! each request says it in `_meta`.

use mcpool_core::{LogLevel, ProtocolVersion, Raw, RawObject, Result, RpcError};
use serde_json::json;

/// The member of `_meta` that says the version, from MCP 2026-07-28 on.
pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The one that says what the client can do.
pub(crate) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The one that asks for log messages.
pub(crate) const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// The one that says which listen stream a notification belongs to.
pub(crate) const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// The beginning of those that belong to one hop.
const RESERVED: &str = "io.modelcontextprotocol/";

/// What one request says of its client, from MCP 2026-07-28 on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    pub(crate) capabilities: RawObject,
    pub(crate) log_level: Option<LogLevel>,
}

/// The `_meta` of parameters.
pub(crate) fn meta(params: Option<&Raw>) -> RawObject {
    let params = params.map(RawObject::parse).and_then(Result::ok);
    let meta = params.as_ref().and_then(|params| params.get("_meta"));
    meta.and_then(|meta| RawObject::parse(meta).ok())
        .unwrap_or_default()
}

/// The version that the `_meta` of a request names.
pub(crate) fn version(meta: &RawObject) -> Option<String> {
    meta.get(META_VERSION)?.parse().ok()
}

/// Reads what a request of MCP 2026-07-28 must say, for a server that speaks these versions.
///
/// # Errors
/// −32602 for what is missing, −32022 for another version (MCP 2026-07-28, "`_meta`").
pub(crate) fn declared(
    meta: &RawObject,
    speaks: &[ProtocolVersion],
) -> std::result::Result<Declared, RpcError> {
    let missing = |name: &str| {
        RpcError::new(
            RpcError::INVALID_PARAMS,
            format!("`_meta` must hold `{name}` from MCP 2026-07-28 on"),
        )
    };
    let version = version(meta).ok_or_else(|| missing(META_VERSION))?;
    if ProtocolVersion::new(version.clone()).has_initialize()
        || !speaks.iter().any(|known| known.as_str() == version)
    {
        return Err(unsupported(&version, speaks));
    }
    let capabilities = meta.get(META_CAPABILITIES).map(RawObject::parse);
    let Some(Ok(capabilities)) = capabilities else {
        return Err(missing(META_CAPABILITIES));
    };
    Ok(Declared {
        capabilities,
        log_level: meta.get(META_LOG_LEVEL).and_then(LogLevel::read),
    })
}

/// The refusal of a version.
pub(crate) fn unsupported(requested: &str, speaks: &[ProtocolVersion]) -> RpcError {
    let error = RpcError::new(
        RpcError::UNSUPPORTED_PROTOCOL_VERSION,
        "this protocol version is not supported",
    );
    match Raw::of(&json!({"supported": speaks, "requested": requested})) {
        Ok(data) => error.with_data(data),
        Err(_) => error,
    }
}

/// The version of a session: what the client asks for where it is spoken, else the newest
/// (MCP 2025-11-25, "Version Negotiation").
pub(crate) fn negotiate(asked: &str, speaks: &[ProtocolVersion]) -> ProtocolVersion {
    let asked = ProtocolVersion::new(asked);
    if asked.has_initialize() && speaks.contains(&asked) {
        asked
    } else {
        ProtocolVersion::LATEST_WITH_INITIALIZE
    }
}

/// How long a client may keep a result, and whether others may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    /// It is none that is kept.
    No,
    /// It is kept for the client alone, for so many milliseconds where the server did not say.
    Private(u64),
}

/// A result of an upstream, or our own, as a client of MCP 2026-07-28 is to get it: with its
/// type, with who serves it, and without what belongs to the other hop.
pub(crate) fn to_modern(result: Raw, server_info: &Raw, cache: Cache) -> Result<Raw> {
    let text = result.get();
    if cache == Cache::No && !may_hold(text, &["_meta", "resultType"]) {
        // Nearly every result: nothing to change inside, so what is missing can be put in front.
        if let Some(members) = text.strip_prefix('{') {
            let members = members.trim_start();
            let comma = if members.starts_with('}') { "" } else { "," };
            return Raw::from_text(format!(
                r#"{{"resultType":"complete","_meta":{{"{RESERVED}serverInfo":{}}}{comma}{members}"#,
                server_info.get()
            ));
        }
    }
    let mut object = RawObject::parse(&result)?;
    if object.get("resultType").is_none() {
        object.insert("resultType", Raw::of("complete")?);
    }
    let mut meta = without_reserved(&object);
    meta.insert(format!("{RESERVED}serverInfo"), server_info.clone());
    object.insert("_meta", meta.to_raw()?);
    if let Cache::Private(ttl) = cache {
        if object.get("ttlMs").is_none() {
            object.insert("ttlMs", Raw::of(&ttl)?);
        }
        // What one client is shown depends on who it is.
        object.insert("cacheScope", Raw::of("private")?);
    }
    object.to_raw()
}

/// A result as a client up to MCP 2025-11-25 is to get it.
pub(crate) fn to_legacy(result: Raw) -> Result<Raw> {
    if !may_hold(
        result.get(),
        &["resultType", "ttlMs", "cacheScope", RESERVED],
    ) {
        return Ok(result);
    }
    let mut object = RawObject::parse(&result)?;
    object.retain(|name| !matches!(name, "resultType" | "ttlMs" | "cacheScope"));
    if object.get("_meta").is_some() {
        let meta = without_reserved(&object);
        if meta.is_empty() {
            object.remove("_meta");
        } else {
            object.insert("_meta", meta.to_raw()?);
        }
    }
    object.to_raw()
}

/// The `_meta` of an object without the members that belong to one hop.
pub(crate) fn without_reserved(object: &RawObject) -> RawObject {
    let meta = object
        .get("_meta")
        .and_then(|meta| RawObject::parse(meta).ok());
    let mut meta = meta.unwrap_or_default();
    meta.retain(|name| !name.starts_with(RESERVED));
    meta
}

/// Whether a text may hold a member of one of these names: said with an escape, it may be any.
fn may_hold(text: &str, names: &[&str]) -> bool {
    let holds = |name: &str| memchr::memmem::find(text.as_bytes(), name.as_bytes()).is_some();
    holds("\\u") || names.iter().any(|name| holds(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw {
        Raw::from_text(text.to_owned()).unwrap()
    }

    #[test]
    fn each_request_of_the_newer_era_says_what_its_client_can_do() {
        let read = |text: &str| {
            let params = raw(text);
            declared(&meta(Some(&params)), ProtocolVersion::KNOWN)
        };
        let good = read(
            r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
                "io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},
                "io.modelcontextprotocol/logLevel":"error"}}"#,
        )
        .unwrap();
        assert!(good.capabilities.get("elicitation").is_some());
        assert_eq!(good.log_level, Some(LogLevel::Error));
        let code = |text: &str| read(text).unwrap_err().code;
        for missing in [
            "{}",
            "[]",
            r#"{"_meta":{}}"#,
            r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}"#,
            r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#,
        ] {
            assert_eq!(code(missing), RpcError::INVALID_PARAMS, "{missing}");
        }
        for version in ["v9", "2025-11-25", "2099-01-01"] {
            let text = format!(r#"{{"_meta":{{"{META_VERSION}":"{version}"}}}}"#);
            assert_eq!(code(&text), RpcError::UNSUPPORTED_PROTOCOL_VERSION);
            let data = read(&text).unwrap_err().data.unwrap();
            assert!(data.get().contains(version), "{}", data.get());
        }
    }

    #[test]
    fn a_session_gets_the_version_it_asks_for_or_the_newest() {
        let http = &ProtocolVersion::KNOWN[1..];
        assert_eq!(negotiate("2025-03-26", http), ProtocolVersion::V_2025_03_26);
        for other in ["2024-11-05", "2026-07-28", "1999-01-01", ""] {
            assert_eq!(
                negotiate(other, http),
                ProtocolVersion::V_2025_11_25,
                "{other}"
            );
        }
    }

    #[test]
    fn a_result_gets_what_the_newer_era_wants_and_keeps_its_text() {
        let info = raw(r#"{"name":"g"}"#);
        let modern =
            |text: &str, cache| to_modern(raw(text), &info, cache).unwrap().get().to_owned();
        let front = r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"g"}}"#;
        assert_eq!(modern("{}", Cache::No), format!("{front}}}"));
        assert_eq!(
            modern(r#"{"n": 1e400}"#, Cache::No),
            format!(r#"{front},"n": 1e400}}"#)
        );
        assert_eq!(
            modern(
                r#"{"resultType":"input_required","_meta":{"a/b":1,"io.modelcontextprotocol/serverInfo":2}}"#,
                Cache::No
            ),
            r#"{"resultType":"input_required","_meta":{"a/b":1,"io.modelcontextprotocol/serverInfo":{"name":"g"}}}"#
        );
        assert_eq!(
            modern(
                r#"{"contents":[],"ttlMs":7,"cacheScope":"public"}"#,
                Cache::Private(0)
            ),
            r#"{"contents":[],"ttlMs":7,"cacheScope":"private","resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"g"}}}"#
        );
    }

    #[test]
    fn an_older_client_gets_nothing_of_the_newer_era() {
        let legacy = |text: &str| to_legacy(raw(text)).unwrap().get().to_owned();
        let plain = r#"{"content": [], "x": 1.0}"#;
        assert_eq!(legacy(plain), plain);
        assert_eq!(
            legacy(
                r#"{"resultType":"complete","ttlMs":1,"cacheScope":"x","_meta":{"io.modelcontextprotocol/serverInfo":1},"a":1.0}"#
            ),
            r#"{"a":1.0}"#
        );
        assert_eq!(
            legacy(r#"{"_meta":{"t":1,"io.modelcontextprotocol/serverInfo":1}}"#),
            r#"{"_meta":{"t":1}}"#
        );
    }
}
