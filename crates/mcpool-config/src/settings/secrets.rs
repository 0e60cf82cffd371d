//! Settings without their literal secrets: for a file that others read.

use std::collections::BTreeSet;

use super::{HeaderMap, OAuthSettings, ServerSettings};
use crate::{
    secrets,
    template::{Syntax, Template},
};

/// Settings in which a placeholder stands for each literal secret.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WithoutSecrets {
    /// The settings.
    pub settings: ServerSettings,
    /// The variables that have to be set for them to work as before.
    pub variables: BTreeSet<String>,
}

impl ServerSettings {
    /// Puts a placeholder in the place of each literal that is a secret, or may be one: every
    /// value of a variable or header that is not plainly harmless (a switch, a number, a path, an
    /// address), and of arguments and addresses what a secret is known to look like or is named
    /// as. `server` begins the names of variables that have none of their own.
    ///
    /// `None` when a secret stands where no placeholder can: in a `headers_helper`, which is a
    /// line for a shell.
    #[must_use]
    pub fn without_secrets(&self, server: &str) -> Option<WithoutSecrets> {
        if let Some(helper) = &self.headers_helper
            && crate::show::redacted_line(helper) != *helper
        {
            return None;
        }
        let mut settings = self.clone();
        let mut names = Names {
            prefix: variable(server),
            used: BTreeSet::new(),
        };
        for (name, value) in &mut settings.env {
            if is_literal(value) && !is_harmless(name, value) {
                *value = names.placeholder(name, None);
            }
        }
        settings.headers = HeaderMap(
            settings
                .headers
                .0
                .into_iter()
                .map(|(name, value)| {
                    let value = names.header(&name, value);
                    (name, value)
                })
                .collect(),
        );
        names.secret("TOKEN", &mut settings.bearer_token);
        for url in [
            &mut settings.url,
            &mut settings.command,
            &mut settings.proxy,
        ]
        .into_iter()
        .flatten()
        {
            *url = names.url(url);
        }
        settings.args = names.args(&settings.args);
        if let Some(oauth) = &mut settings.oauth {
            names.oauth(oauth);
        }
        Some(WithoutSecrets {
            settings,
            variables: names.used,
        })
    }
}

/// Hands out names of variables.
struct Names {
    prefix: String,
    used: BTreeSet<String>,
}

impl Names {
    /// A placeholder for a variable of this name; with `of` one that begins with the server's.
    fn placeholder(&mut self, name: &str, of: Option<&str>) -> String {
        let name = match of {
            Some(of) => format!("{of}_{}", variable(name)),
            None => name.to_owned(),
        };
        let text = format!("${{{name}}}");
        self.used.insert(name);
        text
    }

    fn own(&mut self, name: &str) -> String {
        let prefix = self.prefix.clone();
        self.placeholder(name, Some(&prefix))
    }

    fn secret(&mut self, name: &str, value: &mut Option<String>) {
        if let Some(text) = value.as_ref().filter(|text| is_literal(text))
            && !text.is_empty()
        {
            *value = Some(self.own(name));
        }
    }

    fn header(&mut self, name: &str, value: String) -> String {
        if !is_literal(&value) || is_harmless(name, &value) {
            return value;
        }
        let scheme = ["Bearer ", "Basic ", "token ", "Token "]
            .into_iter()
            .find(|scheme| value.starts_with(scheme))
            .unwrap_or("");
        format!("{scheme}{}", self.own(name))
    }

    /// A URL, or a text that may be one.
    fn url(&mut self, text: &str) -> String {
        if !text.contains("://") {
            return text.to_owned();
        }
        secrets::replace_url_secrets(text, |before, part| {
            if part.is_empty() || !is_literal(part) {
                return part.into();
            }
            let name = if before.ends_with("://") {
                "USER"
            } else {
                "QUERY"
            };
            self.own(name).into()
        })
    }

    fn args(&mut self, args: &[String]) -> Vec<String> {
        let flag = |index: usize| -> Option<&String> {
            let before = args.get(index.checked_sub(1)?)?;
            secrets::is_secret_flag(before).then_some(before)
        };
        let mut out = Vec::with_capacity(args.len());
        for (index, arg) in args.iter().enumerate() {
            if !is_literal(arg) || secrets::is_dummy(arg) {
                out.push(arg.clone());
            } else if let Some(flag) = flag(index) {
                out.push(self.own(flag));
            } else if let Some(part) = secrets::named_part(arg) {
                let name = arg[..part.start].to_owned();
                out.push(format!("{name}{}", self.own(&name)));
            } else if secrets::is_secret_value(arg) || looks_random(arg) {
                out.push(self.own(&format!("ARG_{index}")));
            } else {
                out.push(self.url(arg));
            }
        }
        out
    }

