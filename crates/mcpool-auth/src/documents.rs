//! The metadata documents that discovery reads, checked as they come in, before rmcp follows what
//! they say.

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::{
    binding::Binding,
    http_failure::HttpFailure,
    shown::{redacted, shorten},
};

/// Of a longer list of authorization servers the rest is not asked.
const MAX_LISTED: usize = 8;

/// Of a longer list of scopes the rest is not asked for.
const MAX_SCOPES: usize = 200;

/// The parts of protected-resource metadata (RFC 9728) that rmcp reads and does not give out.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ResourceMetadata {
    pub(crate) resource: String,
    #[serde(default)]
    pub(crate) scopes_supported: Vec<String>,
    #[serde(default)]
    dpop_bound_access_tokens_required: bool,
    #[serde(default)]
    dpop_signing_alg_values_supported: Vec<String>,
}

impl ResourceMetadata {
    /// Whether the server takes no other tokens than those that are bound to a key.
    pub(crate) fn needs_dpop(&self) -> bool {
        self.dpop_bound_access_tokens_required
    }

    /// Whether the server takes tokens that are bound to a key.
    pub(crate) fn takes_dpop(&self) -> bool {
        self.dpop_bound_access_tokens_required
            || self
                .dpop_signing_alg_values_supported
                .iter()
                .any(|algorithm| algorithm == crate::dpop::ALGORITHM)
    }
}

/// What a document is, as far as it is one of those that count here.
pub(crate) enum Document {
    /// A server's own, with the text that may be followed.
    Resource(Box<ResourceMetadata>, Vec<u8>),
    /// Another one, as it came.
    Other(Vec<u8>),
}

/// Checks a document that was read at a place.
///
/// Of the authorization servers that a server lists, only the bound one is left, and at most 8
/// otherwise. The metadata of an authorization server must lie at the origin of the issuer that
/// it names: who may say where codes and secrets are sent is the issuer (RFC 8414, section 3.3).
///
/// # Errors
/// When it leads to another authorization server than the bound one, or speaks for somebody
/// else.
pub(crate) fn check(
    place: &Url,
    body: Vec<u8>,
    binding: &Binding,
) -> Result<Document, HttpFailure> {
    let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return Ok(Document::Other(body));
    };
    if let Some(issuer) = fields.get("issuer").and_then(Value::as_str)
        && fields.contains_key("token_endpoint")
        && !Url::parse(issuer).is_ok_and(|issuer| issuer.origin() == place.origin())
    {
        return Err(HttpFailure::Refused(format!(
            "the metadata at {} says that it is of {} (RFC 8414)",
            redacted(place),
            shorten(issuer)
        )));
    }
    // Also one that passes for both: rmcp reads it as it likes.
    if !is_resource(&fields) {
        return Ok(Document::Other(body));
    }
    let listed = listed(&mut fields);
    let mut chosen = binding
        .choose(&listed)
        .map_err(|other| HttpFailure::OtherIssuer(Box::new(other)))?;
    chosen.truncate(MAX_LISTED);
    fields.insert("authorization_servers".to_owned(), chosen.into());
    if let Some(Value::Array(scopes)) = fields.get_mut("scopes_supported")
        && scopes.len() > MAX_SCOPES
    {
        tracing::warn!(
            place = %redacted(place),
            listed = scopes.len(),
            most = MAX_SCOPES,
            "the server lists more scopes than are asked for; name the wanted ones in `scopes`"
        );
        scopes.truncate(MAX_SCOPES);
    }
    let document = Value::Object(fields);
    let text = document.to_string().into_bytes();
    Ok(match ResourceMetadata::deserialize(document) {
        Ok(metadata) => Document::Resource(Box::new(metadata), text),
        Err(_) => Document::Other(text),
    })
}

fn is_resource(fields: &Map<String, Value>) -> bool {
    fields.contains_key("authorization_servers") || fields.contains_key("authorization_server")
}

