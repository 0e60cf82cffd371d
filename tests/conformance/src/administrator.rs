//! Who registers a client somewhere knows where that is, and says so in its settings. The suite
//! hands out credentials without it: so it is looked up at the server under test, once, before the
//! client starts.

use serde_json::Value;
use url::Url;

use crate::plain;

/// The issuer that the server names in its metadata (RFC 9728), at its usual two places.
pub(crate) async fn issuer_of(server: &str) -> Option<String> {
    let url = Url::parse(server).ok()?;
    let well_known = "/.well-known/oauth-protected-resource";
    for path in [format!("{well_known}{}", url.path()), well_known.to_owned()] {
        let answer = plain::get(url.join(&path).ok()?.as_str()).await.ok()?;
        let metadata = answer
            .split_once("\n\n")
            .and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
        if let Some(issuer) = metadata
            .as_ref()
            .and_then(|metadata| metadata["authorization_servers"].get(0)?.as_str())
        {
            return Some(issuer.to_owned());
        }
    }
    None
}
