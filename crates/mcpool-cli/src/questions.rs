//! What servers ask of a person (MCP 2025-06-18, "Elicitation", "Sampling", "Roots"), answered on
//! the terminal.
//!
//! A server writes the question, so each of its lines stands behind [`FRAME`], and the person may
//! always decline.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    sync::Arc,
};

use async_trait::async_trait;
use mcpool::{
    Raw, RpcError, ServerName, ServerRequest, ServerRequestHandler,
    auth::{Browser as _, SystemBrowser},
};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{self, Given, Object},
    off_thread::off_thread,
    render::{
        activity, out,
        text::{Answer, Text, Whole},
    },
    text,
};

/// What a line of a server's stands behind.
const FRAME: &str = "| ";

/// How much of an answer is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// How often a field is asked for again whose answer does not fit.
const MAX_TRIES: usize = 3;

/// How many fields of one form are asked for.
const MAX_FIELDS: usize = 64;

/// JSON-RPC's code for what the person said no to (MCP, "Sampling", error handling).
const REJECTED: i64 = -1;

/// Which questions a person is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// Forms and addresses: anybody who sits at a terminal.
    Forms,
    /// The model's part and the working directory as well: anybody who asked for it.
    Everything,
}

impl Asking {
    /// What a command may ask. Without `--interactive` a person has to be at the terminal.
    pub(crate) fn of(interactive: bool, json: bool) -> Option<Self> {
        let person = || io::stdin().is_terminal() && out::stderr_is_terminal() && !json;
        match interactive {
            true => Some(Self::Everything),
            false => person().then_some(Self::Forms),
        }
    }
}

/// Asks on standard error, and reads from standard input.
#[derive(Debug)]
pub(crate) struct Questions {
    asking: Asking,
    /// One question at a time: there is one terminal.
    terminal: Arc<Mutex<()>>,
}

impl Questions {
    pub(crate) fn new(asking: Asking) -> Self {
        Self {
            asking,
            terminal: Arc::default(),
        }
    }
}

#[async_trait]
impl ServerRequestHandler for Questions {
    fn capabilities(&self, _server: &ServerName) -> Raw {
        let mut declared = json!({"elicitation": {"form": {}, "url": {}}});
        if self.asking == Asking::Everything {
            declared["sampling"] = json!({});
            declared["roots"] = json!({});
        }
        Raw::of(&declared).unwrap_or_else(|_| Raw::empty_object())
    }

    async fn answer(&self, server: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        let params: Value = match &request.params {
            Some(params) => params
                .parse()
                .map_err(|error| RpcError::new(RpcError::INVALID_PARAMS, error.message()))?,
            None => json!({}),
        };
        let turn = Arc::clone(&self.terminal).lock_owned().await;
        let server = server.clone();
        // When nobody waits for the answer any more, nothing else is asked.
        let wanted = CancellationToken::new();
        let _until_answered = wanted.clone().drop_guard();
        let answered = off_thread(move || {
            let _turn = turn;
            let is_wanted = || !wanted.is_cancelled();
            activity::paused(|| ask(&server, &request.method, &params, &is_wanted))
        });
        let result = answered
            .await
            .map_err(|_| RpcError::new(RpcError::INTERNAL, "the question was given up"))??;
        Raw::of(&result).map_err(|error| RpcError::new(RpcError::INTERNAL, error.message()))
    }
}

