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

    /// Whether a request with these headers may be served. Only browsers send an `Origin`.
    fn request(&self, headers: &HeaderMap, authority: Option<&str>) -> bool {
        // One at most (RFC 9112, section 3.2), beside the URI, where HTTP/2 has it.
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match hosts.next().map(|host| host.to_str()) {
            Some(Ok(host)) => Some(host),
            Some(Err(_)) => return false,
            None => None,
        };
        if hosts.next().is_some()
            || ![host, authority]
                .into_iter()
                .flatten()
                .all(|host| self.host(host))
        {
            return false;
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        origins.all(|origin| {
            let host = origin.to_str().ok().and_then(|origin| {
                let rest = origin.strip_prefix("http://");
                rest.or_else(|| origin.strip_prefix("https://"))
            });
            host.is_some_and(|host| self.host(host))
        })
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
    let refused = |status, why| {
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
    match front.allowed.request(request.headers(), authority) {
        true => None,
        false => refused(
            StatusCode::FORBIDDEN,
            "this `Host` or `Origin` is not allowed here",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(allowed: &Allowed, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        allowed.request(&map, None)
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
        assert!(allowed.request(&map, Some("localhost:1")));
        assert!(!allowed.request(&map, Some("evil.example")));
        assert!(!allowed.request(&HeaderMap::new(), Some("evil.example")));
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
        }
    }
}
