//! Values of every kind, each with what is to be said of it.

use std::ops::Range;

use super::entry::EntryReader;
use crate::{
    diagnose::{Problem, nearest},
    dialects::{Dialect, Unit},
    document::{Node, Value},
    secrets,
    template::{Syntax, Template, WhenUnset},
    units::HumanDuration,
};

impl EntryReader<'_> {
    pub(super) fn text(&mut self, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong_type(path, node, "a string");
                None
            }
        }
    }

    /// A text; numbers and booleans are taken as they are written, with a warning.
    pub(super) fn scalar(&mut self, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                self.problem(
                    Problem::warning(
                        "not-a-string",
                        format!("`{path}` is {}; it is read as a string", node.type_name()),
                    )
                    .help("put it in quotes"),
                    &node.range,
                );
                Some(match &node.value {
                    Value::Bool(value) => value.to_string(),
                    Value::Integer(value) => value.to_string(),
                    _ => self
                        .source
                        .text()
                        .get(node.range.clone())
                        .unwrap_or_default()
                        .to_owned(),
                })
            }
            _ => {
                self.wrong_type(path, node, "a string");
                None
            }
        }
    }

    /// A text with placeholders, in the native syntax.
    pub(super) fn template(&mut self, path: &str, name: &str, node: &Node) -> Option<String> {
        let text = self.text(name, node)?;
        self.spaces(&text, &node.range, &format!("`{path}`"));
        self.translate(path, &text, node)
    }

    pub(super) fn secret_template(
        &mut self,
        path: &str,
        name: &str,
        node: &Node,
    ) -> Option<String> {
        let text = self.scalar(path, node)?;
        self.spaces(&text, &node.range, &format!("`{path}`"));
        let template = self.translate(path, &text, node)?;
        let parsed = Template::parse(&template, Syntax::native());
        if parsed.is_ok_and(|template| template.is_literal())
            && !secrets::is_dummy(&text)
            && text.len() >= 4
            && (secrets::is_secret_name(name) || secrets::is_secret_value(&text))
        {
            self.literal_secret(&format!("`{path}`"), node);
        }
        Some(template)
    }

    pub(super) fn literal_secret(&mut self, what: &str, node: &Node) {
        self.problem(
            Problem::warning(
                "literal-secret",
                format!("{what} holds what looks like a secret"),
            )
            .label("in plain text")
            .help(
                "put it in a variable and write `${NAME}`, or in a file and write `${file:path}`",
            ),
            &node.range,
        );
    }

    /// Brings a text from the host's syntax into ours.
    pub(super) fn translate(&mut self, path: &str, text: &str, node: &Node) -> Option<String> {
        let syntax = self.rules.syntax;
        match Template::parse(text, syntax) {
            Ok(_) if self.rules.dialect == Dialect::Native => Some(text.to_owned()),
            Ok(template) => {
                if syntax.when_unset != WhenUnset::Fail {
                    let bare = template.bare_references();
                    self.bare_variables
                        .extend(bare.into_iter().map(|bare| (bare, node.range.clone())));
                }
                Some(template.to_native(syntax.when_unset))
            }
            Err(error) => {
                let range = match self.offset_of(node, text) {
                    Some(start) => {
                        start + error.offset..(start + error.offset + 2).min(node.range.end)
                    }
                    None => node.range.clone(),
                };
                self.problem(
                    Problem::error("placeholder", format!("`{path}`: {}", error.message)),
                    &range,
                );
                None
            }
        }
    }

    /// Where a text begins in the source, when it stands there as it is (no escapes).
    pub(super) fn offset_of(&self, node: &Node, text: &str) -> Option<usize> {
        let raw = self.source.text().get(node.range.clone())?;
        let at = raw.len().checked_sub(text.len())? / 2;
        (raw.get(at..at + text.len())? == text).then_some(node.range.start + at)
    }

    /// Remembers that a value is not for showing.
    pub(super) fn hide(&mut self, node: &Node) {
        let place = node
            .as_str()
            .and_then(|text| Some((self.offset_of(node, text)?, text.len())));
        match place {
            Some((start, length)) => self.secrets.push(start..start + length),
            // A number, a list, a text with escapes: all of it.
            None => self.secrets.push(node.range.clone()),
        }
    }

    /// Remembers the credentials in a URL.
    pub(super) fn hide_credentials(&mut self, node: &Node) {
        let url = node.as_str().unwrap_or_default();
        for range in secrets::url_secret_ranges(url) {
            self.hide_part(node, range);
        }
    }

    pub(super) fn hide_part(&mut self, node: &Node, part: Range<usize>) {
        match self.offset_of(node, node.as_str().unwrap_or_default()) {
            Some(start) => self.secrets.push(start + part.start..start + part.end),
            None => self.secrets.push(node.range.clone()),
        }
    }

    /// Warns of spaces that nobody sees.
    pub(super) fn spaces(&mut self, text: &str, range: &Range<usize>, what: &str) {
        let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{00ad}' | '\u{202a}'..='\u{202e}');
        if text.chars().any(invisible) {
            self.problem(
                Problem::warning(
                    "hidden-character",
                    format!("{what} holds an invisible character"),
                )
                .help("type it anew"),
                range,
            );
        } else if text.trim() != text {
            self.problem(
                Problem::warning(
                    "hidden-space",
                    format!("{what} begins or ends with white space"),
                )
                .help("remove it, unless it is meant"),
                range,
            );
        }
    }

    pub(super) fn boolean(&mut self, path: &str, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) if text == "true" || text == "false" => {
                self.problem(
                    Problem::warning(
                        "not-a-boolean",
                        format!("`{path}` is a string; it is read as `{text}`"),
                    )
                    .help(format!("write `{text}` without quotes")),
                    &node.range,
                );
                Some(text == "true")
            }
            _ => {
                self.wrong_type(path, node, "`true` or `false`");
                None
            }
        }
    }

    pub(super) fn whole(&mut self, path: &str, node: &Node, min: u32, max: u32) -> Option<u32> {
        match node.value {
            Value::Integer(number) => match u32::try_from(number) {
                Ok(number) if (min..=max).contains(&number) => Some(number),
                _ => {
                    self.wrong_value(format!("`{path}` must be between {min} and {max}"), node);
                    None
                }
            },
            _ => {
                self.wrong_type(path, node, "a whole number");
                None
            }
        }
    }

    pub(super) fn strings(&mut self, path: &str, node: &Node) -> Option<Vec<String>> {
        let Value::Array(items) = &node.value else {
            self.wrong_type(path, node, "a list of strings");
            return None;
        };
        let mut strings = Vec::with_capacity(items.len());
        for item in items {
            strings.push(self.text(path, item)?);
        }
        Some(strings)
    }

    /// A list of words, or one string of words.
    pub(super) fn words(&mut self, path: &str, node: &Node) -> Option<Vec<String>> {
        match &node.value {
            Value::String(text) => Some(
                text.split([' ', ','])
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
            _ => self.strings(path, node),
        }
    }

    /// A duration with its unit, or a number in the unit of the host.
    pub(super) fn duration(
        &mut self,
        path: &str,
        node: &Node,
        unit: Option<Unit>,
    ) -> Option<HumanDuration> {
        let number = match &node.value {
            Value::String(text) => {
                return match HumanDuration::parse(text) {
                    Ok(duration) => Some(duration),
                    Err(message) => {
                        self.wrong_value(format!("`{path}`: {message}"), node);
                        None
                    }
                };
            }
            #[allow(clippy::cast_precision_loss)] // durations over 2^53 are refused anyway
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            _ => {
                self.wrong_type(path, node, "a duration such as \"30s\"");
                return None;
            }
        };
        let seconds = match unit.unwrap_or(self.rules.unit) {
            Unit::Seconds => number,
            Unit::Milliseconds => number / 1000.0,
            Unit::Refuse => {
                let suggestion = if number >= 1000.0 && number % 100.0 == 0.0 {
                    format!("write \"{number}ms\" if it means milliseconds, or \"{number}s\"")
                } else {
                    format!("write \"{number}s\" if it means seconds, or \"{number}ms\"")
                };
                self.problem(
                    Problem::error("no-unit", format!("`{path}` is a number without a unit"))
                        .label("seconds or milliseconds?")
                        .help(suggestion),
                    &node.range,
                );
                return None;
            }
            Unit::Unknown => {
                let title = self.rules.title;
                self.problem(
                    Problem::warning("no-unit", format!("`{path}` is a number, and {title} does not say in which unit: it is left out"))
                        .help("write it with its unit, such as \"30s\""),
                    &node.range,
                );
                return None;
            }
        };
        match std::time::Duration::try_from_secs_f64(seconds) {
            Ok(duration) if seconds < 3.2e9 => Some(HumanDuration(duration)),
            _ => {
                self.wrong_value(format!("`{path}` is not a possible duration"), node);
                None
            }
        }
    }

    /// Warns of the fields of an object that are not known.
    pub(super) fn known_fields(&mut self, path: &str, node: &Node, known: &[&str]) {
        self.duplicates(node);
        for member in node.members() {
            if !known.contains(&member.key.as_str()) {
                self.hide(&member.value);
                let mut problem = Problem::warning(
                    "unknown-field",
                    format!("unknown field `{path}.{}`", member.key),
                )
                .label("ignored");
                problem = match nearest(&member.key, known.iter().copied()) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem.help(format!("it has {}", known.join(", "))),
                };
                self.problem(problem, &member.key_range);
            }
        }
    }
}
