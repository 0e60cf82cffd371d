//! What is printed, whole: transcripts at 80 columns without a terminal, beside which one can lay
//! what is printed now. `SNAPSHOTS=overwrite` writes them.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener},
};

use serde_json::{Value, json};
use snapbox::{assert_data_eq, file};

use crate::support::{PROGRAM, Place, Run, good};

/// An HTTP server that answers everything with this; gives its address. It ends with the test.
pub(crate) fn http_server(answer: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                // The head is enough: the body, where there is one, may stay unread.
                if lines.any(|line| line.is_empty()) {
                    let head = "Connection: close\r\nContent-Length: 0\r\n\r\n";
                    let _ = (&stream).write_all(format!("{answer}\r\n{head}").as_bytes());
                }
            });
        }
    });
    address
}

pub(crate) fn closed_port() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A server whose one tool has something of everything.
fn search() -> Value {
    let tools = json!({"tools": [{"name": "search", "inputSchema": {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 50},
            "order": {"enum": ["newest", "oldest"]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["query"],
    }}]});
    let script = format!(
        r#"while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s","version":"1"}}}}}}\n' "$id" ;;
    *'"tools/list"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":%s}}\n' "$id" '{tools}' ;;
    *'"id"'*) printf '{{"jsonrpc":"2.0","id":%s,"error":{{"code":-32601,"message":"no"}}}}\n' "$id" ;;
  esac
done"#
    );
    json!({"command": "sh", "args": ["-c", script]})
}

