//! `key=value`, `key:=json`, `key=@file`: from words to a JSON object.

use serde_json::Value;

use super::{Object, read_input, schema::Schema};
use crate::{exit::Failure, text};

/// How deep `a.b.c=1` nests objects.
const MAX_NESTING: usize = 32;

/// One pair, with what it names read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    key: String,
    value: Word,
}

/// The value of a pair.
#[derive(Debug, Clone, PartialEq)]
enum Word {
    /// What it is, the tool's schema says.
    Text(String),
    /// `:=`
    Json(Value),
}

impl Pair {
    /// A key and its text.
    pub(super) fn of_text(key: &str, text: &str) -> Self {
        Self {
            key: key.to_owned(),
            value: Word::Text(text.to_owned()),
        }
    }

    /// Reads pairs, and the files that they name. Blocks.
    ///
    /// `key=@FILE` is the text of a file, `key=@-` that of standard input, which only one pair
    /// can have. `@@` stands for one `@`. `key:=` takes JSON, from the same places.
    pub(super) fn read_all(pairs: &[String]) -> Result<Vec<Self>, Failure> {
        let mut stdin_of: Option<String> = None;
        let mut read = |pair: &String| {
            let (key, value) = pair.split_once('=').ok_or_else(|| no_pair(pair))?;
            let (key, is_json) = match key.strip_suffix(':') {
                Some(key) => (key, true),
                None => (key, false),
            };
            if key.is_empty() {
                return Err(no_pair(pair));
            }
            let text = match value.strip_prefix('@') {
                None => value.to_owned(),
                Some(rest) if rest.starts_with('@') => rest.to_owned(),
                Some(path) => {
                    if path == "-"
                        && let Some(first) = stdin_of.replace(key.to_owned())
                    {
                        return Err(Failure::usage(text!(
                            "{} and {} cannot both be standard input",
                            first,
                            key
                        )));
                    }
                    read_input(path, key).map_err(|failure| {
                        failure.with_hint(text!(
                            "`{}=@{}` reads a file; for the text itself write `{}=@@{}`",
                            key,
                            path,
                            key,
                            path
                        ))
                    })?
                }
            };
            let value = match is_json {
                true => Word::Json(serde_json::from_str(&text).map_err(|error| {
                    Failure::usage(text!("{}: this is not JSON: {}", key, error.to_string()))
                })?),
                false => Word::Text(text),
            };
            Ok(Self {
                key: key.to_owned(),
                value,
            })
        };
        pairs.iter().map(&mut read).collect()
    }
}

fn no_pair(pair: &str) -> Failure {
    let failure = Failure::usage(text!(
        "`{}` is not an argument: write KEY=VALUE, or KEY:=JSON",
        pair
    ));
    let is_json = pair.trim_start().starts_with('{');
    failure.with_hints(is_json.then(|| text!("all of them as one JSON object: `--args JSON`")))
}

/// Makes an object of pairs.
///
/// The schema decides what the text of a `key=value` is: a value that may be a string is taken as
/// it stands, any other is read as JSON, and left as text where it is none (the check says so). A
/// value for an array is one of its items, unless it is a JSON array; a key that is given several
/// times is an array. `a.b=1` is `b` of the object `a`, unless the schema has a key `a.b`. Without
/// a schema for the key a value that is JSON is taken as JSON, and as text otherwise.
pub(super) fn to_object(pairs: &[Pair], schema: Option<&Object>) -> Result<Object, Failure> {
    let schema = schema.map(Schema::new);
    let mut keys: Vec<&str> = Vec::new();
    for pair in pairs {
        if !keys.contains(&pair.key.as_str()) {
            keys.push(&pair.key);
        }
    }
    let mut object = Object::new();
    for key in keys {
        let words: Vec<&Word> = pairs
            .iter()
            .filter(|pair| pair.key == key)
            .map(|pair| &pair.value)
            .collect();
        let path = path(key, schema)?;
        let place = schema.and_then(|root| {
            let mut parts = path.iter();
            parts.try_fold(root, |schema, part| schema.property(part))
        });
        let value = match words[..] {
            [word] => typed(word, place, MAX_NESTING),
            _ => several(key, &words, place)?,
        };
        insert(&mut object, key, &path, value)?;
    }
    Ok(object)
}

