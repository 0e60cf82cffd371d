//! `${…}` in a string: a pure parser and a pure expander.
//!
//! Parsing never panics and never loops: every step consumes input, and nesting is bounded.
//! Expanding never looks at its own output: what a variable holds is never expanded again.

mod foreign;
mod parser;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use mcpool_core::Secret;

pub(crate) use foreign::foreign;

/// What an unset variable without a default becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenUnset {
    /// An error that names all of them at once.
    Fail,
    /// The placeholder stays as it stands.
    KeepLiteral,
    /// Nothing.
    Empty,
}

/// Which placeholders a host knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Syntax {
    /// `${V}`, `${V:-d}`, `${env:V}` and the other `${scheme:…}`.
    pub dollar_brace: bool,
    /// `$$` is one `$`.
    pub dollar_dollar: bool,
    /// `$V` (Gemini).
    pub bare_dollar: bool,
    /// `%V%` (Gemini).
    pub percent: bool,
    /// `{env:V}` and `{file:p}` without a dollar (opencode).
    pub bare_brace: bool,
    /// `$env:V` (mcporter).
    pub dollar_env: bool,
    /// `${{ secrets.V }}` (Continue).
    pub secrets: bool,
    /// What an unset variable becomes.
    pub when_unset: WhenUnset,
}

impl Syntax {
    /// The native one.
    #[must_use]
    pub const fn native() -> Self {
        Self {
            dollar_brace: true,
            dollar_dollar: true,
            bare_dollar: false,
            percent: false,
            bare_brace: false,
            dollar_env: false,
            secrets: false,
            when_unset: WhenUnset::Fail,
        }
    }

    /// No placeholders at all.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            dollar_brace: false,
            dollar_dollar: false,
            bare_dollar: false,
            percent: false,
            bare_brace: false,
            dollar_env: false,
            secrets: false,
            when_unset: WhenUnset::KeepLiteral,
        }
    }

    /// That of the editors: `${env:V}`, `${userHome}`, `${input:id}` and the like.
    pub(crate) const fn editor() -> Self {
        Self::native().without_dollar_dollar()
    }

    /// Everything that a host may know.
    const fn of_any_host() -> Self {
        Self {
            dollar_brace: true,
            dollar_dollar: false,
            bare_dollar: true,
            percent: true,
            bare_brace: true,
            dollar_env: true,
            secrets: true,
            when_unset: WhenUnset::KeepLiteral,
        }
    }

    /// Only `{env:V}` and `{file:p}`.
    pub(crate) const fn bare_brace() -> Self {
        let mut syntax = Self::none();
        syntax.bare_brace = true;
        syntax
    }

    pub(crate) const fn without_dollar_dollar(mut self) -> Self {
        self.dollar_dollar = false;
        self
    }

    pub(crate) const fn with_bare_dollar(mut self) -> Self {
        self.bare_dollar = true;
        self
    }

    pub(crate) const fn with_percent(mut self) -> Self {
        self.percent = true;
        self
    }

    /// `$env:V` (mcporter).
    pub(crate) const fn with_dollar_env(mut self) -> Self {
        self.dollar_env = true;
        self
    }

    /// `${{ secrets.V }}` (Continue).
    pub(crate) const fn with_secrets(mut self) -> Self {
        self.secrets = true;
        self
    }

    pub(crate) const fn unset(mut self, when_unset: WhenUnset) -> Self {
        self.when_unset = when_unset;
        self
    }
}

/// What a placeholder asks for: `${scheme:name}`, or `${name}` without a scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Reference {
    /// `env`, `file`, `input`, or a scheme of a downstream crate; `None` is a plain variable.
    pub scheme: Option<String>,
    /// The variable, path or identifier.
    pub name: String,
}

impl Reference {
    /// A reference with or without a scheme.
    #[must_use]
    pub fn new(scheme: Option<&str>, name: &str) -> Self {
        Self {
            scheme: scheme.map(str::to_owned),
            name: name.to_owned(),
        }
    }
}

/// `scheme:name` or `name`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Some(scheme) => write!(f, "{scheme}:{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A string taken apart.
///
/// `Debug` shows the placeholders, not the text around them.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Placeholder(Placeholder),
}

#[derive(Clone, PartialEq, Eq)]
struct Placeholder {
    /// Tried in order: `${env:X | env:Y | value:Z}` has several.
    alternatives: Vec<Alternative>,
    /// What follows `:-` or `-`.
    default: Option<Template>,
    /// Whether the default also stands in for an empty value: `:-`, not `-`.
    default_when_empty: bool,
    /// The byte offset of its first character in the string.
    offset: usize,
    /// As it was written.
    written: String,
}

#[derive(Clone, PartialEq, Eq)]
enum Alternative {
    Reference(Reference),
    Value(String),
}

/// Why a string is not a template.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateError {
    /// The byte offset in the string.
    pub offset: usize,
    /// What is wrong and what to do.
    pub message: String,
}

