//! Where an MCP server does answer when it does not answer as the config says: over the other HTTP
//! transport, or at the paths where servers usually are.

use std::time::Duration;

use futures::future::join_all;
use mcpool::{Error, ErrorKind, HttpSpec, ServerSpec, TransportKind, TransportSpec};

use crate::{app::App, render::text::Text, text};

/// How long each way is tried.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where servers usually are.
const PATHS: [&str; 2] = ["/mcp", "/sse"];

/// A way that leads to an MCP server.
#[derive(Debug)]
pub(super) struct Way {
    url: String,
    transport: TransportKind,
    wants_login: bool,
    /// Whether the server stands in a config, which can be changed.
    is_configured: bool,
}

impl Way {
    /// What to write in the config, or in place of the URL that was given.
    pub(super) fn to_text(&self) -> Text {
        let login = match self.wants_login {
            true => ", and wants a login",
            false => "",
        };
        let mut text = text!("an MCP server answers at {}{}", self.url, login);
        text.push(&match self.is_configured {
            true => text!(
                ": write \"url\": \"{}\", \"type\": \"{}\"",
                self.url,
                self.transport.as_str()
            ),
            false => text!(": give that URL"),
        });
        text
    }
}

/// Tries the other ways, all at once.
pub(super) async fn find(app: &App, spec: &ServerSpec, error: &Error) -> Vec<Way> {
    if !is_worth_it(error) {
        return Vec::new();
    }
    let Ok(spec) = spec.resolved().await else {
        return Vec::new();
    };
    let is_configured = !app.has_target();
    let tried = other(&spec.transport).into_iter().map(|transport| {
        let mut spec = spec.clone();
        spec.transport = transport;
        spec.policy.timeouts.startup = TRY_TIMEOUT;
        async move {
            let url = http_of(&spec.transport)?.redacted_url();
            let wants = match spec.transport {
                TransportSpec::Sse(_) => TransportKind::Sse,
                _ => TransportKind::Http,
            };
            match app.try_once(&spec).await {
                Ok(transport) => Some(Way {
                    url,
                    transport,
                    wants_login: false,
                    is_configured,
                }),
                // A path that is not there is refused as well by those who refuse everything, so
                // only a challenge counts.
                Err(error) if error.kind() == ErrorKind::AuthRequired => {
                    error.challenge().map(|_| Way {
                        url,
                        transport: wants,
                        wants_login: true,
                        is_configured,
                    })
                }
                Err(_) => None,
            }
        }
    });
    join_all(tried).await.into_iter().flatten().collect()
}

/// Whether something answers there, and not as an MCP server does.
fn is_worth_it(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::HttpStatus => !matches!(error.http_status(), Some(407 | 500..)),
        ErrorKind::Protocol | ErrorKind::Timeout => true,
        _ => false,
    }
}

fn http_of(transport: &TransportSpec) -> Option<&HttpSpec> {
    match transport {
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            Some(http)
        }
        _ => None,
    }
}

/// The other ways to try.
fn other(transport: &TransportSpec) -> Vec<TransportSpec> {
    let Some(http) = http_of(transport) else {
        return Vec::new();
    };
    let mut ways = Vec::new();
    match transport {
        TransportSpec::Http(http) => ways.push(TransportSpec::Sse(http.clone())),
        TransportSpec::Sse(http) => ways.push(TransportSpec::Http(http.clone())),
        _ => {}
    }
    for path in PATHS {
        let Some(url) = with_path(&http.url, path).filter(|url| *url != http.url) else {
            continue;
        };
        // Another path of a host may be somebody else's: no credential goes there.
        let mut elsewhere = HttpSpec::new(url);
        elsewhere.ca_file.clone_from(&http.ca_file);
        elsewhere.proxy.clone_from(&http.proxy);
        ways.push(TransportSpec::Auto(elsewhere));
    }
    ways
}

/// The same origin with another path, without a user, a query or a fragment.
fn with_path(url: &str, path: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    (!host.is_empty()).then(|| format!("{scheme}://{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_paths_are_tried_without_credentials() {
        let mut http = HttpSpec::new("https://user:pass@h:8443/mcp?key=x");
        http.headers
            .push(("Authorization".to_owned(), "Bearer t".into()));
        let ways = other(&TransportSpec::Http(http.clone()));
        let urls: Vec<&str> = ways
            .iter()
            .map(|way| http_of(way).unwrap().url.as_str())
            .collect();
        assert_eq!(
            urls,
            [
                "https://user:pass@h:8443/mcp?key=x",
                "https://h:8443/mcp",
                "https://h:8443/sse"
            ]
        );
        assert!(matches!(ways[0], TransportSpec::Sse(_)));
        assert!(http_of(&ways[1]).unwrap().headers.is_empty());
        let auto = other(&TransportSpec::Auto(HttpSpec::new("http://h/sse")));
        assert_eq!(auto.len(), 1);
        assert_eq!(with_path("nonsense", "/mcp"), None);
    }

    #[test]
    fn nothing_is_tried_where_nothing_answers() {
        let status = |status| Error::new(ErrorKind::HttpStatus, "x").with_http_status(status);
        assert!(is_worth_it(&status(404)) && is_worth_it(&status(405)));
        assert!(!is_worth_it(&status(502)) && !is_worth_it(&status(407)));
        assert!(!is_worth_it(&Error::new(ErrorKind::Connect, "x")));
        assert!(!is_worth_it(&Error::new(ErrorKind::AuthRequired, "x")));
    }
}
