//! Who may send requests to the gateway by which name: the check against web pages that reach it
//! through a name of their own (DNS rebinding).

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, Version, header},
    response::Response,
};
use mcpool_core::{Raw, RpcError};

use super::{Front, forward::Hopped, reply};

/// The names by which the gateway may be reached: those of this machine, and those that were added.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowed(Vec<String>);

impl Allowed {
    /// Adds a name, with a port or for every port.
    pub(super) fn add(&mut self, host: String) {
        self.0.push(host.to_ascii_lowercase());
    }

    /// Whether a `Host` may be served.
    fn host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let name = name_of(&host);
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
            || self
                .0
                .iter()
                .any(|allowed| *allowed == host || allowed == name)
    }

    /// The header for which a request may not be served, if there is one. Only browsers send an
    /// `Origin`.
    fn barred(&self, headers: &HeaderMap, authority: Option<&str>) -> Option<&'static str> {
        // One at most (RFC 9112, section 3.2), beside the URI, where HTTP/2 has it.
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match hosts.next().map(|host| host.to_str()) {
            Some(Ok(host)) => Some(host),
            Some(Err(_)) => return Some("Host"),
            None => None,
        };
        if hosts.next().is_some()
            || ![host, authority]
                .into_iter()
                .flatten()
                .all(|host| self.host(host))
        {
            return Some("Host");
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let is_allowed = origins.all(|origin| {
            let host = origin.to_str().ok().and_then(|origin| {
                let rest = origin.strip_prefix("http://");
                rest.or_else(|| origin.strip_prefix("https://"))
            });
            host.is_some_and(|host| self.host(host))
        });
        (!is_allowed).then_some("Origin")
    }
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The refusal of a request by a name that is not allowed.
pub(super) fn refusal(front: &Front, request: &mut Request) -> Option<Response> {
    let refused = |status, why: &str| {
        let error = RpcError::new(RpcError::INVALID_REQUEST, why);
        Some(reply::refused(status, &Raw::null(), error))
    };
    if front.arrived(request).is_err() {
        return refused(
            StatusCode::FORBIDDEN,
            "this hop is not one of a replica of this gateway",
        );
    }
    if request.extensions().get::<Hopped>().is_some() {
        // It was checked where it came in.
        return None;
    }
    // RFC 9112, section 3.2.
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if request.version() == Version::HTTP_11 && hosts != 1 {
        return refused(
            StatusCode::BAD_REQUEST,
            "a request of HTTP/1.1 has one `Host`",
        );
    }
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let barred = front.allowed.barred(request.headers(), authority)?;
    let why = format!(
        "the {barred} of this request is not allowed here: name it with `--host` \
         (`HttpOptions::with_host`) when the gateway is started"
    );
    refused(StatusCode::FORBIDDEN, &why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(allowed: &Allowed, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        allowed.barred(&map, None).is_none()
    }

    #[test]
    fn only_names_of_this_machine_and_those_that_were_added_are_served() {
        let mut allowed = Allowed::default();
        allowed.add("MCP.example.com".to_owned());
        allowed.add("other.example:8443".to_owned());
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:7332",
            "[::1]:7332",
            "[::1]",
            "mcp.example.com",
            "mcp.example.com:443",
            "other.example:8443",
        ] {
            assert!(served(&allowed, &[("host", host)]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil.example:127",
            "127.0.0.1.evil.example",
            "other.example",
            "other.example:1",
            "[::2]:1",
        ] {
            assert!(!served(&allowed, &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn one_host_at_most_is_said_and_the_same_everywhere() {
        let allowed = Allowed::default();
        assert!(!served(
            &allowed,
            &[("host", "localhost"), ("host", "evil.example")]
        ));
        let mut map = HeaderMap::new();
        map.append("host", "localhost".parse().unwrap());
        assert_eq!(allowed.barred(&map, Some("localhost:1")), None);
        for map in [map, HeaderMap::new()] {
            assert_eq!(allowed.barred(&map, Some("evil.example")), Some("Host"));
        }
    }

    #[test]
    fn an_origin_must_be_allowed_too() {
        let allowed = Allowed::default();
        let from = |origin| served(&allowed, &[("host", "localhost"), ("origin", origin)]);
        assert!(from("http://localhost:3000") && from("https://127.0.0.1"));
        for origin in [
            "null",
            "http://evil.example",
            "ftp://localhost",
            "http://localhost@evil.example",
            "http://localhost:80/evil",
            "file://",
        ] {
            assert!(!from(origin), "{origin}");
            let mut map = HeaderMap::new();
            map.append("origin", origin.parse().unwrap());
            assert_eq!(allowed.barred(&map, None), Some("Origin"));
        }
    }
}
