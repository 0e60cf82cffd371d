//! The fields of a process: command, arguments, environment.

use std::ops::Range;

use super::{entry::EntryReader, transport::is_url};
use crate::{
    dialects::Key,
    document::{Member, Node, Value},
    problem::Problem,
    secrets,
    settings::InheritSettings,
    show::redacted_args,
    template::{Reference, Syntax, Template, WhenUnset},
};

/// How many arguments a hint shows.
const MAX_SHOWN: usize = 12;

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
                    let before = index.checked_sub(1).and_then(|before| items.get(before));
                    words.extend(self.argument(&format!("{name}[{index}]"), item, before));
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

    /// A command with its arguments in one text, as a shell splits it; a list stays one.
    pub(super) fn command_line(&mut self, name: &str, node: &Node) {
        let Some(text) = node.as_str().filter(|text| text.trim().contains(' ')) else {
            return self.command(name, node);
        };
        let Some(words) = shlex::split(text).filter(|words| !words.is_empty()) else {
            self.hide(node);
            return self.wrong_value(format!("`{name}` has a quote that is never closed"), node);
        };
        let list = Value::Array(words_at(node, words));
        self.command(name, &Node::new(node.range.clone(), list));
    }

    pub(super) fn arguments(&mut self, name: &str, node: &Node) -> Option<Vec<String>> {
        let Value::Array(items) = &node.value else {
            if let Value::String(text) = &node.value {
                // Augment's editor keeps all of them in one text.
                if self.rules.key("command") == Some(Key::CommandLine)
                    && let Some(words) = shlex::split(text)
                {
                    let list = Value::Array(words_at(node, words));
                    return self.arguments(name, &Node::new(node.range.clone(), list));
                }
                self.problem(
                    Problem::error(
                        "wrong-type",
                        format!("`{name}` must be a list of strings, and is a string"),
                    )
                    .label("expected a list")
                    .help(format!(
                        "put each argument in quotes of its own: {}",
                        list_of(name, text)
                    )),
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
            let path = format!("args[{index}]");
            self.note_field(&path, item);
            args.extend(self.argument(
                &path,
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
        let is_script = before
            .and_then(Node::as_str)
            .is_some_and(|flag| ["-c", "-lc", "-ic", "/c", "/C"].contains(&flag));
        let template = self.translate(name, &text, node)?;
        let is_foreign = !is_script && self.foreign_placeholder(name, &text, node);
        let literal = !is_foreign
            && Template::parse(&template, Syntax::native())
                .is_ok_and(|template| template.is_literal());
        if let Some(part) = inline {
            if literal && !secrets::is_harmless(&text[part.clone()]) {
                self.literal_secret(name, node);
            }
            self.hide_part(node, part);
        } else if after_flag || secrets::is_secret_value(&text) {
            self.hide(node);
            if literal && !secrets::is_harmless(&text) {
                self.literal_secret(name, node);
            }
        } else if is_url(&text) {
            for range in secrets::url_secret_ranges(&text) {
                self.hide_part(node, range);
            }
        }
        Some(template)
    }

    /// The members of an object of texts, with secrets perhaps. Null is nothing, as in VS Code, which
    /// takes it for the absence of a variable.
    pub(super) fn texts<'n>(
        &mut self,
        name: &str,
        node: &'n Node,
    ) -> impl Iterator<Item = &'n Member> + use<'n> {
        if node.is_object() {
            self.duplicates(node);
        } else {
            self.hide(node);
            self.wrong_type(name, node, "an object of texts");
        }
        let members = node.members().iter();
        members.filter(|member| member.value.value != Value::Null)
    }

    pub(super) fn env(&mut self, name: &str, node: &Node) {
        if let Value::Array(items) = &node.value
            && !self.rules.strict
        {
            return self.env_lines(name, items);
        }
        for member in self.texts(name, node) {
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

    /// Variables as lines, `NAME=value`, or names of those that are passed through; none at all
    /// is how PHP writes an empty object.
    fn env_lines(&mut self, name: &str, lines: &[Node]) {
        for line in lines {
            let Some((variable, value)) = line.as_str().and_then(|line| line.split_once('='))
            else {
                let list = Value::Array(vec![line.clone()]);
                self.env_names(name, &Node::new(line.range.clone(), list));
                continue;
            };
            let member = Member {
                key: variable.to_owned(),
                key_range: line.range.clone(),
                value: Node::new(line.range.clone(), Value::String(value.to_owned())),
            };
            self.env(
                name,
                &Node::new(line.range.clone(), Value::Object(vec![member])),
            );
        }
    }

    pub(super) fn env_names(&mut self, name: &str, node: &Node) {
        // The same word for a map of values.
        if node.is_object() && !self.rules.strict {
            return self.env(name, node);
        }
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
                    self.left_out_when_unset(&variable, item);
                    self.pass_through(variable);
                }
                None => self.wrong_type(name, item, "the name of a variable"),
            }
        }
    }

    /// A variable of the application's own environment: left out when it is not set there.
    fn pass_through(&mut self, variable: String) {
        match &mut self.settings.inherit_env {
            Some(InheritSettings::Names(names)) => names.push(variable),
            _ => self.settings.inherit_env = Some(InheritSettings::Names(vec![variable])),
        }
    }
}

impl EntryReader<'_> {
    /// A placeholder in an argument for a variable that the entry itself sets is the program's to
    /// fill in, as `mcp-remote` does: it stays when nobody else knows it.
    pub(super) fn settle_own_variables(&mut self) {
        let env = &self.own_env;
        let places = self.rules.places;
        let own = |reference: &Reference| {
            matches!(reference.scheme.as_deref(), None | Some("env"))
                && env.contains(&reference.name)
                && !places.iter().any(|(place, _)| *place == reference.name)
        };
        for arg in &mut self.settings.args {
            if let Ok(template) = Template::parse(arg, Syntax::native())
                && template.bare_references().iter().any(own)
            {
                *arg = template.to_native(WhenUnset::KeepLiteral);
            }
        }
        let of_args: Vec<Range<usize>> = self
            .fields
            .iter()
            .filter(|(field, _)| field.starts_with("args["))
            .map(|(_, range)| range.clone())
            .collect();
        self.optional
            .retain(|optional| !(own(&optional.reference) && of_args.contains(&optional.place)));
    }
}

/// Words that all stand at one place.
fn words_at(node: &Node, words: Vec<String>) -> Vec<Node> {
    words
        .into_iter()
        .map(|word| Node::new(node.range.clone(), Value::String(word)))
        .collect()
}

/// The list to write in place of a text with all arguments in it. What looks like a secret is
/// not repeated.
fn list_of(name: &str, text: &str) -> String {
    let words =
        shlex::split(text).unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect());
    let shown: Vec<String> = redacted_args(&words)
        .iter()
        .take(MAX_SHOWN)
        .map(|word| format!("{word:?}"))
        .collect();
    let more = if words.len() > MAX_SHOWN { ", …" } else { "" };
    format!("`\"{name}\": [{}{more}]`", shown.join(", "))
}
