//! A file of `NAME=value` lines, as `dotenv` of Node.js reads it, without putting variables in.
//!
//! A value is taken as it stands: `$NAME` has no meaning in it, so that no variable of the user's
//! gets to a server by this way, a password may hold a `$`, and values cannot grow by naming each
//! other.

use std::path::Path;

use mcpool_core::Secret;

/// How large a file of variables may be.
const LIMIT: u64 = 1024 * 1024;

/// How many variables it may set.
const MAX_VARIABLES: usize = 1000;

/// Reads the file. Blocks.
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    mcpool_files::read_regular(path, LIMIT)
}

/// The variables, in the order of the file.
///
/// - empty lines and lines that begin with `#` are comments, and `export ` before a name is let
///   pass;
/// - a value in `'…'` is everything between the quotes, over several lines too;
/// - in `"…"`, `\n`, `\r`, `\t`, `\"`, `\\` and `\$` are one character each;
/// - a value without quotes ends with its line or before ` #`, and white space around it is
///   dropped.
///
/// # Errors
/// What is wrong and in which line, in words that quote nothing of the file.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<(String, Secret)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(variables);
        }
        let at = text.len() - rest.len();
        let fail = |what: &str| {
            let line = text[..at].matches('\n').count() + 1;
            format!("line {line} {what}")
        };
        if rest.starts_with('#') {
            rest = after_line(rest);
            continue;
        }
        let (name, value) = rest[..line_end(rest)]
            .split_once('=')
            .ok_or_else(|| fail("is not `NAME=value`"))?;
        let start = name.len() + 1;
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim_start();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(fail("is not `NAME=value`"));
        }
        let gap = value.len() - value.trim_start().len();
        rest = &rest[start + gap..];
        let value = match rest.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let (value, length) = quoted(&rest[1..], quote)
                    .ok_or_else(|| fail("begins a quote that is never closed"))?;
                rest = &rest[1 + length..];
                let tail = rest[..line_end(rest)].trim();
                if !tail.is_empty() && !tail.starts_with('#') {
                    return Err(fail("has something behind a closed quote"));
                }
                value
            }
            _ => {
                let value = &rest[..line_end(rest)];
                let comment = [" #", "\t#"]
                    .iter()
                    .filter_map(|mark| value.find(mark))
                    .min();
                let value = if value.starts_with('#') { "" } else { value };
                value[..comment.unwrap_or(value.len()).min(value.len())]
                    .trim()
                    .to_owned()
            }
        };
        rest = after_line(rest);
        if variables.len() == MAX_VARIABLES {
            return Err(format!("it sets over {MAX_VARIABLES} variables"));
        }
        variables.push((name.to_owned(), Secret::new(value)));
    }
}

/// A value up to its closing quote, and how many bytes that took with the quote.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((value, at + 1)),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$') => value.push(c),
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

fn line_end(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

fn after_line(text: &str) -> &str {
    &text[line_end(text)..]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes())
            .unwrap()
            .into_iter()
            .map(|(name, value)| (name, value.expose().to_owned()))
            .collect()
    }

    #[test]
    fn lines() {
        for (text, name, value) in [
            ("A=b", "A", "b"),
            ("  export A = b c \r\n", "A", "b c"),
            (
                "\u{feff}# it's\n\nA=x$HOME-${PATH}pa$$word",
                "A",
                "x$HOME-${PATH}pa$$word",
            ),
            ("A=b#c # d", "A", "b#c"),
            ("A=", "A", ""),
            ("A= # nothing", "A", ""),
            ("A=C:\\new\\table", "A", "C:\\new\\table"),
            ("A='$HOME \\n # \"' # x", "A", "$HOME \\n # \""),
            ("A=\"a\\n\\\"b\\\" \\$c\\d\"", "A", "a\n\"b\" $c\\d"),
            (
                "A='-----BEGIN\nx\n-----END'\n",
                "A",
                "-----BEGIN\nx\n-----END",
            ),
            ("A=é'", "A", "é'"),
        ] {
            assert_eq!(
                parsed(text),
                [(name.to_owned(), value.to_owned())],
                "{text}"
            );
        }
        let two = parsed("A='1'\nB=\"2\"\r\nexport=3");
        assert_eq!(two.len(), 3);
        assert_eq!(two[2], ("export".to_owned(), "3".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_its_text() {
        for (text, line) in [
            ("A=1\ncanary", 2),
            ("A=1\n\n=canary", 3),
            ("A B=canary", 1),
            ("A='canary", 1),
            ("A=\"canary\\", 1),
            ("X='a\nb'\nA='1' canary", 3),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(
                error.starts_with(&format!("line {line} ")),
                "{text}: {error}"
            );
            assert!(!error.contains("canary"), "{error}");
        }
        assert!(parse(b"A=\xff").is_err());
        let many = "A=1\n".repeat(MAX_VARIABLES);
        assert_eq!(parsed(&many).len(), MAX_VARIABLES);
        assert!(parse((many + "A=1").as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_variables_or_an_error(text in "[A='\"\\\\ #$\n\r\u{e9}=a]*") {
            if let Ok(variables) = parse(text.as_bytes()) {
                let size: usize = variables.iter().map(|(_, v)| v.expose().len()).sum();
                proptest::prop_assert!(size <= text.len());
            }
        }
    }
}