/// What an expansion gave.
#[derive(Default)]
pub(crate) struct Expansion {
    pub(crate) text: String,
    /// The references that gave a part of the text.
    pub(crate) used: BTreeSet<Reference>,
    /// Whether a default gave a part of the text.
    pub(crate) defaulted: bool,
    /// Whether any placeholder gave a text that is not empty.
    pub(crate) given: bool,
    /// References whose value is needed and not known yet.
    pub(crate) needed: BTreeSet<Reference>,
    /// References that are unset and have no default, with their offsets.
    pub(crate) missing: Vec<(Reference, usize)>,
}

/// What is known of each reference: a value, or that there is none.
pub(crate) type Known = BTreeMap<Reference, Option<Secret>>;

impl Template {
    /// Takes a string apart.
    ///
    /// # Errors
    /// A placeholder that is not closed, is empty, has a name that cannot be one, or is nested
    /// too deeply. Only where an unset variable is an error too; otherwise the text stays.
    pub fn parse(text: &str, syntax: Syntax) -> Result<Self, TemplateError> {
        parser::Parser {
            text,
            at: 0,
            syntax,
            lenient: syntax.when_unset != WhenUnset::Fail,
        }
        .template(None, 0)
    }

    /// A text that holds no placeholder, whatever it looks like.
    pub(crate) fn literal(text: &str) -> Self {
        Self {
            parts: vec![Part::Literal(text.to_owned())],
        }
    }

    /// Whether there is nothing to expand.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part, Part::Literal(_)))
    }

    /// The text for showing: placeholders as they are written, literal text and defaults
    /// replaced. The name of an authentication scheme in front stays.
    pub(crate) fn shown(&self, replacement: &str) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => {
                    let scheme = ["Bearer ", "Basic ", "token ", "Token "]
                        .into_iter()
                        .find(|scheme| text.starts_with(scheme))
                        .unwrap_or("");
                    out.push_str(scheme);
                    if !text[scheme.len()..].trim().is_empty() {
                        out.push_str(replacement);
                    }
                }
                Part::Placeholder(placeholder) => placeholder.show(&mut out, replacement),
            }
        }
        out
    }

    /// Whether its first character comes from a placeholder.
    pub(crate) fn begins_with_placeholder(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Placeholder(_)))
    }

    /// The same text with these references written out; `None` when it holds none of them.
    pub(crate) fn filled_in(&self, value: &dyn Fn(&Reference) -> Option<String>) -> Option<String> {
        let mut out = String::new();
        let mut any = false;
        for part in &self.parts {
            match part {
                Part::Literal(text) => escape_into(&mut out, text),
                Part::Placeholder(placeholder) => {
                    let first =
                        placeholder
                            .alternatives
                            .iter()
                            .find_map(|alternative| match alternative {
                                Alternative::Reference(reference) => value(reference),
                                Alternative::Value(_) => None,
                            });
                    match first {
                        Some(text) => {
                            any = true;
                            escape_into(&mut out, &text);
                        }
                        None => placeholder.write_native(&mut out, WhenUnset::Fail),
                    }
                }
            }
        }
        any.then_some(out)
    }

    /// The same with every other placeholder as plain text.
    pub(crate) fn with_only(mut self, is_known: &dyn Fn(&Reference) -> bool) -> Self {
        for part in &mut self.parts {
            if let Part::Placeholder(placeholder) = part {
                let known = match placeholder.alternatives.as_slice() {
                    [Alternative::Reference(reference)] => is_known(reference),
                    _ => false,
                };
                if !known || placeholder.default.is_some() {
                    *part = Part::Literal(std::mem::take(&mut placeholder.written));
                }
            }
        }
        self
    }

    /// Takes away each default of these references that is the placeholder itself as text, in the
    /// syntax of any host; `false` when there is none.
    pub(crate) fn drop_defaults_of_themselves(&mut self, of: &dyn Fn(&Reference) -> bool) -> bool {
        let mut any = false;
        for part in &mut self.parts {
            if let Part::Placeholder(placeholder) = part {
                let is_meant = placeholder.alternatives.iter().all(
                    |alternative| matches!(alternative, Alternative::Reference(reference) if of(reference)),
                );
                if is_meant && placeholder.has_itself_as_default() {
                    placeholder.default = None;
                    any = true;
                } else if let Some(default) = &mut placeholder.default {
                    any |= default.drop_defaults_of_themselves(of);
                }
            }
        }
        any
    }

    /// The references that have nothing to fall back on.
    pub(crate) fn bare_references(&self) -> Vec<Reference> {
        self.parts
            .iter()
            .filter_map(|part| match part {
                Part::Placeholder(placeholder) if placeholder.default.is_none() => {
                    match placeholder.alternatives.as_slice() {
                        [Alternative::Reference(reference)] => Some(reference.clone()),
                        _ => None,
                    }
                }
                _ => None,
            })
            .collect()
    }

    /// Everything it may ask for, those within defaults included.
    #[must_use]
    pub fn references(&self) -> BTreeSet<Reference> {
        let mut all = BTreeSet::new();
        self.collect(&mut all);
        all
    }

    fn collect(&self, all: &mut BTreeSet<Reference>) {
        for part in &self.parts {
            if let Part::Placeholder(placeholder) = part {
                for alternative in &placeholder.alternatives {
                    if let Alternative::Reference(reference) = alternative {
                        all.insert(reference.clone());
                    }
                }
                if let Some(default) = &placeholder.default {
                    default.collect(all);
                }
            }
        }
    }

    /// Puts the known values in.
    pub(crate) fn expand(&self, known: &Known) -> Expansion {
        let mut out = Expansion::default();
        self.expand_into(&mut out, known);
        out
    }

    fn expand_into(&self, out: &mut Expansion, known: &Known) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.text.push_str(text),
                Part::Placeholder(placeholder) => placeholder.expand_into(out, known),
            }
        }
    }

    /// The same in the native syntax. What the host makes of an unset variable becomes a default
    /// that is written out, so that one syntax is enough from here on.
    pub(crate) fn to_native(&self, when_unset: WhenUnset) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => escape_into(&mut out, text),
                Part::Placeholder(placeholder) => placeholder.write_native(&mut out, when_unset),
            }
        }
        out
    }
}

