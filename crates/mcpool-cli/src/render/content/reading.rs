//! An answer as a value, whatever is in it.

use std::collections::BTreeMap;

use mcpool::Raw;
use serde_json::Value;

/// How many levels are read one by one: the answer, its list, a block, a member of it, and one that
/// it has.
const LEVELS: usize = 5;

/// The value of JSON that came from a server. What cannot be read as one, because it is nested too
/// deep or has a number that is too large, stays the text that it is, and takes nothing with it.
pub(crate) fn value_of(raw: &Raw) -> Value {
    by_level(raw, LEVELS)
}

fn by_level(raw: &Raw, levels: usize) -> Value {
    let parsed = raw.parse::<Value>();
    let (Err(_), Some(below)) = (&parsed, levels.checked_sub(1)) else {
        return parsed.unwrap_or_else(|_| raw.get().into());
    };
    if let Ok(members) = raw.parse::<BTreeMap<String, Raw>>() {
        let members = members.iter();
        return members
            .map(|(name, member)| (name.clone(), by_level(member, below)))
            .collect();
    }
    match raw.parse::<Vec<Raw>>() {
        Ok(items) => items.iter().map(|item| by_level(item, below)).collect(),
        Err(_) => raw.get().into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        value_of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_cannot_be_read_takes_nothing_with_it() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let text = format!(
            r#"{{"content":[{{"type":"text","text":"a","x":{deep}}},{{"type":"text","text":"b","x":1e999}}],"isError":true}}"#
        );
        assert_eq!(
            read(&text),
            json!({
                "content": [
                    {"type": "text", "text": "a", "x": [[deep[2..398]]]},
                    {"type": "text", "text": "b", "x": "1e999"},
                ],
                "isError": true,
            })
        );
        assert_eq!(read(&deep), json!([[[[[deep[5..deep.len() - 5]]]]]]));
        assert_eq!(read("[1]"), json!([1]));
    }
}
