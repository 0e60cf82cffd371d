//! The fields of an HTTP server: URL, headers, credentials.

use std::ops::Range;

use super::entry::EntryReader;
use crate::{diagnose::Problem, document::Node};

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
}
