//! The fields of a process: command, arguments, environment.

use super::{entry::EntryReader, transport::is_url};
use crate::{
    diagnose::Problem,
    dialects::Dialect,
    document::{Node, Value},
    secrets,
    settings::InheritSettings,
    template::{Syntax, Template},
};

impl EntryReader<'_> {
    pub(super) fn command(&mut self, name: &str, node: &Node) {
        self.note_field("command", node);
        match &node.value {
            // A whole argument list, as some hosts have it.
            Value::Array(items) => {
                let mut words = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    if index == 0 {
                        self.note_field("command", item);
                    } else {
                        self.note_field(&format!("args[{}]", index - 1), item);
                    }
                    words.extend(self.argument(name, item, items.get(index.wrapping_sub(1))));
                }
                if words.is_empty() {
                    self.wrong_value("`command` is an empty list", node);
                    return;
                }
                self.settings.command = Some(words.remove(0));
                words.append(&mut self.settings.args);
                self.settings.args = words;
            }
            // An older notation of Zed: {path, args, env}.
            Value::Object(_) => {
                if let Some(path) = node.get("path") {
                    self.command(name, path);
                }
                if let Some(args) = node.get("args") {
                    self.settings.args = self.arguments("args", args).unwrap_or_default();
                }
                if let Some(env) = node.get("env").filter(|env| env.value != Value::Null) {
                    self.env("env", env);
                }
                if node.get("path").is_none() {
                    self.wrong_type(name, node, "a string");
                }
            }
            Value::String(text) => {
                for range in secrets::url_secret_ranges(text)
                    .into_iter()
                    .filter(|_| is_url(text))
                {
                    self.hide_part(node, range);
                }
                self.settings.command = self.template("command", name, node);
            }
            _ => self.wrong_type(name, node, "a string"),
        }
    }

    pub(super) fn arguments(&mut self, name: &str, node: &Node) -> Option<Vec<String>> {
        let Value::Array(items) = &node.value else {
            if let Value::String(_) = node.value {
                self.problem(
                    Problem::error(
                        "wrong-type",
                        format!("`{name}` must be a list of strings, and is a string"),
                    )
                    .label("expected a list")
                    .help("put each argument in quotes of its own: `[\"-y\", \"package\"]`"),
                    &node.range,
                );
            } else {
                self.hide(node);
                self.wrong_type(name, node, "a list of strings");
            }
            return None;
        };
        let mut args = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.note_field(&format!("args[{index}]"), item);
            args.extend(self.argument(
                name,
                item,
                index.checked_sub(1).and_then(|before| items.get(before)),
            ));
        }
        Some(args)
    }

    pub(super) fn argument(
        &mut self,
        name: &str,
        node: &Node,
        before: Option<&Node>,
    ) -> Option<String> {
        let text = self.scalar(name, node)?;
        let after_flag = before
            .and_then(Node::as_str)
            .is_some_and(secrets::is_secret_flag);
        let inline = secrets::named_part(&text);
        let template = self.translate(name, &text, node)?;
        let literal = Template::parse(&template, Syntax::native())
            .is_ok_and(|template| template.is_literal());
        if let Some(part) = inline {
            if literal && !secrets::is_dummy(&text[part.clone()]) {
                self.literal_secret("an argument", node);
            }
            self.hide_part(node, part);
        } else if after_flag || secrets::is_secret_value(&text) {
            self.hide(node);
            if literal && !secrets::is_dummy(&text) {
                self.literal_secret("an argument", node);
            }
        } else if is_url(&text) {
            for range in secrets::url_secret_ranges(&text) {
                self.hide_part(node, range);
            }
        }
        Some(template)
    }

    pub(super) fn env(&mut self, name: &str, node: &Node) {
        if !node.is_object() {
            self.hide(node);
            self.wrong_type(name, node, "an object of texts");
            return;
        }
        self.duplicates(node);
        for member in node.members() {
            self.spaces(&member.key, &member.key_range, "the name of a variable");
            let path = format!("env.{}", member.key);
            self.note_field(&path, &member.value);
            if member.key.is_empty() || member.key.contains(['=', '\0']) {
                self.problem(
                    Problem::error(
                        "wrong-value",
                        format!("{:?} cannot be the name of a variable", member.key),
                    ),
                    &member.key_range,
                );
                continue;
            }
            self.hide(&member.value);
            if let Some(value) = self.secret_template(&path, &member.key, &member.value) {
                self.settings.env.insert(member.key.clone(), value);
            }
        }
    }

    pub(super) fn env_names(&mut self, name: &str, node: &Node) {
        let Value::Array(items) = &node.value else {
            self.wrong_type(name, node, "a list of names");
            return;
        };
        for item in items {
            let variable = match &item.value {
                Value::String(variable) => Some(variable.clone()),
                Value::Object(_) => item.get("name").and_then(Node::as_str).map(str::to_owned),
                _ => None,
            };
            match variable {
                Some(variable) => {
                    self.note_field(&format!("env.{variable}"), item);
                    self.pass_through(variable);
                }
                None => self.wrong_type(name, item, "the name of a variable"),
            }
        }
    }

    pub(super) fn pass_through(&mut self, variable: String) {
        if self.rules.dialect == Dialect::Codex {
            // Codex refuses to start a server whose variable is not set.
            let value = format!("${{{variable}}}");
            self.settings.env.insert(variable, value);
            return;
        }
        match &mut self.settings.inherit_env {
            Some(InheritSettings::Names(names)) => names.push(variable),
            _ => self.settings.inherit_env = Some(InheritSettings::Names(vec![variable])),
        }
    }
}
