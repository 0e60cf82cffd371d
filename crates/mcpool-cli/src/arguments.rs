//! The arguments of a tool or prompt, from the command line to JSON.

mod check;
mod pairs;
mod schema;

use std::{
    fs::File,
    io::{self, Read},
};

use serde_json::{Map, Value};

pub(crate) use check::check;

use crate::{exit::Failure, off_thread::off_thread, text};
use pairs::Pair;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// How much is read of a file, or of standard input, that holds arguments, in bytes.
const MAX_INPUT: u64 = 16 * 1024 * 1024;

/// Arguments as the command line gives them.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    /// `key=value …`
    Pairs(Vec<Pair>),
    /// `--args`
    Whole(Object),
}

impl Given {
    /// Reads pairs, or `--args` where it is given, and the files that they name, in a place where
    /// that holds nothing up.
    pub(crate) async fn read(pairs: Vec<String>, args: Option<String>) -> Result<Self, Failure> {
        off_thread(move || match args {
            Some(json) => read_json(&json).map(Self::Whole),
            None => Pair::read_all(&pairs).map(Self::Pairs),
        })
        .await?
    }

    /// One key and its text, which names no file.
    pub(crate) fn of_text(key: &str, text: &str) -> Self {
        Self::Pairs(vec![Pair::of_text(key, text)])
    }

    /// The object that is meant, by the tool's schema where there is one.
    pub(crate) fn to_object(&self, schema: Option<&Object>) -> Result<Object, Failure> {
        match self {
            Self::Pairs(pairs) => pairs::to_object(pairs, schema),
            Self::Whole(object) => Ok(object.clone()),
        }
    }
}

/// Reads `--args`: JSON as it stands, `@FILE`, or `-` for standard input. Blocks.
fn read_json(argument: &str) -> Result<Object, Failure> {
    let (text, origin) = match (argument, argument.strip_prefix('@')) {
        ("-", _) | (_, Some("-")) => (read_input("-", "--args")?, "standard input".to_owned()),
        (_, Some(path)) => (read_input(path, "--args")?, path.to_owned()),
        (json, None) => (json.to_owned(), "--args".to_owned()),
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::usage(text!(
            "{}: a JSON object is wanted, such as {}",
            origin,
            r#"{"key": "value"}"#
        ))),
        Err(error) => Err(Failure::usage(text!(
            "{} is not JSON: {}",
            origin,
            error.to_string()
        ))),
    }
}

/// The text of a file, or of standard input for `-`, on behalf of this argument. Blocks.
fn read_input(path: &str, argument: &str) -> Result<String, Failure> {
    let read = |source: &mut dyn Read| {
        let mut text = String::new();
        let count = source.take(MAX_INPUT + 1).read_to_string(&mut text)?;
        match u64::try_from(count) {
            Ok(count) if count <= MAX_INPUT => Ok(text),
            _ => Err(io::Error::other("it holds more than 16 MiB")),
        }
    };
    let (text, name) = match path {
        "-" => (read(&mut io::stdin().lock()), "standard input"),
        path => (File::open(path).and_then(|mut file| read(&mut file)), path),
    };
    text.map_err(|error| Failure::usage(text!("{}: cannot read {}: {}", argument, name, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn args_must_be_an_object() {
        assert!(read_json("{\"a\":1}").is_ok());
        assert!(read_json("[1]").is_err());
        assert!(read_json("@/does/not/exist").is_err());
    }
}
