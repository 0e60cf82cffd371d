//! Half surrogate pairs in JSON escapes: `serde_json` refuses them in strings, real servers send
//! them.

use std::borrow::Cow;

/// The text with `\ufffd` in place of each escape that is half of a surrogate pair; borrowed when
/// there is none. Only escapes inside strings are looked at, so valid text stays valid.
pub(crate) fn repaired(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        let start = at + found;
        let Some(unit) = escape_at(bytes, start) else {
            // Another escape: its second byte is never the start of one.
            at = (start + 2).min(bytes.len());
            continue;
        };
        at = start + ESCAPE;
        match unit {
            0xD800..=0xDBFF if matches!(escape_at(bytes, at), Some(0xDC00..=0xDFFF)) => {
                at += ESCAPE;
            }
            0xD800..=0xDFFF => {
                let out = out.get_or_insert_with(String::new);
                out.push_str(&text[copied..start]);
                out.push_str("\\ufffd");
                copied = at;
            }
            _ => {}
        }
    }
    match out {
        Some(mut out) => {
            out.push_str(&text[copied..]);
            Cow::Owned(out)
        }
        None => Cow::Borrowed(text),
    }
}

/// The length of `\uXXXX`.
const ESCAPE: usize = 6;

/// The code unit of a `\uXXXX` that begins here.
fn escape_at(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + ESCAPE)?;
    let digits = escape.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_halves_are_replaced() {
        let cases = [
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud800""#, r#""\\ud800""#),
            (r#""\\\ud800""#, r#""\\\ufffd""#),
            (r#""plain ü""#, r#""plain ü""#),
        ];
        for (text, wanted) in cases {
            assert_eq!(repaired(text), wanted, "{text}");
        }
        assert!(matches!(repaired("\"a\""), Cow::Borrowed(_)));
        // A cut escape at the very end.
        assert_eq!(repaired("\"\\"), "\"\\");
    }
}