/// The keys that lead to a value.
fn path<'a>(key: &'a str, schema: Option<Schema<'_>>) -> Result<Vec<&'a str>, Failure> {
    let is_whole = schema.is_some_and(|schema| schema.property(key).is_some());
    if is_whole || key.split('.').any(str::is_empty) {
        return Ok(vec![key]);
    }
    let path: Vec<&str> = key.split('.').collect();
    if path.len() > MAX_NESTING {
        return Err(Failure::usage(text!(
            "{}: at most {} levels can be written with dots",
            key,
            MAX_NESTING
        )));
    }
    Ok(path)
}

fn several(key: &str, words: &[&Word], schema: Option<Schema<'_>>) -> Result<Value, Failure> {
    let types = schema.map(Schema::types).unwrap_or_default();
    if !types.is_empty() && !types.contains(&"array") {
        return Err(Failure::usage(text!(
            "{} is given {} times, and the tool wants one {}",
            key,
            words.len(),
            types.join(" or ")
        )));
    }
    let items = schema.and_then(Schema::items);
    let typed = |word: &&Word| typed(word, items, MAX_NESTING);
    Ok(words.iter().map(typed).collect())
}

/// The value of a word; `depth`: how many arrays may be around it.
fn typed(word: &Word, schema: Option<Schema<'_>>, depth: usize) -> Value {
    let text = match word {
        Word::Json(value) => return value.clone(),
        Word::Text(text) => text,
    };
    let types = schema.map(Schema::types).unwrap_or_default();
    if types.contains(&"string") {
        return Value::String(text.clone());
    }
    let json = serde_json::from_str(text);
    if let Some(below) = depth.checked_sub(1).filter(|_| types.contains(&"array")) {
        return match json {
            Ok(json @ (Value::Array(_) | Value::Null)) => json,
            // `paths=/srv` is the first of them.
            _ => Value::Array(vec![typed(word, schema.and_then(Schema::items), below)]),
        };
    }
    json.unwrap_or_else(|_| Value::String(text.clone()))
}

