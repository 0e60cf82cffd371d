//! From a string to a template. Every step consumes input, and nesting is bounded.

use super::{Alternative, Part, Placeholder, Reference, Syntax, Template, TemplateError};

/// How deep defaults may be nested.
const MAX_DEPTH: usize = 16;

/// How many bytes `${{ … }}` may hold.
const MAX_SECRET: usize = 200;

/// Reads one string.
pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) syntax: Syntax,
    pub(super) lenient: bool,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError {
            offset,
            message: message.into(),
        })
    }

    /// Reads up to the end, or up to the `close` that ends a default. The `close` is left.
    pub(super) fn template(
        &mut self,
        close: Option<char>,
        depth: usize,
    ) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        // Plain braces inside a default are balanced, so that `${V:-{"a":1}}` works.
        let mut open_braces = 0_usize;
        while let Some(next) = self.rest().chars().next() {
            if close == Some(next) && open_braces == 0 {
                break;
            }
            let start = self.at;
            match self.placeholder(depth) {
                Ok(Some(placeholder)) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Placeholder(placeholder));
                    continue;
                }
                Ok(None) => {}
                // A host that leaves unknown text alone leaves this alone too. Only the
                // outermost placeholder is given up, so that no text is read twice as deep.
                Err(_) if self.lenient && depth == 0 => self.at = start,
                Err(error) => return Err(error),
            }
            if self.syntax.dollar_dollar && self.rest().starts_with("$$") {
                literal.push('$');
                self.at += 2;
                continue;
            }
            if close.is_some() {
                match next {
                    '{' => open_braces += 1,
                    '}' => open_braces = open_braces.saturating_sub(1),
                    _ => {}
                }
            }
            literal.push(next);
            self.at += next.len_utf8();
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Template { parts })
    }

    /// Reads a placeholder when one begins here; leaves the position alone otherwise.
    fn placeholder(&mut self, depth: usize) -> Result<Option<Placeholder>, TemplateError> {
        let offset = self.at;
        let rest = self.rest();
        if rest.starts_with("${{") && (self.syntax.secrets || self.syntax.dollar_brace) {
            return self.secret(offset).map(Some);
        }
        if self.syntax.dollar_brace && rest.starts_with("${") {
            if depth >= MAX_DEPTH {
                return self.fail(offset, "defaults are nested too deeply");
            }
            self.at += 2;
            return self.braced(offset, depth).map(Some);
        }
        if self.syntax.bare_brace
            && (rest.starts_with("{env:") || rest.starts_with("{file:"))
            && let Some(end) = rest[1..].find(['}', '{', '$', '|']).map(|at| at + 1)
            && rest[end..].starts_with('}')
        {
            let inner = &rest[1..end];
            let (scheme, name) = inner.split_once(':').unwrap_or(("", inner));
            // What the native syntax would take for a default is no name.
            if !name.trim().is_empty() && !name.contains(":-") {
                let reference = Reference::new(Some(scheme), name.trim());
                self.at += end + 1;
                return Ok(Some(self.simple(offset, reference)));
            }
        }
        if self.syntax.dollar_env
            && let Some(after) = rest.strip_prefix("$env:")
        {
            let length = name_length(after);
            if length > 0 {
                let reference = Reference::new(Some("env"), &after[..length]);
                self.at += "$env:".len() + length;
                return Ok(Some(self.simple(offset, reference)));
            }
        }
        if self.syntax.bare_dollar
            && let Some(after) = rest.strip_prefix('$')
        {
            let length = name_length(after);
            if length > 0 {
                let reference = Reference::new(None, &after[..length]);
                self.at += 1 + length;
                return Ok(Some(self.simple(offset, reference)));
            }
        }
        if self.syntax.percent
            && let Some(after) = rest.strip_prefix('%')
        {
            let length = name_length(after);
            if length > 0 && after[length..].starts_with('%') {
                let reference = Reference::new(None, &after[..length]);
                self.at += length + 2;
                return Ok(Some(self.simple(offset, reference)));
            }
        }
        Ok(None)
    }

    /// Reads `${{ secrets.NAME }}`.
    fn secret(&mut self, offset: usize) -> Result<Placeholder, TemplateError> {
        let inner = self.rest().strip_prefix("${{").unwrap_or_default();
        // A name is short: a long text of nothing but `${{` is not read again and again.
        let window = inner.len().min(MAX_SECRET);
        let closed = inner.as_bytes()[..window]
            .windows(2)
            .position(|pair| pair == b"}}");
        let name = closed
            .map(|end| inner[..end].trim())
            .and_then(|inner| inner.strip_prefix("secrets."))
            .filter(|name| !name.is_empty() && name_length(name) == name.len());
        let (Some(end), Some(name)) = (closed, name) else {
            return self.fail(
                offset,
                "`${{ … }}` is not a placeholder; write `${NAME}`, or `$$` for a plain dollar",
            );
        };
        if !self.syntax.secrets {
            return self.fail(
                offset,
                format!(
                    "`${{{{ secrets.{name} }}}}` is Continue's placeholder; write `${{{name}}}`"
                ),
            );
        }
        let reference = Reference::new(None, name);
        self.at += "${{".len() + end + "}}".len();
        Ok(self.simple(offset, reference))
    }

    fn simple(&self, offset: usize, reference: Reference) -> Placeholder {
        Placeholder {
            alternatives: vec![Alternative::Reference(reference)],
            default: None,
            default_when_empty: false,
            offset,
            written: self.text[offset..self.at].to_owned(),
        }
    }

    /// Reads what follows `${`.
    fn braced(&mut self, offset: usize, depth: usize) -> Result<Placeholder, TemplateError> {
        let mut alternatives = Vec::new();
        let mut default = None;
        let mut default_when_empty = false;
        loop {
            let rest = self.rest();
            // A name holds none of these, so that this looks no further than the name: on a long
            // text of nothing but `${` it must not look at the rest each time.
            let end = rest.find(['}', '|', '$', '{']).unwrap_or(rest.len());
            // `:-` also stands in for an empty value, `-` for an unset one only. A name with a
            // scheme may hold a `-` itself.
            let (end, operator) = match rest[..end].find(":-") {
                Some(at) => (at, ":-"),
                None => match rest[..end].find('-') {
                    Some(at) if !rest[..at].contains(':') => (at, "-"),
                    _ => (end, ""),
                },
            };
            let closed = !operator.is_empty() || rest[end..].starts_with(['}', '|']);
            if !closed {
                return self.fail(
                    offset,
                    "this `${` is never closed; add `}`, or write `$$` for a plain dollar",
                );
            }
            let alternative = self.alternative(offset, rest[..end].trim())?;
            self.at += end + operator.len();
            alternatives.push(alternative);
            if !operator.is_empty() {
                default_when_empty = operator == ":-";
                default = Some(self.template(Some('}'), depth + 1)?);
            }
            match self.rest().chars().next() {
                Some('}') => {
                    self.at += 1;
                    break;
                }
                Some('|') => self.at += 1,
                _ => {
                    return self.fail(
                        offset,
                        "this `${` is never closed; add `}`, or write `$$` for a plain dollar",
                    );
                }
            }
        }
        Ok(Placeholder {
            alternatives,
            default,
            default_when_empty,
            offset,
            written: self.text[offset..self.at].to_owned(),
        })
    }

    fn alternative(&self, offset: usize, inner: &str) -> Result<Alternative, TemplateError> {
        if inner.is_empty() {
            return self.fail(offset, "this `${…}` names no variable; write `${NAME}`");
        }
        // The editor's name for the path separator.
        if inner == "/" {
            return Ok(Alternative::Reference(Reference::new(None, "/")));
        }
        match inner.split_once(':') {
            Some(("value", text)) => Ok(Alternative::Value(text.to_owned())),
            Some((scheme, name)) => {
                let is_scheme = !scheme.is_empty()
                    && scheme
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
                if !is_scheme {
                    return self.fail(
                        offset,
                        "what stands before `:` is not a scheme; write `${env:NAME}` or `${NAME:-default}`",
                    );
                }
                if name.trim().is_empty() {
                    return self.fail(
                        offset,
                        format!("nothing follows `{scheme}:`; write `${{{scheme}:NAME}}`"),
                    );
                }
                Ok(Alternative::Reference(Reference::new(
                    Some(scheme),
                    name.trim(),
                )))
            }
            None => {
                let good = inner
                    .chars()
                    .all(|c| c.is_alphanumeric() || "_.()".contains(c));
                if good {
                    Ok(Alternative::Reference(Reference::new(None, inner)))
                } else {
                    self.fail(
                        offset,
                        "this is not the name of a variable: use letters, digits and `_`, or write `$$` for a plain dollar",
                    )
                }
            }
        }
    }
}

/// The length of the variable name at the start of a text.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}
