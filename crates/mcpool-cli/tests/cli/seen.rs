//! What one sees of servers: transcripts at 80 columns without a terminal.

use std::fs;

use serde_json::{Value, json};
use snapbox::{assert_data_eq, file};

use crate::{
    canned::{self, initialized},
    support::Place,
    transcript::{closed_port, http_server, settled, shown},
};

/// Without the times, and without the spaces by which their lines are laid out.
fn timeless(text: &str) -> String {
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let mut words = line.split_whitespace().peekable();
        let (mut shown, mut has_time) = (line[..indent].to_owned(), false);
        while let Some(word) = words.next() {
            let is_unit = |unit: &&str| matches!(*unit, "µs" | "ms" | "s");
            // A slow machine counts in seconds.
            if word.parse::<f64>().is_ok() && words.next_if(is_unit).is_some() {
                has_time = true;
                shown.push_str("N ms ");
            } else {
                shown.push_str(word);
                shown.push(' ');
            }
        }
        match has_time {
            true => shown.trim_end().to_owned(),
            false => line.to_owned(),
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// A server that has something of everything.
fn library(place: &Place) -> Value {
    let tools = json!({"result": {"tools": [
        {
            "name": "find-books",
            "title": "Find books",
            "description": "Finds books by their words. It looks at titles and authors.\n\nThe newest come first.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "limit": {"type": "integer", "default": 10, "minimum": 1, "maximum": 100, "description": "How many at most"},
                    "words": {"type": "string", "description": "What to look for"},
                    "language": {"enum": ["en", "de", "fr"]},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "period": {"$ref": "#/$defs/Period"},
                },
                "required": ["words"],
                "$defs": {"Period": {"type": "object", "properties": {
                    "from": {"type": "integer"}, "to": {"type": "integer"}
                }, "required": ["from"]}},
            },
            "outputSchema": {
                "type": "object",
                "properties": {"books": {"type": "array", "items": {"type": "string"}, "description": "Their titles"}},
                "required": ["books"],
            },
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
        },
        {"name": "lend", "description": "Lends a book.", "inputSchema": {
            "type": "object", "properties": {"book": {"type": "string"}, "days": {"type": "number"}}, "required": ["book", "days"],
        }},
        {"name": "count", "inputSchema": {"type": "object"}},
    ]}});
    let answer = json!({"result": {
        "content": [
            {"type": "text", "text": "Two books:"},
            {"type": "image", "mimeType": "image/png", "data": "aGVsbG8="},
            {"type": "resource_link", "uri": "file:///books/1", "name": "Ulysses"},
        ],
        "structuredContent": {"books": ["Ulysses", "Emma"]},
    }});
    let canned = canned::server(
        place.path(),
        "library",
        b"library: 2 books\n",
        &[
            (
                "initialize",
                initialized(&json!({
                    "serverInfo": {"name": "library", "version": "1.2.0"},
                    "instructions": "Ask for books before you lend one.",
                })),
            ),
            ("tools/list", tools),
            ("tools/call", answer),
            ("resources/list", json!({"result": {"resources": []}})),
            (
                "prompts/list",
                json!({"result": {"prompts": [{"name": "greet"}]}}),
            ),
        ],
    );
    // By relative names, so that what is shown does not depend on where it is.
    let script = canned["args"][1].as_str().unwrap();
    fs::write(place.path().join("library.sh"), script).unwrap();
    json!({"command": "sh", "args": ["library.sh", "library"]})
}

fn place_with(servers: impl FnOnce(&Place) -> Value) -> Place {
    let place = Place::empty();
    let config = json!({ "mcpServers": servers(&place) });
    fs::write(place.path().join("servers.json"), config.to_string()).unwrap();
    place
}

#[test]
fn what_is_seen_of_tools_and_answers() {
    let place = place_with(|place| json!({ "library": library(place) }));
    let mut text = String::new();
    for line in [
        &["list"][..],
        &["tools"],
        &["tools", "library", "find-books"],
        &["tools", "library.lend", "--schema"],
        &["tools", "--search", "lending", "a", "book"],
        &["tools", "library", "borrow"],
        &["call", "library.count"],
        &["call", "library", "count", "--save", "saved"],
        &[
            "call",
            "library__count",
            "--output",
            "markdown",
            "--save",
            "saved",
        ],
        &["call", "library", "count", "--output", "json"],
        &["call", "library", "count", "--output", "raw"],
    ] {
        text.push_str(&shown(&place, line));
    }
    let text = settled(&text, &[(&place.path().display().to_string(), "[HOME]")]);
    assert_data_eq!(text, file!["../cmd/see/tools.txt": Text]);
}

#[test]
fn what_is_seen_of_servers_that_are_well_and_that_are_not() {
    let missing = http_server("HTTP/1.1 404 Not Found");
    let private = http_server("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer");
    let forbidden = http_server("HTTP/1.1 403 Forbidden");
    let down = http_server("HTTP/1.1 502 Bad Gateway");
    let closed = closed_port();
    let url =
        |address: &str| json!({"url": format!("http://{address}/files"), "transport": "http"});
    let sh = |script: &str| json!({"command": "sh", "args": ["-c", script]});
    let stack = "echo 'starting' >&2; echo 'Error: GITHUB_TOKEN is not set' >&2; \
                 for n in 1 2 3 4 5 6 7 8; do echo \"    at frame $n\" >&2; done; exit 1";
    let place = place_with(|place| {
        json!({
            "library": library(place),
            "absent": {"command": "mcp-server-absent"},
            "token": sh(stack),
            "usage": sh("echo 'usage: server DIRECTORY' >&2; exit 2"),
            "echo": {"command": "cat"},
            "unset": {"url": "https://${NO_SUCH_HOST}/mcp"},
            "closed": url(&closed),
            "path": url(&missing),
            "private": url(&private),
            "forbidden": url(&forbidden),
            "gateway": url(&down),
            "off": {"command": "true", "enabled": false},
        })
    });
    let text = ["status", "doctor"]
        .map(|command| shown(&place, &[command]))
        .concat();
    let text = settled(
        &text,
        &[
            (&closed, "127.0.0.1:CLOSED"),
            (&missing, "127.0.0.1:MISSING"),
            (&private, "127.0.0.1:PRIVATE"),
            (&forbidden, "127.0.0.1:FORBIDDEN"),
            (&down, "127.0.0.1:DOWN"),
            (&place.path().display().to_string(), "[HOME]"),
        ],
    );
    assert_data_eq!(timeless(&text), file!["../cmd/see/servers.txt": Text]);
}
