//! Placeholders of one host in the file of another, where they are passed on as they stand.

use super::Syntax;

/// How many characters a placeholder may have: a long text of nothing but `{` must not be read
/// again and again.
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
    text.match_indices(['{', '$', '%'])
        .find_map(|(at, sign)| match sign {
            "{" => braced(text, at, syntax),
            "$" if !syntax.bare_dollar => dollar(text, at),
            "%" if !syntax.percent => percent(text, at),
            _ => None,
        })
}

/// `${NAME}`, `${env:NAME}`, `{env:NAME}`, `${{ secrets.NAME }}` and, in capitals, `{{NAME}}`, at
/// their brace.
fn braced(text: &str, at: usize, syntax: Syntax) -> Option<Foreign> {
    let start = match text[..at].strip_suffix('$') {
        Some(before) => before.len(),
        None => at,
    };
    let rest = &text[start..];
    let (open, close, known) = if let Some(inner) = rest.strip_prefix("${{") {
        let is_secret = inner.trim_start().starts_with("secrets.");
        ("${{", "}}", syntax.secrets && is_secret)
    } else if rest.starts_with("${") {
        ("${", "}", syntax.dollar_brace)
    } else if rest.starts_with("{env:") {
        ("{env:", "}", syntax.bare_brace)
    } else {
        // A hole that a template's user was to fill.
        let name = capitals(rest.strip_prefix("{{")?.trim_start());
        let is_hole = name.len() >= 3
            && rest[rest.find(name)? + name.len()..]
                .trim_start()
                .starts_with("}}");
        return is_hole.then(|| Foreign {
            written: format!("{{{{{name}}}}}"),
            name: name.to_owned(),
        });
    };
    if known {
        return None;
    }
    let inner = &rest[open.len()..];
    let end = inner
        .char_indices()
        .take(MAX_LENGTH)
        .map(|(at, _)| at)
        .find(|at| inner[*at..].starts_with(close))?;
    let meant = inner[..end].trim();
    let plain = ["secrets.", "inputs.", "env:"]
        .iter()
        .find_map(|start| meant.strip_prefix(start))
        .unwrap_or(meant);
    let name = plain.split(":-").next().unwrap_or_default();
    // A default is not for showing.
    let written = match plain.len() > name.len() {
        true => format!("${{{name}:-…}}"),
        false => rest[..open.len() + end + close.len()].to_owned(),
    };
    is_name(name).then(|| Foreign {
        written,
        name: name.to_owned(),
    })
}

/// `$NAME` in capitals as a word of its own, as people write it who think of a shell.
fn dollar(text: &str, at: usize) -> Option<Foreign> {
    let starts_word = text[..at]
        .chars()
        .next_back()
        .is_none_or(|before| " =:".contains(before));
    let rest = &text[at + 1..];
    let name = capitals(rest);
    let ends_word = rest[name.len()..]
        .chars()
        .next()
        .is_none_or(|after| " /&\\".contains(after));
    (starts_word && ends_word && name.len() >= 3).then(|| Foreign {
        written: format!("${name}"),
        name: name.to_owned(),
    })
}

/// `%NAME%` in capitals, as Windows has it.
fn percent(text: &str, at: usize) -> Option<Foreign> {
    let rest = &text[at + 1..];
    let name = capitals(rest);
    (name.len() >= 3 && rest[name.len()..].starts_with('%')).then(|| Foreign {
        written: format!("%{name}%"),
        name: name.to_owned(),
    })
}

/// The variable in capitals at the start of a text.
fn capitals(text: &str) -> &str {
    let end = text
        .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .unwrap_or(text.len());
    let name = &text[..end];
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => "",
        false => name,
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_host_does_not_know() {
        let found = |text, syntax| foreign(text, syntax).map(|found| (found.written, found.name));
        let pair = |written: &str, name: &str| Some((written.to_owned(), name.to_owned()));
        let with_secrets = Syntax::native().with_secrets();
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
            (
                "${{ inputs.T }}",
                with_secrets,
                pair("${{ inputs.T }}", "T"),
            ),
            ("-i {{ BOX }}", Syntax::native(), pair("{{BOX}}", "BOX")),
            ("{{.Names}} {{x}} {{A B}}", Syntax::none(), None),
            ("$TOKEN", Syntax::native(), pair("$TOKEN", "TOKEN")),
            ("A=$TOKEN", Syntax::none(), pair("$TOKEN", "TOKEN")),
            ("$HOME/x", Syntax::editor(), pair("$HOME", "HOME")),
            ("%APPDATA%\\x", Syntax::none(), pair("%APPDATA%", "APPDATA")),
            ("${T}", Syntax::native(), None),
            ("${env:T}", Syntax::native(), None),
            ("{env:T}", Syntax::bare_brace(), None),
            ("${{ secrets.T }}", with_secrets, None),
            ("$TOKEN", Syntax::native().with_bare_dollar(), None),
            ("%APPDATA%", Syntax::native().with_percent(), None),
            ("pa$SWORD costs $5, $US and $x", Syntax::none(), None),
            ("a%20b%AB%zz%C3%A9", Syntax::none(), None),
            ("{\"a\": {}} ${ ${1} ${a b} {env:", Syntax::none(), None),
        ] {
            assert_eq!(found(text, syntax), want, "{text}");
        }
    }
}
