//! Placeholders of one host in the file of another, where they are passed on as they stand.

use super::Syntax;

/// How many characters a placeholder may have.
const MAX_LENGTH: usize = 200;

/// A placeholder that means nothing where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// As it was written, without a default.
    pub(crate) written: String,
    /// The variable that was meant.
    pub(crate) name: String,
}

/// The first placeholder of another host's in a text.
pub(crate) fn foreign(text: &str, syntax: Syntax) -> Option<Foreign> {
    text.match_indices('{').find_map(|(at, _)| {
        let start = match text[..at].strip_suffix('$') {
            Some(before) => before.len(),
            None => at,
        };
        let rest = &text[start..];
        let (open, close, known) = if rest.starts_with("${{") {
            ("${{", "}}", syntax.secrets)
        } else if rest.starts_with("${") {
            ("${", "}", syntax.dollar_brace)
        } else if rest.starts_with("{env:") {
            ("{env:", "}", syntax.bare_brace)
        } else {
            return None;
        };
        if known {
            return None;
        }
        let inner = &rest[open.len()..];
        // A placeholder is short: a long text of nothing but `{` is not read again and again.
        let end = inner
            .char_indices()
            .take(MAX_LENGTH)
            .map(|(at, _)| at)
            .find(|at| inner[*at..].starts_with(close))?;
        let meant = inner[..end].trim();
        let meant = meant.strip_prefix("secrets.").unwrap_or(meant);
        let meant = meant.strip_prefix("env:").unwrap_or(meant);
        let name = meant.split(":-").next().unwrap_or_default();
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // A default is not for showing.
        let written = match meant.len() > name.len() {
            true => format!("${{{name}:-…}}"),
            false => rest[..open.len() + end + close.len()].to_owned(),
        };
        is_name.then(|| Foreign {
            written,
            name: name.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_host_does_not_know() {
        let found = |text, syntax| foreign(text, syntax).map(|found| (found.written, found.name));
        let pair = |written: &str, name: &str| Some((written.to_owned(), name.to_owned()));
        for (text, syntax, want) in [
            ("Bearer ${T}", Syntax::none(), pair("${T}", "T")),
            ("${env:T}", Syntax::none(), pair("${env:T}", "T")),
            ("${T:-x}", Syntax::bare_brace(), pair("${T:-…}", "T")),
            ("{env:T}", Syntax::native(), pair("{env:T}", "T")),
            (
                "${{ secrets.T }}",
                Syntax::editor(),
                pair("${{ secrets.T }}", "T"),
            ),
            ("${T}", Syntax::native(), None),
            ("${env:T}", Syntax::native(), None),
            ("{env:T}", Syntax::bare_brace(), None),
            ("${{ secrets.T }}", Syntax::native().with_secrets(), None),
            ("{\"a\": {}} ${ ${1} ${a b} {env:", Syntax::none(), None),
        ] {
            assert_eq!(found(text, syntax), want, "{text}");
        }
    }
}