fn ask(
    server: &ServerName,
    method: &str,
    params: &Value,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Value, RpcError> {
    match method {
        _ if !is_wanted() => Ok(cancelled()),
        "elicitation/create" if params["mode"] == "url" => Ok(address(server, params)),
        "elicitation/create" => Ok(form(server, params, is_wanted)),
        "sampling/createMessage" => completion(server, params),
        "roots/list" => Ok(roots(server)),
        other => Err(RpcError::method_not_found(other)),
    }
}

fn declined() -> Value {
    json!({"action": "decline"})
}

fn cancelled() -> Value {
    json!({"action": "cancel"})
}

/// A form: yes or no, then field by field.
fn form(server: &ServerName, params: &Value, is_wanted: &dyn Fn() -> bool) -> Value {
    let message = params["message"].as_str().unwrap_or_default();
    out::tell(&text!("\n{} asks:\n{}", server, framed(message)));
    let schema = params["requestedSchema"].as_object();
    let fields = schema.and_then(|schema| schema.get("properties")?.as_object());
    match agreed("answer?") {
        Some(true) => {}
        Some(false) => return declined(),
        None => return cancelled(),
    }
    let (Some(schema), Some(fields)) = (schema, fields) else {
        return json!({"action": "accept", "content": {}});
    };
    let mut content = Object::new();
    for (name, field) in fields.iter().take(MAX_FIELDS) {
        if !is_wanted() {
            return cancelled();
        }
        match ask_field(name, field, schema) {
            Some(Some(value)) => {
                content.insert(name.clone(), value);
            }
            Some(None) => {}
            None => return cancelled(),
        }
    }
    json!({"action": "accept", "content": content})
}

/// The value of one field; `Some(None)` where it is left out, `None` when the person gives up.
fn ask_field(name: &str, field: &Value, schema: &Object) -> Option<Option<Value>> {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = required.is_some_and(|all| all.iter().any(|one| one == name));
    if let Some(description) = field["description"].as_str() {
        out::tell(&framed(description));
    }
    for _ in 0..MAX_TRIES {
        out::tell(&prompt(name, field, is_required));
        let line = read_line()?;
        if line.is_empty() {
            match field.get("default") {
                Some(default) => return Some(Some(default.clone())),
                None if !is_required => return Some(None),
                None => {
                    out::tell(&text!("  it has to be given\n"));
                    continue;
                }
            }
        }
        match read_field(name, &line, field) {
            Ok(value) => return Some(Some(value)),
            Err(problems) => out::tell(&problems),
        }
    }
    None
}

/// `city ("Rome" | "Oslo", default "Rome"): `
fn prompt(name: &str, field: &Value, is_required: bool) -> Text {
    let mut notes = Vec::new();
    let kind = field["type"].as_str().unwrap_or("any");
    notes.push(match (choices(field), choices(&field["items"])) {
        (one, _) if !one.is_empty() => text!("{}", one.join(" | ")),
        (_, many) if !many.is_empty() => text!("{} of {}", kind, many.join(" | ")),
        _ => text!("{}", kind),
    });
    match field.get("default") {
        Some(default) => notes.push(text!("default {}", default.to_string())),
        None if !is_required => notes.push(text!("may be left empty")),
        None => {}
    }
    let title = field["title"].as_str().unwrap_or(name);
    text!("  {} ({}): ", title, Text::join(notes, ", "))
}

/// What a field may be, where it lists that, with the titles of the choices.
fn choices(field: &Value) -> Vec<String> {
    let plain = field["enum"].as_array().into_iter().flatten();
    let plain = plain.map(Value::to_string);
    let titled = ["oneOf", "anyOf"]
        .into_iter()
        .filter_map(|word| field[word].as_array())
        .flatten();
    let titled = titled.filter_map(|choice| {
        let value = choice.get("const")?;
        Some(match choice["title"].as_str() {
            Some(title) => format!("{value} ({title})"),
            None => value.to_string(),
        })
    });
    plain.chain(titled).collect()
}

/// The value that a line stands for, or what is wrong with it.
fn read_field(name: &str, line: &str, field: &Value) -> Result<Value, Text> {
    let properties: Map<String, Value> =
        std::iter::once((name.to_owned(), field.clone())).collect();
    let schema: Object = std::iter::once(("properties".to_owned(), properties.into())).collect();
    let given = Given::of_text(name, line);
    let mut object = given
        .to_object(Some(&schema))
        .map_err(|failure| text!("{}\n", failure.to_text()))?;
    let problems = arguments::check(&object, &schema);
    match object.remove(name) {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(Text::join(
            problems.iter().map(|problem| text!("  {}\n", problem)),
            "",
        )),
    }
}

/// An address that the server wants opened: what the person does there, the server hears by
/// itself.
fn address(server: &ServerName, params: &Value) -> Value {
    let (message, url) = (params["message"].as_str(), params["url"].as_str());
    out::tell(&text!(
        "\n{} wants you to open an address:\n{}\n  {}\n\n",
        server,
        framed(message.unwrap_or_default()),
        Whole(url.unwrap_or_default())
    ));
    let is_web = url.is_some_and(crate::targets::is_url);
    if !is_web {
        out::tell(&text!("it is not a web address, and is not opened\n"));
        return declined();
    }
    match agreed("open it in the browser?") {
        Some(true) => {
            if let Err(error) = SystemBrowser.open(url.unwrap_or_default()) {
                out::tell(&text!("{}; open it by hand\n", error));
            }
            json!({"action": "accept"})
        }
        Some(false) => declined(),
        None => cancelled(),
    }
}

/// What a model would say: the person says it.
fn completion(server: &ServerName, params: &Value) -> Result<Value, RpcError> {
    out::tell(&text!("\n{} asks for the answer of a model:\n", server));
    if let Some(system) = params["systemPrompt"].as_str() {
        out::tell(&framed(&format!("system: {system}")));
    }
    for message in params["messages"].as_array().into_iter().flatten() {
        let role = message["role"].as_str().unwrap_or_default();
        let content = match message["content"]["text"].as_str() {
            Some(text) => text.to_owned(),
            None => message["content"].to_string(),
        };
        out::tell(&framed(&format!("{role}: {content}")));
    }
    out::tell(&text!("your answer, on one line; an empty one declines: "));
    match read_line().filter(|line| !line.is_empty()) {
        Some(line) => Ok(json!({
            "role": "assistant",
            "content": {"type": "text", "text": line},
            "model": "a person",
            "stopReason": "endTurn",
        })),
        None => Err(RpcError::new(REJECTED, "the person declined")),
    }
}

/// The working directory, when the person agrees.
fn roots(server: &ServerName) -> Value {
    let Ok(directory) = std::env::current_dir() else {
        return json!({"roots": []});
    };
    out::tell(&text!(
        "\n{} asks which directories it may work in; this one is {}\n",
        server,
        directory
    ));
    let uri = url::Url::from_directory_path(&directory).ok();
    match (agreed("name it?"), uri) {
        (Some(true), Some(uri)) => {
            let name = directory.file_name().map(|name| name.to_string_lossy());
            json!({"roots": [{"uri": uri.as_str(), "name": name}]})
        }
        _ => json!({"roots": []}),
    }
}

/// The server's words, each line behind the frame.
fn framed(words: &str) -> Text {
    let shown = text!("{}", Answer(words));
    let lines = shown
        .as_str()
        .lines()
        .map(|line| text!("{}{}\n", FRAME, Answer(line)));
    Text::join(lines, "")
}

/// Yes or no; `None` when there is nobody.
fn agreed(question: &'static str) -> Option<bool> {
    out::tell(&text!("{} [y/N] ", question));
    let line = read_line()?;
    Some(matches!(line.to_lowercase().as_str(), "y" | "yes"))
}

/// A line of the person's, without its end; `None` at the end of the input.
fn read_line() -> Option<String> {
    let mut line = String::new();
    let mut input = io::stdin().lock().take(MAX_ANSWER);
    match input.read_line(&mut line) {
        Ok(1..) => Some(line.trim().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_its_field_says() {
        for (field, line, value) in [
            (json!({"type": "string"}), "5", json!("5")),
            (json!({"type": "integer"}), "5", json!(5)),
            (json!({"type": "boolean"}), "true", json!(true)),
            (
                json!({"type": "string", "enum": ["a b"]}),
                "a b",
                json!("a b"),
            ),
            (json!({"type": "string"}), "@a=b.c", json!("@a=b.c")),
        ] {
            assert_eq!(read_field("a.b", line, &field), Ok(value), "{field} {line}");
        }
        let wrong = read_field("n", "x", &json!({"type": "integer", "maximum": 3})).unwrap_err();
        assert!(wrong.as_str().contains("must be an integer"), "{wrong:?}");
    }

    #[test]
    fn the_words_of_a_server_cannot_be_taken_for_ours() {
        let words = framed("hi\nanswer? [y/N]\r\x1b[2J");
        for line in words.as_str().lines() {
            assert!(line.starts_with(FRAME), "{words:?}");
        }
        assert!(!words.as_str().contains('\x1b'));
    }

    #[test]
    fn a_prompt_says_what_is_wanted() {
        let field = json!({"type": "string", "enum": ["a", "b"], "default": "a"});
        assert_eq!(
            prompt("c", &field, true).as_str(),
            r#"  c ("a" | "b", default "a"): "#
        );
        let field = json!({"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}]}});
        assert_eq!(
            prompt("m", &field, true).as_str(),
            r#"  m (array of "a" (A)): "#
        );
        assert_eq!(
            prompt("n", &json!({"type": "number"}), false).as_str(),
            "  n (number, may be left empty): "
        );
    }
}