/// Runs a command line and gives what a person sees of it.
pub(crate) fn shown(place: &Place, line: &[&str]) -> String {
    let mut command = place.command(line);
    command.env("COLUMNS", "80");
    let run = Run::of(&mut command);
    let words: Vec<&str> = line
        .iter()
        .map(|word| if *word == PROGRAM { "mcpool" } else { *word })
        .collect();
    let words = words
        .iter()
        .map(|word| {
            if word.contains([' ', '{']) {
                format!("'{word}'")
            } else {
                (*word).to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ");
    format!(
        "$ mcpool {words}\n{}{}? {}\n\n",
        run.stdout(),
        run.stderr(),
        run.code()
    )
}

/// Puts names in the place of what is different each time.
pub(crate) fn settled(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (found, name) in names {
        text = text.replace(found, name);
    }
    text
}

#[test]
fn the_mistakes_of_a_user() {
    let (missing, private) = (
        http_server("HTTP/1.1 404 Not Found"),
        http_server("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer"),
    );
    let closed = closed_port();
    let url = |address: &str| json!({"url": format!("http://{address}/mcp"), "transport": "http"});
    let servers = json!({
        "docs": search(),
        "demo": good(),
        "unset": {"url": "https://${NO_SUCH_HOST}/mcp"},
        "absent": {"command": "mcp-server-fies"},
        "prints": {"command": "sh", "args": ["-c", "echo Usage: server TOKEN; exit 2"]},
        "closed": url(&closed),
        "path": url(&missing),
        "private": url(&private),
        "tls": {"url": format!("https://{missing}/mcp"), "transport": "http"},
    });
    let place = Place::with(json!({}));
    // Over many lines, so that no place depends on how long a path or a port is.
    let config = format!("{:#}\n", json!({"mcpServers": servers}));
    std::fs::write(place.path().join("servers.json"), config).unwrap();
    std::fs::write(
        place.path().join("bad.json"),
        "{ \"mcpServers\": { \"a\": \n",
    )
    .unwrap();
    std::fs::write(
        place.path().join("field.json"),
        "{ \"mcpServers\": { \"a\": { \"comand\": \"x\" } } }\n",
    )
    .unwrap();
    let mut text = String::new();
    for line in [
        &["stauts"][..],
        &["call", "dosc", "search", "query=rust"],
        &["call", "dosc.search", "query=rust"],
        &["call", "docs", "serch", "query=rust"],
        &["call", "docs.search", "qeury=rust"],
        &["call", "docs", "search"],
        &["call", "docs", "search", "query=rust", "limit=many"],
        &[
            "call",
            "docs",
            "search",
            "query=rust",
            "limit=100",
            "order=newset",
        ],
        &["call", "docs", "search", "rust"],
        &["call", "docs", "search", "query=a", "query=b"],
        &["call", "docs", "search", "query=@notes.txt"],
        &["call", "docs", "search", "--args", "{query: rust}"],
        &["call", "docs"],
        &["call", "search", "query=rust"],
        &["call", "docs", "search", "--query", "rust"],
        &["check"],
        &["config", "add", "time", "npx", "-y", "some-server"],
        &["tools", "example.com/mcp"],
        &["tools", "docs", "--connect-timeout", "5"],
        &["call", "unset", "search"],
        &["call", "absent", "search"],
        &["call", "prints", "search"],
        &["call", "closed", "search"],
        &["call", "path", "search"],
        &["call", "private", "search"],
        &["call", "tls", "search"],
        &["config", "add", "files", "npx"],
        &["config", "add", "docs", "https://example.com/mcp"],
    ] {
        text.push_str(&shown(&place, line));
    }
    let bare = Place::empty();
    for name in ["bad.json", "field.json"] {
        std::fs::copy(place.path().join(name), bare.path().join(name)).unwrap();
    }
    for line in [
        &["tools"][..],
        &["tools", "--config", "none.json"],
        &["tools", "--config", "bad.json"],
        &["call", "a", "search", "--config", "field.json"],
        &["tools", "--jsn"],
        &["call", "--json"],
    ] {
        text.push_str(&shown(&bare, line));
    }
    let (one, other) = (place.path().display(), bare.path().display());
    let text = settled(
        &text,
        &[
            (&closed, "127.0.0.1:CLOSED"),
            (&missing, "127.0.0.1:PORT"),
            (&private, "127.0.0.1:PRIVATE"),
            (&format!("{one}"), "[HOME]"),
            (&format!("{other}"), "[HOME]"),
        ],
    );
    let text = without_times(&text);
    assert_data_eq!(text, file!["../cmd/do/mistakes.txt": Text]);
}

/// `12 ms` becomes `N ms`.
fn without_times(text: &str) -> String {
    let mut parts = text.split(" ms");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = out.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        if digits.len() < out.len() {
            out.truncate(digits.len());
            out.push('N');
        }
        out.push_str(" ms");
        out.push_str(part);
    }
    out
}

#[test]
fn the_help_of_each_command() {
    let place = Place::empty();
    let mut text = shown(&place, &["--help"]);
    let commands = [
        "list",
        "status",
        "tools",
        "call",
        "resources",
        "prompts",
        "health",
        "doctor",
        "watch",
        "serve",
        "bench",
        "login",
        "logout",
        "trust",
        "completions",
        "man",
    ];
    let below = [
        "check", "show", "get", "list", "path", "init", "edit", "find", "import", "schema", "add",
        "remove",
    ];
    let commands = commands.iter().map(|command| vec![*command]);
    let below = below.iter().map(|command| vec!["config", *command]);
    let keys = ["add", "list", "remove"].map(|command| vec!["serve", "key", command]);
    let install = ["install", "uninstall"].map(|command| vec!["serve", command]);
    let deeper = keys.into_iter().chain(install);
    let deeper = deeper.chain([vec!["auth", "status"]]);
    for command in commands.chain(below).chain(deeper) {
        let help = shown(&place, &[&command[..], &["--help"]].concat());
        // The options of every command are shown once, above.
        let own = help
            .split("\nOptions of every command:\n")
            .next()
            .unwrap_or_default();
        text.push_str(own);
        let examples = help.find("\nExample").and_then(|at| help.get(at..));
        text.push_str(examples.unwrap_or("\n? 0\n\n"));
    }
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{widest:?}");
    assert_data_eq!(text, file!["../cmd/do/help.txt": Text]);
}