/// The authorization servers that a document lists, the draft's single one among them.
fn listed(fields: &mut Map<String, Value>) -> Vec<String> {
    let single = fields.remove("authorization_server");
    let list = match fields.remove("authorization_servers") {
        Some(Value::Array(list)) => list,
        // Some servers write the one as a text.
        Some(text @ Value::String(_)) => vec![text],
        _ => Vec::new(),
    };
    let mut listed: Vec<String> = Vec::new();
    for server in single.into_iter().chain(list) {
        if let Value::String(server) = server
            && !listed.contains(&server)
        {
            listed.push(server);
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(place: &str, body: &str, binding: &Binding) -> Result<Value, HttpFailure> {
        let place = place.parse().unwrap();
        check(&place, body.into(), binding).map(|document| {
            let text = match document {
                Document::Resource(_, text) | Document::Other(text) => text,
            };
            serde_json::from_slice(&text).unwrap_or_default()
        })
    }

    #[test]
    fn only_the_bound_authorization_server_is_left() {
        let place = "https://mcp.example/.well-known/oauth-protected-resource";
        let body = r#"{"resource":"https://mcp.example/","authorization_server":"https://evil.example",
            "authorization_servers":["https://evil.example","https://as.example"],"x":1}"#;
        let bound = Binding::Issuer("https://as.example".to_owned());
        let document = checked(place, body, &bound).unwrap();
        assert_eq!(
            document["authorization_servers"],
            serde_json::json!(["https://as.example"])
        );
        assert!(document.get("authorization_server").is_none());
        assert_eq!(document["x"], 1);
        let open = checked(place, body, &Binding::None).unwrap();
        assert_eq!(open["authorization_servers"].as_array().unwrap().len(), 2);
        let other = Binding::Login("https://third.example".to_owned());
        // Also where the document passes for one of both kinds.
        let both = body.replace(r#""x":1"#, r#""token_endpoint":"https://mcp.example/""#);
        let failure = checked(place, &both, &other).unwrap_err();
        assert!(matches!(failure, HttpFailure::OtherIssuer(_)), "{failure}");
        let failure = checked(place, body, &other).unwrap_err();
        let HttpFailure::OtherIssuer(change) = failure else {
            panic!("{failure}");
        };
        assert_eq!(change.found, "https://evil.example");
        assert!(change.by_login);
    }

    #[test]
    fn lists_are_bounded() {
        let place = "https://mcp.example/.well-known/oauth-protected-resource";
        let servers: Vec<String> = (0..10_000)
            .map(|n| format!("https://as-{n}.example"))
            .collect();
        let scopes: Vec<String> = (0..10_000).map(|n| format!("s{n}")).collect();
        let body = serde_json::json!({
            "resource": "https://mcp.example",
            "authorization_servers": servers,
            "scopes_supported": scopes,
        });
        let document = checked(place, &body.to_string(), &Binding::None).unwrap();
        let len = |field: &str| document[field].as_array().unwrap().len();
        assert_eq!(len("authorization_servers"), MAX_LISTED);
        assert_eq!(len("scopes_supported"), MAX_SCOPES);
    }

    #[test]
    fn metadata_speaks_for_its_own_origin_only() {
        let body = |issuer: &str| {
            format!(r#"{{"issuer":"{issuer}","token_endpoint":"https://evil.example/token"}}"#)
        };
        let place = "https://evil.example/x/.well-known/anything";
        for issuer in [
            "https://as.example",
            "http://evil.example",
            "evil.example",
            "",
        ] {
            let failure = checked(place, &body(issuer), &Binding::None).unwrap_err();
            assert!(matches!(failure, HttpFailure::Refused(_)), "{failure}");
        }
        checked(place, &body("https://evil.example/x"), &Binding::None).unwrap();
        // What is no metadata is nobody's business here.
        for body in ["<html>", "[]", r#"{"issuer":"https://as.example"}"#] {
            checked(place, body, &Binding::None).unwrap();
        }
    }
}
