//! In which forms a value may stand in a text, and which values are no secrets.

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};

use super::{Masker, decode};
use crate::EnvInheritance;

/// Shorter forms are masked as whole words only: within words they stand by chance.
pub(super) const MIN_ANYWHERE_BYTES: usize = 8;

/// Longer forms are looked for in pieces of this length, so that a look at one place of a text has
/// a bound.
pub(super) const MAX_BYTES: usize = 256;

/// Longer values are not looked for in base64.
const MAX_BASE64_BYTES: usize = 1024;

/// Words that settings are made of.
const PLAIN_WORDS: &[&str] = &[
    "true",
    "false",
    "none",
    "null",
    "undefined",
    "default",
    "auto",
    "always",
    "never",
    "enabled",
    "disabled",
    "error",
    "warn",
    "warning",
    "info",
    "debug",
    "trace",
    "verbose",
    "quiet",
    "silent",
    "production",
    "development",
    "staging",
    "test",
    "local",
    "localhost",
    "stdio",
    "http",
    "https",
    "utf-8",
    "en_us.utf-8",
    "c.utf-8",
];

/// The last parts of the names of variables that hold paths.
const PLACES: &[&str] = &[
    "cwd",
    "dir",
    "directory",
    "file",
    "folder",
    "home",
    "path",
    "root",
];

/// A value without the white space around it, up to the bound.
pub(super) fn core(value: &str) -> &str {
    let value = value.trim();
    let mut end = value.len().min(Masker::MAX_VALUE_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// Whether a value is one that is masked.
pub(super) fn is_masked(value: &str) -> bool {
    let is_short_number = value.len() <= 5 && value.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = PLAIN_WORDS
        .iter()
        .any(|word| word.eq_ignore_ascii_case(value));
    value.len() >= Masker::MIN_BYTES && !is_short_number && !is_plain
}

/// Whether a variable says where something is or how the system is set up.
pub(super) fn names_a_place(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if EnvInheritance::SafeList.allows(&name.to_ascii_uppercase(), value) {
        return true;
    }
    let is_path = value.starts_with(['/', '~', '.']) || value.get(1..3) == Some(":\\");
    let last = name.rsplit(['_', '-']).next().unwrap_or_default();
    is_path && PLACES.contains(&last)
}

/// The texts to look for: the value first, then what it is without `%41`, its lines and its base64.
pub(super) fn of(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    // As it stands in a URL, and as it was meant.
    forms.extend(decode::percent_decoded(value).filter(|value| is_masked(value)));
    if value.contains('\n') {
        let lines = value.lines().map(str::trim);
        // Shorter lines are braces and words, not keys.
        let lines = lines.filter(|line| line.len() >= MIN_ANYWHERE_BYTES);
        forms.extend(lines.map(str::to_owned));
    }
    if (MIN_ANYWHERE_BYTES..=MAX_BASE64_BYTES).contains(&value.len()) {
        for alphabet in [&alphabet::STANDARD, &alphabet::URL_SAFE] {
            let engine = GeneralPurpose::new(alphabet, NO_PAD);
            forms.extend((0..3).map(|before| within_base64(&engine, value, before)));
        }
    }
    forms
        .iter()
        .flat_map(|form| pieces(form))
        .map(str::to_owned)
        .collect()
}

/// A text in pieces that cover it. The last one is as long as the others, so it overlaps the one
/// before.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while text.len() > MAX_BYTES {
        let mut end = MAX_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        pieces.push(&text[..end]);
        let mut next = end.min(text.len() - MAX_BYTES);
        while !text.is_char_boundary(next) {
            next -= 1;
        }
        text = &text[next..];
        if next == 0 {
            break;
        }
    }
    if text.len() <= MAX_BYTES {
        pieces.push(text);
    }
    pieces
}

/// The characters that a value has within the base64 of a longer text, when so many bytes (modulo
/// three) come before it: those that also hold bits of its neighbours are left out.
fn within_base64(engine: &GeneralPurpose, value: &str, before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value.as_bytes());
    let text = engine.encode(&bytes);
    let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    text[first..end].to_owned()
}
