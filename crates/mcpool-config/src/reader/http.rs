//! The fields of an HTTP server: URL, headers, credentials.

use std::ops::Range;

use super::entry::EntryReader;
use crate::{
    diagnose::{Problem, nearest},
    dialects::Dialect,
    document::{Node, Value},
    settings::OAuthSettings,
};

impl EntryReader<'_> {
    pub(super) fn url(&mut self, name: &str, node: &Node) {
        self.note_field("url", node);
        self.hide_credentials(node);
        self.settings.url = self.template("url", name, node);
    }

    pub(super) fn headers(&mut self, name: &str, node: &Node) {
        if !node.is_object() {
            self.hide(node);
            self.wrong_type(name, node, "an object of texts");
            return;
        }
        self.duplicates(node);
        for member in node.members() {
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
                    self.set_header(member.key.clone(), format!("${{{variable}}}"));
                }
                Some(_) => {}
                None => self.wrong_type(name, &member.value, "the name of a variable"),
            }
        }
    }

    pub(super) fn bearer_token(&mut self, name: &str, node: &Node) {
        self.note_field("bearer_token", node);
        self.hide(node);
        self.settings.bearer_token = self.secret_template("bearer_token", name, node);
    }

    pub(super) fn oauth(&mut self, name: &str, node: &Node) {
        self.note_field("oauth", node);
        if let Value::Bool(enabled) = node.value {
            self.settings.oauth.get_or_insert_default().enabled = Some(enabled);
            return;
        }
        if !node.is_object() {
            self.wrong_type(name, node, "an object");
            return;
        }
        self.duplicates(node);
        let mut oauth = OAuthSettings::default();
        for member in node.members() {
            let value = &member.value;
            let path = format!("{name}.{}", member.key);
            match member.key.as_str() {
                "enabled" => oauth.enabled = self.boolean(&path, value),
                "grant" | "grant_type" | "grantType" => oauth.grant = self.text(&path, value),
                "client_id" | "clientId" | "CLIENT_ID" => {
                    self.note_field("oauth.client_id", value);
                    oauth.client_id = self.template("oauth.client_id", &path, value);
                }
                "client_secret" | "clientSecret" | "CLIENT_SECRET" => {
                    self.hide(value);
                    self.note_field("oauth.client_secret", value);
                    oauth.client_secret =
                        self.secret_template("oauth.client_secret", "client_secret", value);
                }
                "private_key_file" | "privateKeyFile" => {
                    oauth.private_key_file = self.template("oauth.private_key_file", &path, value);
                }
                "scopes" | "scope" => oauth.scopes = self.words(&path, value).unwrap_or_default(),
                "callback_port" | "callbackPort" => {
                    oauth.callback_port = self
                        .whole(&path, value, 1, 65_535)
                        .and_then(|port| u16::try_from(port).ok());
                }
                "metadata_url" | "authServerMetadataUrl" | "metadataUrl" => {
                    self.hide_credentials(value);
                    oauth.metadata_url = self.text(&path, value);
                }
                // Hosts have many more; what they mean is not ours to guess.
                _ if self.rules.dialect != Dialect::Native => self.hide(value),
                key => {
                    self.hide(value);
                    let known = [
                        "enabled",
                        "grant",
                        "client_id",
                        "client_secret",
                        "private_key_file",
                        "scopes",
                        "callback_port",
                        "metadata_url",
                    ];
                    let mut problem =
                        Problem::warning("unknown-field", format!("unknown field `{path}`"))
                            .label("ignored");
                    if let Some(near) = nearest(key, known) {
                        problem = problem.help(format!("did you mean `{near}`?"));
                    }
                    self.problem(problem, &member.key_range);
                }
            }
        }
        self.settings.oauth = Some(oauth);
    }
}
