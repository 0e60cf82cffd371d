//! A stdio server that gives the answers it was given, whatever they hold.

use std::{fs, path::Path};

use serde_json::{Value, json};

/// What is said to one method: `{"result": …}` or `{"error": …}`.
pub(crate) type Answer<'a> = (&'a str, Value);

/// Puts a server into a directory; gives its entry in a config. What it says on stderr when it
/// starts is given as bytes; it also repeats there the value of each of its variables whose name
/// begins with `ECHO_`, and its arguments.
pub(crate) fn server(dir: &Path, name: &str, stderr: &[u8], answers: &[Answer<'_>]) -> Value {
    let dir = dir.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("stderr"), stderr).unwrap();
    let no_such = json!({"error": {"code": -32601, "message": "no such method"}});
    let initialize = ("initialize", initialized(&json!({})));
    let defaults = [("other", no_such), initialize];
    for (method, answer) in defaults.iter().chain(answers) {
        let text = answer.to_string();
        // Without the outer braces: the script adds the id.
        let inner = &text[1..text.len() - 1];
        fs::write(dir.join(method.replace('/', ".")), inner).unwrap();
    }
    let script = r#"cat "$1/stderr" >&2
printf '%s\n' "$@" >&2
env | grep '^ECHO_' >&2
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  [ -n "$id" ] || continue
  method=$(printf '%s' "$line" | sed -n 's/.*"method":"\([a-z/A-Z]*\)".*/\1/p' | tr / .)
  [ -f "$1/$method" ] || method=other
  printf '{"jsonrpc":"2.0","id":%s,' "$id"
  cat "$1/$method"
  printf '}\n'
done"#;
    json!({"command": "/bin/sh", "args": ["-c", script, "canned", dir]})
}

/// An answer to `initialize` that offers everything, with these members besides.
pub(crate) fn initialized(more: &Value) -> Value {
    let mut result = json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
        "serverInfo": {"name": "canned", "version": "1"},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        result[key] = value.clone();
    }
    json!({ "result": result })
}
