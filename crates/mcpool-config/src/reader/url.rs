//! URLs, checked where they stand.

use std::ops::Range;

use super::entry::EntryReader;
use crate::{
    problem::Problem,
    secrets,
    template::{Syntax, Template},
};

impl EntryReader<'_> {
    pub(super) fn check_url(&mut self, range: &Range<usize>) {
        let Some(url) = self.settings.url.clone() else {
            return;
        };
        if !secrets::url_secret_ranges(&url).is_empty()
            && url::Url::parse(&url)
                .is_ok_and(|url| url.password().is_some() || !url.username().is_empty())
        {
            self.problem(
                Problem::warning("url-credentials", "the URL holds a user name or a password")
                    .help("send them as a header: `\"Authorization\": \"Basic ${CREDENTIALS}\"`"),
                range,
            );
        }
        // What placeholders give is checked when it is connected.
        let probe = match Template::parse(&url, Syntax::native()) {
            Ok(template) if template.is_literal() => url,
            _ => return,
        };
        match url::Url::parse(&probe) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                self.check_cleartext(&url, range);
            }
            Ok(url) if matches!(url.scheme(), "ws" | "wss") => self.problem(
                Problem::error(
                    "unsupported-transport",
                    "WebSocket is not one of MCP's transports and mcpool does not speak it",
                )
                .help("use the server's `https://` address"),
                range,
            ),
            Ok(url) => {
                let scheme = url.scheme().to_owned();
                self.problem(
                    Problem::error(
                        "wrong-value",
                        format!("the URL's scheme is `{scheme}`, and must be `http` or `https`"),
                    ),
                    range,
                );
            }
            Err(error) => self.problem(
                Problem::error("wrong-value", format!("this is not a URL: {error}"))
                    .help("write the whole address: `https://host/path`"),
                range,
            ),
        }
    }
    /// Warns of credentials that would be sent in the open: the connect is refused.
    fn check_cleartext(&mut self, url: &url::Url, range: &Range<usize>) {
        let settings = &self.settings;
        let is_credential = |name: &String| {
            let name = name.to_ascii_lowercase();
            mcpool_core::HttpSpec::CREDENTIAL_HEADERS.contains(&name.as_str())
        };
        let mut headers = settings.headers.0.iter().map(|(name, _)| name);
        let what = if settings.bearer_token.is_some() {
            "the bearer token".to_owned()
        } else if let Some(header) = headers.find(|name| is_credential(name)) {
            format!("the header `{header}`")
        } else if url.password().is_some() || !url.username().is_empty() {
            "the user in the URL".to_owned()
        } else {
            return;
        };
        let is_here = match url.host() {
            Some(url::Host::Domain(name)) => mcpool_core::is_localhost(name),
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
            None => true,
        };
        let allowed = settings.http.allow_cleartext_credentials == Some(true);
        if url.scheme() == "http" && !is_here && !allowed {
            self.problem(
                Problem::warning(
                    "cleartext-credentials",
                    format!("mcpool will not connect this server: {what} would go over plain `http`, where anybody on the way can read it"),
                )
                .help("use `https://`, or set `\"allow_cleartext_credentials\": true`"),
                range,
            );
        }
    }
}
