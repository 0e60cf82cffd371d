//! Sessions of older clients: a sealed token that holds all there is to know, so that no replica
//! has to remember it (MCP 2025-11-25, "Session Management").

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mcpool_core::{ProtocolVersion, Raw, RawObject, Result};
use serde::{Deserialize, Serialize};

use crate::{replica::Replica, scope::Scope, seal::SealingKeys};

/// What a session token is sealed for.
const PURPOSE: &str = "mcpool session 1";

/// Bytes of a client's capabilities that a token carries word for word. Of longer ones only the
/// names are kept.
const MAX_CAPABILITIES: usize = 768;

/// What was agreed in `initialize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Distinguishes sessions.
    #[serde(rename = "i")]
    pub(crate) id: String,
    #[serde(rename = "v")]
    pub(crate) version: ProtocolVersion,
    /// What the client can be asked, as far as it concerns servers.
    #[serde(rename = "c")]
    pub(crate) capabilities: Arc<RawObject>,
    /// Whose it is.
    #[serde(rename = "p")]
    principal: Option<String>,
    /// What is served.
    #[serde(rename = "s")]
    scope: String,
    /// Seconds of the Unix clock.
    #[serde(rename = "e")]
    expires: u64,
    /// Which replica keeps what is kept of it, where replicas know each other.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) replica: Option<Replica>,
}

impl Session {
    /// A session that begins now.
    pub(crate) fn begin(
        version: ProtocolVersion,
        capabilities: &RawObject,
        principal: Option<&str>,
        scope: &Scope,
        lifetime: Duration,
        replica: Option<Replica>,
    ) -> Self {
        Self {
            id: format!("{:032x}", rand::random::<u128>()),
            version,
            capabilities: Arc::new(kept(capabilities)),
            principal: principal.map(str::to_owned),
            scope: scope.key(),
            expires: seconds(SystemTime::now()).saturating_add(lifetime.as_secs()),
            replica,
        }
    }

    /// The token: visible ASCII, at most 2 KiB for a client that declares what is usual.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn seal(&self, keys: &SealingKeys) -> Result<String> {
        keys.seal(PURPOSE, Raw::of(self)?.get().as_bytes())
    }

    /// The session of a token. `None` for one that was changed, has expired, or was made for
    /// another principal, with another key, or for another part of the pool.
    pub(crate) fn open(
        token: &str,
        keys: &SealingKeys,
        principal: Option<&str>,
        scope: &Scope,
    ) -> Option<Self> {
        let session: Self = serde_json::from_slice(&keys.open(PURPOSE, token)?).ok()?;
        let is_theirs = session.principal.as_deref() == principal
            && session.scope == scope.key()
            && session.expires > seconds(SystemTime::now());
        is_theirs.then_some(session)
    }
}

/// What servers may ask a client for, out of everything that it declares.
pub(crate) fn askable(capabilities: &RawObject) -> RawObject {
    let mut askable = capabilities.clone();
    askable.retain(|name| matches!(name, "elicitation" | "sampling" | "roots"));
    askable
}

/// The same, of a bounded length: of longer ones the names alone.
pub(crate) fn kept(capabilities: &RawObject) -> RawObject {
    let kept = askable(capabilities);
    let length: usize = kept.iter().map(|(_, value)| value.len()).sum();
    if length <= MAX_CAPABILITIES {
        return kept;
    }
    let mut names = RawObject::new();
    for (name, _) in kept.iter() {
        names.insert(name, Raw::empty_object());
    }
    names
}

/// The seconds of the Unix clock.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use mcpool_core::ServerName;

    use super::*;

    fn begin(capabilities: &str, lifetime: u64) -> Session {
        let capabilities = Raw::from_text(capabilities.to_owned()).unwrap();
        Session::begin(
            ProtocolVersion::V_2025_06_18,
            &RawObject::parse(&capabilities).unwrap(),
            Some("ada"),
            &Scope::Pool,
            Duration::from_secs(lifetime),
            Some(Replica::new(&format!("http://{}.example:7332", "h".repeat(150))).unwrap()),
        )
    }

    #[test]
    fn a_token_opens_for_its_principal_and_scope_until_it_expires() {
        let keys = SealingKeys::random();
        let session = begin(r#"{"elicitation":{"form":{}},"tasks":{}}"#, 60);
        assert!(session.capabilities.get("tasks").is_none());
        let token = session.seal(&keys).unwrap();
        let open =
            |principal: Option<&str>, scope: &Scope| Session::open(&token, &keys, principal, scope);
        assert_eq!(open(Some("ada"), &Scope::Pool), Some(session));
        assert_eq!(open(Some("eve"), &Scope::Pool), None);
        assert_eq!(open(None, &Scope::Pool), None);
        let other = Scope::Server(ServerName::new("files").unwrap());
        assert_eq!(open(Some("ada"), &other), None);
        let foreign = Session::open(&token, &SealingKeys::random(), Some("ada"), &Scope::Pool);
        assert_eq!(foreign, None);
        let expired = begin("{}", 0).seal(&keys).unwrap();
        assert_eq!(
            Session::open(&expired, &keys, Some("ada"), &Scope::Pool),
            None
        );
    }

    #[test]
    fn a_token_stays_short() {
        let keys = SealingKeys::random();
        let long = format!(r#"{{"sampling":{{"x":"{}"}}}}"#, "y".repeat(100_000));
        let session = begin(&long, 60);
        assert_eq!(
            session.capabilities.get("sampling"),
            Some(&Raw::empty_object())
        );
        assert!(session.seal(&keys).unwrap().len() < 2_048);
        let most = format!(r#"{{"sampling":{{"x":"{}"}}}}"#, "y".repeat(750));
        assert!(begin(&most, 60).seal(&keys).unwrap().len() <= 2_048);
    }
}