/// A text as a template that gives just this text.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    escape_into(&mut out, text);
    out
}

fn escape_into(out: &mut String, text: &str) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '$' && matches!(chars.peek(), None | Some('$' | '{')) {
            out.push('$');
        }
    }
}

impl Placeholder {
    fn has_itself_as_default(&self) -> bool {
        let Some([Part::Literal(text)]) = self.default.as_ref().map(|d| d.parts.as_slice()) else {
            return false;
        };
        let template = Template::parse(text, Syntax::of_any_host());
        let parts = template.map(|template| template.parts).unwrap_or_default();
        matches!(parts.as_slice(), [Part::Placeholder(inner)]
            if inner.default.is_none() && inner.alternatives == self.alternatives)
    }

    fn show(&self, out: &mut String, replacement: &str) {
        let has_value = self
            .alternatives
            .iter()
            .any(|alternative| matches!(alternative, Alternative::Value(_)));
        if self.default.is_none() && !has_value {
            out.push_str(&self.written);
            return;
        }
        let names: Vec<String> = self
            .alternatives
            .iter()
            .map(|alternative| match alternative {
                Alternative::Reference(reference) => reference.to_string(),
                Alternative::Value(_) => format!("value:{replacement}"),
            })
            .collect();
        out.push_str("${");
        out.push_str(&names.join(" | "));
        if let Some(default) = &self.default {
            out.push_str(if self.default_when_empty { ":-" } else { "-" });
            out.push_str(&default.shown(replacement));
        }
        out.push('}');
    }

    fn write_native(&self, out: &mut String, when_unset: WhenUnset) {
        out.push_str("${");
        for (index, alternative) in self.alternatives.iter().enumerate() {
            if index > 0 {
                out.push_str(" | ");
            }
            match alternative {
                Alternative::Reference(reference) => out.push_str(&reference.to_string()),
                Alternative::Value(text) => {
                    out.push_str("value:");
                    out.push_str(text);
                }
            }
        }
        let has_value = self
            .alternatives
            .iter()
            .any(|alternative| matches!(alternative, Alternative::Value(_)));
        // An input is asked for, and is not a variable that may be unset.
        let is_input = self.alternatives.iter().any(|alternative| {
            matches!(alternative, Alternative::Reference(reference)
                if reference.scheme.as_deref() == Some("input"))
        });
        match (&self.default, when_unset) {
            (Some(default), _) => {
                out.push_str(if self.default_when_empty { ":-" } else { "-" });
                out.push_str(&default.to_native(when_unset));
            }
            (None, _) if is_input => {}
            (None, WhenUnset::KeepLiteral) if !has_value => {
                out.push_str(":-");
                escape_into(out, &self.written);
            }
            (None, WhenUnset::Empty) if !has_value => out.push_str(":-"),
            (None, _) => {}
        }
        out.push('}');
    }

    fn expand_into(&self, out: &mut Expansion, known: &Known) {
        let before = out.text.len();
        self.value_into(out, known);
        out.given |= out.text.len() > before;
    }

    fn value_into(&self, out: &mut Expansion, known: &Known) {
        let mut first_missing = None;
        for alternative in &self.alternatives {
            match alternative {
                Alternative::Value(text) => {
                    out.text.push_str(text);
                    out.defaulted = true;
                    return;
                }
                Alternative::Reference(reference) => match known.get(reference) {
                    None => {
                        out.needed.insert(reference.clone());
                        return;
                    }
                    Some(Some(value)) if !self.default_when_empty || !value.expose().is_empty() => {
                        out.text.push_str(value.expose());
                        out.used.insert(reference.clone());
                        return;
                    }
                    Some(_) => {
                        first_missing.get_or_insert(reference);
                    }
                },
            }
        }
        if let Some(default) = &self.default {
            out.defaulted = true;
            default.expand_into(out, known);
            return;
        }
        if let Some(reference) = first_missing {
            out.missing.push((reference.clone(), self.offset));
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.references()).finish()
    }
}

#[cfg(test)]
mod tests;