fn insert(object: &mut Object, key: &str, path: &[&str], value: Value) -> Result<(), Failure> {
    let twice = || Failure::usage(text!("{}: a part of it is given elsewhere as a whole", key));
    let Some((last, parents)) = path.split_last() else {
        return Ok(());
    };
    let mut place = object;
    for part in parents {
        let next = place
            .entry(*part)
            .or_insert_with(|| Value::Object(Object::new()));
        place = next.as_object_mut().ok_or_else(twice)?;
    }
    match place.insert((*last).to_owned(), value) {
        Some(_) => Err(twice()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(pairs: &[&str], schema: Value) -> Result<Value, String> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        Pair::read_all(&pairs)
            .and_then(|pairs| to_object(&pairs, schema.as_object()))
            .map(Value::Object)
            .map_err(|failure| failure.to_text().as_str().to_owned())
    }

    #[test]
    fn lists_of_lists_without_an_end_have_one() {
        let schema = json!({"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}},
                            "properties": {"p": {"$ref": "#/$defs/n"}}});
        let mut value = &parse(&["p=1"], schema).unwrap()["p"];
        let mut depth = 0;
        while let Some(item) = value.get(0) {
            (value, depth) = (item, depth + 1);
        }
        assert_eq!((value, depth), (&json!(1), MAX_NESTING));
    }

    #[test]
    fn the_schema_decides() {
        let schema = json!({"properties": {
            "s": {"type": "string"}, "n": {"type": "number"},
            "o": {"type": ["string", "null"]}, "l": {"type": "array"},
            "e": {"enum": ["1", "2"]}, "u": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "r": {"$ref": "#/$defs/R"},
        }, "$defs": {"R": {"type": "string"}}});
        let pairs = [
            "s=1",
            "n=1",
            "o=null",
            "l=[1]",
            "e=1",
            "u=1",
            "r=1",
            "free=true",
            "t=a=b",
        ];
        assert_eq!(
            parse(&pairs, schema.clone()),
            Ok(json!({
                "s": "1", "n": 1, "o": "null", "l": [1], "e": "1", "u": 1, "r": "1",
                "free": true, "t": "a=b"
            }))
        );
        // What does not fit stays as it is: the check says what is wrong.
        assert_eq!(parse(&["n=many"], schema), Ok(json!({"n": "many"})));
    }

    #[test]
    fn json_as_it_stands() {
        let pairs = [r#"a:={"b":[null]}"#];
        assert_eq!(parse(&pairs, Value::Null), Ok(json!({"a": {"b": [null]}})));
        assert!(parse(&["a:=oops"], Value::Null).is_err());
    }

    #[test]
    fn what_is_not_a_pair_is_refused() {
        assert!(parse(&["alone"], Value::Null).is_err());
        assert!(parse(&["=1"], Value::Null).is_err());
    }

    #[test]
    fn a_repeated_key_is_an_array() {
        let schema = json!({"properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "ids": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
            "one": {"type": "string"},
        }});
        let given = |pairs: &[&str]| parse(pairs, schema.clone());
        assert_eq!(
            given(&["tags=1", "tags=b"]),
            Ok(json!({"tags": ["1", "b"]}))
        );
        assert_eq!(given(&["tags=1"]), Ok(json!({"tags": ["1"]})));
        assert_eq!(given(&[r#"tags=["1"]"#]), Ok(json!({"tags": ["1"]})));
        assert_eq!(given(&["ids=1", "ids=2"]), Ok(json!({"ids": [1, 2]})));
        assert_eq!(given(&["ids=null"]), Ok(json!({"ids": null})));
        assert_eq!(given(&["free=1", "free=x"]), Ok(json!({"free": [1, "x"]})));
        let error = given(&["one=1", "one=2"]).unwrap_err();
        assert!(error.contains("one is given 2 times"), "{error}");
    }

    #[test]
    fn dots_nest() {
        let schema = json!({"properties": {
            "filter": {"type": "object", "properties": {"name": {"type": "string"}}},
            "a.b": {"type": "string"},
        }});
        let given = |pairs: &[&str]| parse(pairs, schema.clone());
        assert_eq!(
            given(&["filter.name=1", "filter.max=2", "a.b=3"]),
            Ok(json!({"filter": {"name": "1", "max": 2}, "a.b": "3"}))
        );
        assert_eq!(
            given(&["x.y.z=1", "x.w=2"]),
            Ok(json!({"x": {"y": {"z": 1}, "w": 2}}))
        );
        assert_eq!(given(&[".=1"]), Ok(json!({".": 1})));
        assert!(given(&["x=1", "x.y=2"]).is_err());
        assert!(given(&["x.y=1", "x=2"]).is_err());
        assert!(given(&[&format!("a{}=1", ".a".repeat(MAX_NESTING))]).is_err());
    }

    #[test]
    fn a_value_may_be_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "[1,\n2]").unwrap();
        let path = file.path().display();
        let pairs = [
            format!("s=@{path}"),
            format!("j:=@{path}"),
            "at=@@me".to_owned(),
        ];
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        let schema = json!({"properties": {"s": {"type": "string"}}});
        assert_eq!(
            parse(&pairs, schema),
            Ok(json!({"s": "[1,\n2]", "j": [1, 2], "at": "@me"}))
        );
        let error = parse(&["user=@alice"], Value::Null).unwrap_err();
        assert!(error.contains("user=@@alice"), "{error}");
    }
}
