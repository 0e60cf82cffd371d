//! The fields of an HTTP server: URL, headers, credentials.

use std::ops::Range;

use super::{Optional, entry::EntryReader};
use crate::{
    dialects::Key,
    document::{Node, Value},
    problem::Problem,
    template::Reference,
};

/// Where a key goes that does not say it.
const KEY_HEADER: &str = "Authorization";

/// How it is written there.
const KEY_FORMAT: &str = "Bearer {token}";

impl EntryReader<'_> {
    pub(super) fn url(&mut self, key: Key, name: &str, node: &Node) {
        // `httpUrl` wins over a `url` beside it, as in Gemini CLI.
        if key == Key::Url && self.url_is_http {
            return;
        }
        self.url_is_http = key == Key::HttpUrl;
        self.note_field("url", node);
        self.hide_credentials(node);
        self.settings.url = self.template("url", name, node);
    }

    pub(super) fn headers(&mut self, name: &str, node: &Node) {
        if let Value::Array(items) = &node.value
            && !self.rules.strict
        {
            return self.header_lines(name, items);
        }
        for member in self.texts(name, node) {
            let path = format!("headers.{}", member.key);
            self.note_field(&path, &member.value);
            self.hide(&member.value);
            if !self.header_name(&member.key, &member.key_range) {
                continue;
            }
            if let Some(value) = self.secret_template(&path, &member.key, &member.value) {
                self.set_header(member.key.clone(), value);
            }
        }
    }

    /// Headers as lines, `Name: value`, as some programs write them.
    fn header_lines(&mut self, name: &str, lines: &[Node]) {
        for line in lines {
            self.hide(line);
            let Some((header, value)) = line.as_str().and_then(|line| line.split_once(':')) else {
                self.wrong_type(name, line, "a text such as \"Name: value\"");
                continue;
            };
            let (header, value) = (header.trim(), value.trim());
            let path = format!("headers.{header}");
            self.note_field(&path, line);
            if !self.header_name(header, &line.range) {
                continue;
            }
            let value = Node::new(line.range.clone(), Value::String(value.to_owned()));
            if let Some(value) = self.secret_template(&path, header, &value) {
                self.set_header(header.to_owned(), value);
            }
        }
    }

    pub(super) fn set_header(&mut self, name: String, value: String) {
        let headers = &mut self.settings.headers.0;
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        headers.push((name, value));
    }

    pub(super) fn header_name(&mut self, name: &str, range: &Range<usize>) -> bool {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            // RFC 9110, section 5.6.2.
            self.problem(
                Problem::error(
                    "wrong-value",
                    format!("{name:?} cannot be the name of a header"),
                )
                .help("a header's name has letters, digits and `-`, and no space or colon"),
                range,
            );
            return false;
        }
        true
    }

    pub(super) fn env_headers(&mut self, name: &str, node: &Node) {
        if !node.is_object() {
            self.wrong_type(name, node, "an object of names of variables");
            return;
        }
        for member in node.members() {
            match member.value.as_str() {
                Some(variable) if self.header_name(&member.key, &member.key_range) => {
                    self.note_field(&format!("headers.{}", member.key), &member.value);
                    // Codex leaves a header out whose variable is not set, and goes on.
                    self.left_out_when_unset(variable, &member.value);
                    self.set_header(member.key.clone(), format!("${{{variable}:-}}"));
                }
                Some(_) => {}
                None => self.wrong_type(name, &member.value, "the name of a variable"),
            }
        }
    }

    /// Remembers that nothing is sent when a variable is not set.
    pub(super) fn left_out_when_unset(&mut self, variable: &str, node: &Node) {
        self.optional.push(Optional {
            reference: Reference::new(None, variable),
            place: node.range.clone(),
            becomes: "it is left out",
        });
    }

    /// Whether `auth` says a key rather than a login.
    pub(super) fn is_static_auth(&self, node: &Node) -> bool {
        let kind = node.get("type").and_then(Node::as_str).unwrap_or("");
        ["static", "bearer", "token", "api_key", "apikey", "apiKey"].contains(&kind)
            || (!self.rules.strict && node.get("token").is_some())
    }

    pub(super) fn static_auth(&mut self, name: &str, node: &Node) {
        for member in node.members() {
            let path = format!("{name}.{}", member.key);
            match member.key.as_str() {
                "type" => {}
                "token" | "key" | "value" | "api_key" | "apiKey" => {
                    self.bearer_token(&path, &member.value);
                }
                "headers" | "api_key_env" | "api_key_header" | "api_key_format" => {
                    if let Some(key) = self.rules.key(&member.key) {
                        self.field(key, &path, &member.value);
                    }
                }
                _ => self.unknown_field(&path, member),
            }
        }
    }

    /// LibreChat's `apiKey`: `{key, source, authorization_type, custom_header}`.
    pub(super) fn api_key_object(&mut self, name: &str, node: &Node) {
        if !node.is_object() {
            return self.bearer_token(name, node);
        }
        let Some(key) = node.get("key") else {
            self.problem(
                Problem::warning(
                    "no-key",
                    format!("`{name}` holds no key: each user of the host has one of their own"),
                )
                .help("give the server a header with the key"),
                &node.range,
            );
            return;
        };
        self.hide(key);
        self.api_key.value = self.secret_template("bearer_token", "key", key);
        self.api_key.place = key.range.clone();
        match node.get("authorization_type").and_then(Node::as_str) {
            Some("basic") => self.api_key.format = Some("Basic {token}".to_owned()),
            Some("custom") => {
                let header = node.get("custom_header").and_then(Node::as_str);
                self.api_key.header = header.map(str::to_owned);
                self.api_key.format = Some("{token}".to_owned());
            }
            _ => {}
        }
    }

    /// Makes a header of a key that was said in several fields.
    pub(super) fn settle_api_key(&mut self) {
        let key = std::mem::take(&mut self.api_key);
        let Some(value) = key.value else { return };
        let header = key.header.unwrap_or_else(|| KEY_HEADER.to_owned());
        // A header that is written out wins.
        let known = &self.settings.headers.0;
        if known
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(&header))
            || !self.header_name(&header, &key.place)
        {
            return;
        }
        let format = key.format.unwrap_or_else(|| KEY_FORMAT.to_owned());
        self.fields.push((format!("headers.{header}"), key.place));
        self.set_header(header, format.replace("{token}", &value));
    }

    /// Scopes beside `oauth` belong to it.
    pub(super) fn settle_scopes(&mut self) {
        if let Some(scopes) = self.scopes.take() {
            self.settings.oauth.get_or_insert_default().scopes = scopes;
        }
    }

    pub(super) fn bearer_token(&mut self, name: &str, node: &Node) {
        self.note_field("bearer_token", node);
        self.hide(node);
        self.settings.bearer_token = self.secret_template("bearer_token", name, node);
    }
}
