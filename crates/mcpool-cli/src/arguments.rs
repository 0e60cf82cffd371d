//! The arguments of a tool or prompt, from the command line to JSON.

use std::io::Read as _;

use serde_json::{Map, Value};

use crate::{exit::Failure, text};

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// Reads `--args`: JSON as it stands, `@FILE`, or `-` for standard input.
pub(crate) fn read_json(argument: &str) -> Result<Object, Failure> {
    let (text, origin) = if argument == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(text!("--args -: {}", error)))?;
        (text, "standard input".to_owned())
    } else if let Some(path) = argument.strip_prefix('@') {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(text!("--args: {}: {}", path, error)))?;
        (text, path.to_owned())
    } else {
        (argument.to_owned(), "--args".to_owned())
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::usage(text!("{}: not a JSON object", origin))),
        Err(error) => Err(Failure::usage(text!("{}: {}", origin, error.to_string()))),
    }
}

/// Reads `key=value` and `key:=json`.
///
/// With `key=value` the schema decides: a value that may be a string is taken as it stands, any
/// other is read as JSON. Without a schema for the key a value that is JSON is taken as JSON, and
/// as text otherwise.
pub(crate) fn from_pairs(pairs: &[String], schema: Option<&Object>) -> Result<Object, Failure> {
    let mut object = Object::new();
    for pair in pairs {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(text!("{}: write KEY=VALUE, or KEY:=JSON", pair)))?;
        let (key, value) = match key.strip_suffix(':') {
            Some(key) => {
                let json = serde_json::from_str(value).map_err(|error| {
                    Failure::usage(text!("{}: not JSON: {}", key, error.to_string()))
                })?;
                (key, json)
            }
            None => (key, typed(key, value, types_of(key, schema))?),
        };
        if object.insert(key.to_owned(), value).is_some() {
            return Err(Failure::usage(text!("{} is given twice", key)));
        }
    }
    Ok(object)
}

/// The types that the schema allows for a property; empty when it does not say.
fn types_of<'a>(key: &str, schema: Option<&'a Object>) -> Vec<&'a str> {
    let property = schema
        .and_then(|schema| schema.get("properties"))
        .and_then(|properties| properties.get(key))
        .and_then(|property| property.get("type"));
    match property {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn typed(key: &str, value: &str, types: Vec<&str>) -> Result<Value, Failure> {
    let text = || Value::String(value.to_owned());
    if types.contains(&"string") {
        return Ok(text());
    }
    match serde_json::from_str(value) {
        Ok(json) => Ok(json),
        Err(_) if types.is_empty() => Ok(text()),
        Err(_) => Err(Failure::usage(text!(
            "{}={}: the tool wants {}",
            key,
            value,
            types.join(" or ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(pairs: &[&str], schema: Value) -> Result<Value, String> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        from_pairs(&pairs, schema.as_object())
            .map(Value::Object)
            .map_err(|failure| failure.to_text().as_str().to_owned())
    }

    #[test]
    fn the_schema_decides() {
        let schema = json!({"properties": {
            "s": {"type": "string"}, "n": {"type": "number"},
            "o": {"type": ["string", "null"]}, "l": {"type": "array"},
        }});
        assert_eq!(
            parse(
                &["s=1", "n=1", "o=null", "l=[1]", "free=true", "text=a=b"],
                schema.clone()
            ),
            Ok(json!({"s": "1", "n": 1, "o": "null", "l": [1], "free": true, "text": "a=b"}))
        );
        let error = parse(&["n=many"], schema).unwrap_err();
        assert!(error.contains("number"), "{error}");
    }

    #[test]
    fn json_as_it_stands() {
        assert_eq!(
            parse(&[r#"a:={"b":[null]}"#], Value::Null),
            Ok(json!({"a": {"b": [null]}}))
        );
        assert!(parse(&["a:=oops"], Value::Null).is_err());
    }

    #[test]
    fn what_is_not_a_pair_is_refused() {
        assert!(parse(&["alone"], Value::Null).is_err());
        assert!(parse(&["a=1", "a=2"], Value::Null).is_err());
    }

    #[test]
    fn args_must_be_an_object() {
        assert!(read_json("{\"a\":1}").is_ok());
        assert!(read_json("[1]").is_err());
        assert!(read_json("@/does/not/exist").is_err());
    }
}
