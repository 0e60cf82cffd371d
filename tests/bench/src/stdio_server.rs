//! A server over stdio that does as little as a server can: reads a line, answers it.

use std::io::{BufRead as _, BufWriter, Write as _};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Outcome;

#[derive(Deserialize)]
pub(crate) struct Asked<'a> {
    #[serde(borrow, default)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) method: &'a str,
    #[serde(borrow, default)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    arguments: Option<Arguments<'a>>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

/// The answer to a message; `None` for a notification.
pub(crate) fn answer(asked: &Asked<'_>) -> Option<String> {
    let id = asked.id?.get();
    let result = match asked.method {
        "initialize" => {
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}"#
                .to_owned()
        }
        "tools/list" => {
            r#"{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}"#.to_owned()
        }
        "tools/call" => {
            let text = asked
                .params
                .as_ref()
                .and_then(|params| params.arguments.as_ref()?.text)
                .map_or("\"\"", RawValue::get);
            format!(r#"{{"content":[{{"type":"text","text":{text}}}]}}"#)
        }
        "ping" => "{}".to_owned(),
        _ => {
            return Some(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#
            ));
        }
    };
    Some(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#
    ))
}

pub(crate) fn serve() -> Outcome {
    let mut input = std::io::stdin().lock();
    let mut output = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let asked: Asked<'_> = serde_json::from_str(&line)?;
        if let Some(answer) = answer(&asked) {
            output.write_all(answer.as_bytes())?;
            output.write_all(b"\n")?;
        }
        output.flush()?;
    }
}
