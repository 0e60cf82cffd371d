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
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
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
}