    fn oauth(&mut self, oauth: &mut OAuthSettings) {
        self.secret("CLIENT_SECRET", &mut oauth.client_secret);
        self.secret("PRIVATE_KEY", &mut oauth.private_key);
        self.secret("ID_TOKEN", &mut oauth.id_token);
        self.secret("ASSERTION", &mut oauth.assertion);
        if let Some(idp) = &mut oauth.idp {
            self.secret("IDP_CLIENT_SECRET", &mut idp.client_secret);
        }
        for url in [
            &mut oauth.metadata_url,
            &mut oauth.client_metadata_url,
            &mut oauth.issuer,
        ]
        .into_iter()
        .flatten()
        {
            *url = self.url(url);
        }
    }
}

/// A name as variables have it.
fn variable(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
            _ => '_',
        })
        .collect();
    let name = name.trim_matches('_').to_owned();
    match name.chars().next() {
        None => "VALUE".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("_{name}"),
        Some(_) => name,
    }
}

fn is_literal(text: &str) -> bool {
    Template::parse(text, Syntax::native()).is_ok_and(|template| template.is_literal())
}

/// Whether a literal value of this name is plainly no secret.
fn is_harmless(name: &str, value: &str) -> bool {
    if secrets::is_dummy(value) {
        return true;
    }
    if secrets::is_secret_name(name) || secrets::is_secret_value(value) {
        return false;
    }
    let is_path = value.starts_with(['/', '.', '~']) && !looks_random(value);
    let is_address = value.contains("://") && secrets::url_secret_ranges(value).is_empty();
    crate::show::value_text(name, value) == value
        || matches!(value, "yes" | "no" | "on" | "off")
        || value.parse::<f64>().is_ok()
        || is_path
        || is_address
}

/// Whether a word is long, and mixes digits and letters as keys do and names do not.
fn looks_random(text: &str) -> bool {
    text.len() >= 20
        && text.chars().any(|c| c.is_ascii_digit())
        && text.chars().any(|c| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_+=".contains(c))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Loader;

    fn settings(server: &str) -> ServerSettings {
        let text = format!(r#"{{ "mcpServers": {{ "a": {server} }} }}"#);
        let loaded = Loader::new().with_text("x.json", text).load().unwrap();
        loaded.entries()[0].settings.clone()
    }

    #[test]
    fn a_placeholder_stands_for_every_secret() {
        for server in [
            r#"{ "command": "x", "env": { "API_KEY": "canary", "MODE": "canary", "PIN_CODE": "canary 1" } }"#,
            r#"{ "command": "x", "args": ["--token", "canary", "--key=canary", "-H", "Authorization: Bearer canary", "canary0123456789abcdef", "https://u:canary@h/x?k=canary"] }"#,
            r#"{ "url": "https://u:canary@h/mcp?k=canary", "headers": { "Authorization": "Bearer canary", "X-Team": "canary" } }"#,
            r#"{ "url": "https://h/mcp", "bearer_token": "canary", "proxy": "http://u:canary@p" }"#,
            r#"{ "url": "https://h/mcp", "oauth": { "client_id": "c", "client_secret": "canary", "issuer": "https://a" } }"#,
        ] {
            let settings = settings(server);
            let clean = settings.without_secrets("my server").unwrap();
            let text = serde_json::to_string(&clean.settings).unwrap();
            assert!(!text.contains("canary"), "{text}");
            assert!(!clean.variables.is_empty());
            for name in &clean.variables {
                assert!(text.contains(&format!("${{{name}}}")), "{name} {text}");
            }
            // It is idempotent.
            let again = clean.settings.without_secrets("my server").unwrap();
            assert_eq!(again.settings, clean.settings);
            assert!(again.variables.is_empty());
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let server = r#"{ "command": "npx", "args": ["-y", "@scope/server-everything@1.2.3", "/srv/data", "--port", "8080"],
            "env": { "NODE_ENV": "production", "DEBUG": "true", "ROOT": "/srv", "RETRIES": "3", "BASE": "https://example.org/api", "TOKEN": "${TOKEN}", "KEY": "<your key>" } }"#;
        let settings = settings(server);
        let clean = settings.without_secrets("a").unwrap();
        assert_eq!(clean.settings, settings);
        assert!(clean.variables.is_empty());
    }

    #[test]
    fn a_shell_line_with_a_secret_has_no_clean_form() {
        let settings =
            settings(r#"{ "url": "https://h/mcp", "headers_helper": "get --token canary" }"#);
        assert!(settings.without_secrets("a").is_none());
    }
}
