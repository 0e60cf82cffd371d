//! What stands on a line of `mcpool shell`, and what could: pure.

use mcpool::{is_unshowable, model::Tool};
use serde_json::Value;

/// The words that are no tools.
pub(crate) const WORDS: [&str; 4] = ["call", "help", "quit", "tools"];

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing.
    Empty,
    /// `help`
    Help,
    /// `quit`
    Quit,
    /// `tools`, `tools TOOL`
    Tools(Option<String>),
    /// `TOOL key=value …`; `call TOOL …` where a tool is called like one of our words.
    Call(String, Vec<String>),
}

impl Line {
    /// Splits a line as a shell does; an error is a quote that is not closed.
    pub(crate) fn read(line: &str) -> Result<Self, &'static str> {
        let words = shlex::split(line).ok_or("a quote is not closed")?;
        let mut words = words.into_iter();
        let Some(first) = words.next() else {
            return Ok(Self::Empty);
        };
        Ok(match first.as_str() {
            "help" | "?" => Self::Help,
            "quit" | "exit" => Self::Quit,
            "tools" => Self::Tools(words.next()),
            "call" => match words.next() {
                Some(tool) => Self::Call(tool, words.collect()),
                None => Self::Tools(None),
            },
            _ => Self::Call(first, words.collect()),
        })
    }
}

/// A tool, as far as completion needs it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    name: String,
    /// Each key with the values that it may have, where they are listed.
    keys: Vec<(String, Vec<String>)>,
}

impl Known {
    /// What is known of a tool; `None` when its name cannot be typed.
    pub(crate) fn of(tool: &Tool) -> Option<Self> {
        let properties = tool.input_schema.get("properties");
        let properties = properties.and_then(Value::as_object);
        let keys = properties
            .into_iter()
            .flatten()
            .filter(|(key, _)| can_be_typed(key));
        let known = Self {
            name: tool.name.to_string(),
            keys: keys
                .map(|(key, schema)| (key.clone(), values(schema)))
                .collect(),
        };
        can_be_typed(&known.name).then_some(known)
    }
}

fn values(schema: &Value) -> Vec<String> {
    let listed = schema["enum"].as_array().into_iter().flatten();
    let listed = listed.filter_map(Value::as_str).map(str::to_owned);
    let mut values: Vec<String> = listed.filter(|value| can_be_typed(value)).collect();
    if schema["type"] == "boolean" {
        values.extend(["true".to_owned(), "false".to_owned()]);
    }
    values
}

/// A server's words steer no terminal, and stand on a line as they are.
fn can_be_typed(word: &str) -> bool {
    let plain = |c: char| !is_unshowable(c) && !c.is_whitespace() && !"'\"\\`$".contains(c);
    !word.is_empty() && word.chars().all(plain)
}

/// What could stand at the end of the text: where the last word begins, and what it could be.
pub(crate) fn complete(text: &str, tools: &[Known]) -> (usize, Vec<String>) {
    let start = text.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let last = &text[start..];
    let before: Vec<&str> = text[..start].split_whitespace().collect();
    let tool_names = || tools.iter().map(|tool| tool.name.clone());
    let wanted: Vec<String> = match before[..] {
        [] => WORDS
            .iter()
            .map(|word| (*word).to_owned())
            .chain(tool_names())
            .collect(),
        ["call" | "tools"] => tool_names().collect(),
        ["tools", ..] => Vec::new(),
        ["call", tool, ..] | [tool, ..] => {
            let keys = tools.iter().find(|known| known.name == tool);
            let keys = keys.map_or(&[][..], |known| &known.keys);
            match last.split_once('=') {
                Some((key, _)) => {
                    let values = keys.iter().find(|(known, _)| known == key);
                    let values = values.map_or(&[][..], |(_, values)| values);
                    values
                        .iter()
                        .map(|value| format!("{key}={value}"))
                        .collect()
                }
                None => keys.iter().map(|(key, _)| format!("{key}=")).collect(),
            }
        }
    };
    let fits = |word: &String| word.starts_with(last);
    let mut words: Vec<String> = wanted.into_iter().filter(fits).collect();
    // Only a key has something behind it that belongs to it.
    if let [word] = &mut words[..]
        && !word.ends_with('=')
    {
        word.push(' ');
    }
    (start, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tools() -> Vec<Known> {
        let tool = |name: &str, properties: Value| {
            let tool =
                json!({"name": name, "inputSchema": {"type": "object", "properties": properties}});
            Known::of(&serde_json::from_value(tool).unwrap())
        };
        [
            tool("search", json!({"query": {}, "order": {"enum": ["newest", "oldest", "a b"]}, "quick": {"type": "boolean"}})),
            tool("send", json!({"to\u{1b}": {}})),
            tool("bad\u{1b}[2J", json!({})),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    #[test]
    fn a_line_is_a_word_of_ours_or_a_call() {
        let call = |tool: &str, pairs: &[&str]| {
            Line::Call(
                tool.into(),
                pairs.iter().map(|pair| (*pair).into()).collect(),
            )
        };
        for (line, read) in [
            ("", Line::Empty),
            ("  ", Line::Empty),
            ("help", Line::Help),
            ("exit", Line::Quit),
            ("tools", Line::Tools(None)),
            ("tools search", Line::Tools(Some("search".into()))),
            (
                "search query='a b' n=1",
                call("search", &["query=a b", "n=1"]),
            ),
            ("call tools x=1", call("tools", &["x=1"])),
        ] {
            assert_eq!(Line::read(line), Ok(read), "{line}");
        }
        assert!(Line::read("search query='a").is_err());
    }

    #[test]
    fn tools_keys_and_values_are_completed() {
        for (text, start, words) in [
            ("se", 0, &["search", "send"][..]),
            ("to", 0, &["tools "]),
            ("b", 0, &[]),
            ("tools sear", 6, &["search "]),
            ("call sen", 5, &["send "]),
            ("search q", 7, &["query=", "quick="]),
            ("call search o", 12, &["order="]),
            ("search order=n", 7, &["order=newest "]),
            ("search query=x quick=", 15, &["quick=true", "quick=false"]),
            ("nothing q", 8, &[]),
            ("send ", 5, &[]),
            ("tools search q", 13, &[]),
        ] {
            let (found, candidates) = complete(text, &tools());
            assert_eq!(
                (found, &candidates[..]),
                (
                    start,
                    &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()[..]
                ),
                "{text}"
            );
        }
    }
}
