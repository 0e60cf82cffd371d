//! Where messages are POSTed to.

use mcpool_core::{Error, ErrorKind, HttpSpec, Result};
use url::Url;

/// Resolves the data of the `endpoint` event against the stream's URL, and insists on the same
/// origin: a server must not make the client send messages and credentials to somebody else.
pub(crate) fn resolve(stream: &Url, endpoint: &str) -> Result<Url> {
    let url = stream.join(endpoint.trim()).map_err(|error| {
        Error::new(
            ErrorKind::Protocol,
            "the server's endpoint event holds no valid URL",
        )
        .with_source(error)
    })?;
    if url.origin() != stream.origin() {
        return Err(Error::new(
            ErrorKind::Protocol,
            format!(
                "the server's endpoint event points to another origin, {}, which is refused",
                HttpSpec::new(url.as_str()).redacted_url()
            ),
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoints_stay_within_the_origin() {
        let stream: Url = "https://example.org:8443/mcp/sse?key=1".parse().unwrap();
        for (endpoint, want) in [
            (
                "/messages?s=1",
                Some("https://example.org:8443/messages?s=1"),
            ),
            ("messages", Some("https://example.org:8443/mcp/messages")),
            ("?s=2", Some("https://example.org:8443/mcp/sse?s=2")),
            (
                "https://example.org:8443/x\n",
                Some("https://example.org:8443/x"),
            ),
            ("https://example.org/x", None),
            ("http://example.org:8443/x", None),
            ("https://evil.example:8443/x", None),
            ("//evil.example/x", None),
            ("javascript:alert(1)", None),
            ("http://[", None),
        ] {
            let url = resolve(&stream, endpoint);
            assert_eq!(url.as_ref().ok().map(Url::as_str), want, "{endpoint}");
            if let Err(error) = url {
                assert_eq!(error.kind(), ErrorKind::Protocol);
            }
        }
    }
}
