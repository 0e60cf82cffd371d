//! Values of every kind, each with what is to be said of it.

use std::ops::Range;

use super::{Optional, entry::EntryReader};
use crate::{
    dialects::{Dialect, Unit},
    document::{Node, Value},
    problem::{Problem, nearest},
    secrets,
    template::{Syntax, Template, WhenUnset},
    units::HumanDuration,
};

/// From here on a number of seconds was more likely meant as milliseconds.
const LONG_SECONDS: f64 = 10_000.0;

/// Below this a number of milliseconds was more likely meant as seconds.
const SHORT_MILLISECONDS: f64 = 1000.0;

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
                // As it was written: `007` and `1.10` are not 7 and 1.1.
                let written = self
                    .source
                    .text()
                    .get(node.range.clone())
                    .unwrap_or_default();
                let is_plain = written
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
                Some(match &node.value {
                    Value::Bool(value) => value.to_string(),
                    Value::Integer(value) if !is_plain => value.to_string(),
                    _ => written.to_owned(),
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
        self.foreign_placeholder(path, &text, node);
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
        let is_foreign = self.foreign_placeholder(path, &text, node);
        let template = self.translate(path, &text, node)?;
        let parsed = Template::parse(&template, Syntax::native());
        if parsed.is_ok_and(|template| template.is_literal())
            && !is_foreign
            && !secrets::is_harmless(&text)
            && text.len() >= 4
            && (secrets::is_secret_name(name) || secrets::is_secret_value(&text))
        {
            self.literal_secret(path, node);
        }
        Some(template)
    }

    /// Warns of a literal secret at a path, and says how the host keeps one out of the file.
    pub(super) fn literal_secret(&mut self, path: &str, node: &Node) {
        let advice = self.advice(path, None);
        self.problem(
            Problem::warning(
                "literal-secret",
                format!("`{path}` holds what looks like a secret"),
            )
            .label("in plain text")
            .help(advice),
            &node.range,
        );
    }

    /// Brings a text from the host's syntax into ours.
    pub(super) fn translate(&mut self, path: &str, text: &str, node: &Node) -> Option<String> {
        let syntax = self.rules.syntax;
        if self.rules.runs_commands && text.contains("$(") {
            let title = self.rules.title;
            self.problem(
                Problem::error(
                    "placeholder",
                    format!("`{path}`: `$(…)` is a command that {title} runs, and mcpool does not"),
                )
                .help("put what it prints in a variable and write `$NAME`"),
                &node.range,
            );
            return None;
        }
        match Template::parse(text, syntax) {
            Ok(_) if self.rules.dialect == Dialect::Native => Some(text.to_owned()),
            Ok(template) if self.rules.only_places => {
                let places = self.rules.places;
                let known = template.with_only(&|reference| {
                    reference.scheme.is_none()
                        && places.iter().any(|(place, _)| *place == reference.name)
                });
                Some(known.to_native(WhenUnset::Fail))
            }
            Ok(template) => {
                let becomes = match syntax.when_unset {
                    WhenUnset::Empty => Some("nothing takes its place"),
                    WhenUnset::KeepLiteral => Some("the placeholder stays as it stands"),
                    WhenUnset::Fail => None,
                };
                if let Some(becomes) = becomes {
                    let bare = template.bare_references();
                    self.optional
                        .extend(bare.into_iter().map(|reference| Optional {
                            reference,
                            place: node.range.clone(),
                            becomes,
                        }));
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
                .help("type it again"),
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
            Value::String(text) if truth(text).is_some() => {
                let value = truth(text);
                let word = if value == Some(true) { "true" } else { "false" };
                self.problem(
                    Problem::warning(
                        "not-a-boolean",
                        format!("`{path}` is a string; it is read as `{word}`"),
                    )
                    .help(format!("write `{word}` without quotes")),
                    &node.range,
                );
                value
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
        for (index, item) in items.iter().enumerate() {
            strings.push(self.text(&format!("{path}[{index}]"), item)?);
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
            Value::String(text) if !self.rules.strict && text.trim().parse::<f64>().is_ok() => {
                text.trim().parse().unwrap_or_default()
            }
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
        if number <= 0.0 && !self.rules.strict {
            self.problem(
                Problem::warning(
                    "wrong-value",
                    format!("`{path}` is not more than 0: it is left out"),
                ),
                &node.range,
            );
            return None;
        }
        let seconds = match unit.unwrap_or(self.rules.unit) {
            Unit::Seconds => {
                if number >= LONG_SECONDS {
                    self.unlikely(path, node, &format!("{number} seconds"), number / 1000.0);
                }
                number
            }
            Unit::Milliseconds => {
                if number < SHORT_MILLISECONDS {
                    self.unlikely(
                        path,
                        node,
                        &format!("{number} milliseconds"),
                        number * 1000.0,
                    );
                }
                number / 1000.0
            }
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
            Unit::Guess => {
                let (seconds, unit) = if number >= 1000.0 {
                    (number / 1000.0, "ms")
                } else {
                    (number, "s")
                };
                self.problem(
                    Problem::warning(
                        "no-unit",
                        format!(
                            "`{path}` is a number without a unit: it is read as {number}{unit}"
                        ),
                    )
                    .label("seconds or milliseconds?")
                    .help(format!(
                        "in a file for mcpool alone, write \"{number}{unit}\""
                    )),
                    &node.range,
                );
                seconds
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

    /// Warns of a number that is right for another host, and kept as this one takes it.
    fn unlikely(&mut self, path: &str, node: &Node, means: &str, meant: f64) {
        let title = self.rules.title;
        self.problem(
            Problem::warning("unit", format!("`{path}`: in {title} this means {means}"))
                .label(means)
                .help(format!("write {meant} if that is not meant")),
            &node.range,
        );
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

/// The words for true and false in texts, as YAML 1.1 and people have them.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}
