//! OpenHands: `[mcp]` in `config.toml`, with a list for each transport. Only processes have
//! names there; a URL is called by its host. The new program has a `mcp.json` as FastMCP writes
//! it.

use super::{
    Dialect, Found, Key, Located, Place, Rules, USUAL, Unit, UserFile, Variable, dictionaries,
};
use crate::{
    document::{Member, Node, Value},
    template::Syntax,
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::OpenHands,
    name: "openhands",
    title: "OpenHands",
    fields: &[("api_key", Key::BearerToken)],
    unit: Unit::Seconds,
    syntax: Syntax::none(),
    variable: Variable::NONE,
    user: &[
        UserFile::Home(".openhands/config.toml"),
        UserFile::Home(".openhands/mcp.json"),
    ],
    project: &[".openhands/config.toml", ".openhands/mcp.json"],
    locate,
    ..USUAL
};

/// The rules of `mcp.json`.
static NEW: Rules = Rules {
    dialect: Dialect::OpenHands,
    name: "openhands",
    title: "OpenHands",
    ..dictionaries::FASTMCP
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let Some(mcp) = root.get("mcp") else {
        let mut located = super::located::usual(root);
        located.rules = Some(&NEW);
        return located;
    };
    let mut located = match mcp.get("stdio_servers") {
        Some(list) => Located::servers(list, "mcp.stdio_servers"),
        None => Located::default(),
    };
    for (key, transport) in [("sse_servers", "sse"), ("shttp_servers", "http")] {
        let Some(list) = mcp.get(key) else { continue };
        located.root_found = true;
        for item in list.items() {
            let found = remote(item, transport, &located.entries);
            located.entries.push(found);
        }
    }
    located
}

/// The entry for a URL, or for an object with one.
fn remote(item: &Node, transport: &str, before: &[Found]) -> Found {
    let member = |key: &str, value: Node| Member {
        key: key.to_owned(),
        key_range: item.range.clone(),
        value,
    };
    let (url, mut members) = match &item.value {
        Value::String(url) => (url.as_str(), vec![member("url", item.clone())]),
        Value::Object(members) => {
            let url = item.get("url").and_then(Node::as_str).unwrap_or_default();
            (url, members.clone())
        }
        _ => ("", Vec::new()),
    };
    let word = Node::new(item.range.clone(), Value::String(transport.to_owned()));
    members.push(member("transport", word));
    let host = host(url).unwrap_or_else(|| transport.to_owned());
    let taken = |name: &str| before.iter().any(|found| found.name == name);
    let mut name = host.clone();
    let mut number = 2;
    while taken(&name) {
        name = format!("{host}-{number}");
        number += 1;
    }
    Found {
        name,
        name_range: item.range.clone(),
        node: Node::new(item.range.clone(), Value::Object(members)),
    }
}

/// The host that stands in a URL.
fn host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let end = match host.find(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    (end > 0).then(|| host[..end].to_ascii_lowercase())
}
