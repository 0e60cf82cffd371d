//! The digest of a request's arguments, by which a retry is known to be of the same request. A
//! client may write the same value in another way each time, so what counts is the value: members
//! in any order, strings with any escapes, white space anywhere. Numbers count as they are written,
//! for no type holds all of them.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcpool_core::Raw;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// How deep values are compared as values. What lies deeper counts as it is written: each level is
/// read once more.
const MAX_DEPTH: usize = 32;

/// The digest of arguments. None, `null` and an empty object are the same.
pub(crate) fn digest(arguments: Option<&Raw>) -> String {
    let mut hash = Sha256::new();
    let arguments = arguments.map(Raw::as_raw_value);
    if let Some(arguments) = arguments.filter(|arguments| !says_nothing(arguments.get())) {
        value(arguments, 0, &mut hash);
    }
    BASE64_URL_SAFE_NO_PAD.encode(hash.finalize())
}

fn says_nothing(text: &str) -> bool {
    let empty = |inside: &str| inside.trim().is_empty();
    let inside = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    text == "null" || inside.is_some_and(empty)
}

/// Adds a value. Each begins with what it is and how long it is, so that no two are the same bytes.
fn value(raw: &RawValue, depth: usize, hash: &mut Sha256) {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') if depth < MAX_DEPTH => {
            if let Ok(Members(mut members)) = serde_json::from_str(text) {
                // Members of one name stay in their order.
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                begin(b'{', members.len(), hash);
                for (name, member) in members {
                    bytes(b'"', name.as_bytes(), hash);
                    value(member, depth + 1, hash);
                }
                return;
            }
        }
        Some(b'[') if depth < MAX_DEPTH => {
            if let Ok(entries) = serde_json::from_str::<Vec<&RawValue>>(text) {
                begin(b'[', entries.len(), hash);
                for entry in entries {
                    value(entry, depth + 1, hash);
                }
                return;
            }
        }
        Some(b'"') => {
            if let Ok(string) = serde_json::from_str::<String>(text) {
                return bytes(b'"', string.as_bytes(), hash);
            }
        }
        _ => {}
    }
    bytes(b'=', text.as_bytes(), hash);
}

fn bytes(kind: u8, bytes: &[u8], hash: &mut Sha256) {
    begin(kind, bytes.len(), hash);
    hash.update(bytes);
}

fn begin(kind: u8, length: usize, hash: &mut Sha256) {
    hash.update([kind]);
    hash.update(length.to_be_bytes());
}

/// The members of an object in their order, those of one name too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Each).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        digest(Some(&Raw::from_text(text.to_owned()).unwrap()))
    }

    #[test]
    fn one_value_has_one_digest_however_it_is_written() {
        for (one, other) in [
            (
                r#"{"a":1,"b":[true,null]}"#,
                r#"{ "b" : [ true , null ], "\u0061" : 1 }"#,
            ),
            (
                r#"{"a":{"c":"ü/","d":{}}}"#,
                r#"{"a":{"d":{ },"c":"\u00fc\/"}}"#,
            ),
            ("null", "{ }"),
        ] {
            assert_eq!(of(one), of(other), "{one}");
        }
        assert_eq!(of("{}"), digest(None));
    }

    #[test]
    fn other_values_have_other_digests() {
        let deep = |inside: &str| format!("{}{inside}{}", "[".repeat(9_000), "]".repeat(9_000));
        let texts = [
            "null",
            "[]",
            r#"{"a":{}}"#,
            r#"{"a":null}"#,
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,[]]}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":12345678901234567890123}"#,
            r#"{"a":12345678901234567890124}"#,
            r#"{"a":1e400}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud801"}"#,
            r#"{"\ud800":1}"#,
            &deep("1"),
            &deep("2"),
        ];
        let all: std::collections::BTreeSet<String> = texts.iter().map(|text| of(text)).collect();
        assert_eq!(all.len(), texts.len());
    }
}
