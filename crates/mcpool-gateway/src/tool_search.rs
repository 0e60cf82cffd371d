//! Two tools in place of all others, for pools whose schemas would fill a model's context: one
//! finds tools by words, the other calls what was found. Pure.

use std::fmt::Write as _;

use mcpool_core::{Raw, RawObject, Reply, Result, ServerName, ServerRequest, model::Tool};
use serde::Deserialize;
use serde_json::json;

use crate::catalog::Cost;

/// The tool that finds tools.
pub(crate) const FIND: &str = "find_tools";
/// The tool that calls them.
pub(crate) const CALL: &str = "call_tool";

/// Tools that are found, unless the model wants another number.
const FOUND: usize = 5;

/// Tools that are found at most.
const MAX_FOUND: usize = 20;

/// Bytes of what is said of them together.
const MAX_FOUND_BYTES: usize = 64 * 1024;

/// Bytes of the words that are searched for.
const MAX_QUERY: usize = 1024;

/// Servers whose names the description of the search holds.
const MAX_NAMED: usize = 50;

/// The member of `_meta` that says what a list of all tools would cost.
const META_CATALOG: &str = "mcpool/catalog";

/// What a call of a client is, where tools are searched.
pub(crate) enum Step {
    /// A search, with its arguments.
    Find(Option<Raw>),
    /// A call of this tool, as if it had been called by its own name.
    Call(ServerRequest),
    /// A call of neither tool.
    Other,
    /// Something that cannot be done, and why.
    Wrong(&'static str),
}

/// Whether a name is that of one of the two.
pub(crate) fn is_ours(name: &str) -> bool {
    matches!(name, FIND | CALL)
}

/// Looks at a `tools/call`. The arguments of the call inside are the text that came, and all else
/// of the request stays: its `_meta`, its answers to questions, its state.
pub(crate) fn step(request: &ServerRequest) -> Step {
    #[derive(Deserialize)]
    struct Call {
        name: String,
    }
    let params = request.params.as_ref().map(RawObject::parse);
    let Some(Ok(mut params)) = params else {
        return Step::Other;
    };
    let name = params.get("name").map(Raw::parse::<String>);
    let arguments = params.get("arguments").cloned();
    match name {
        Some(Ok(name)) if name == FIND => Step::Find(arguments),
        Some(Ok(name)) if name == CALL => {
            let named = arguments.as_ref().map(Raw::parse::<Call>);
            let object = arguments.as_ref().map(RawObject::parse);
            let (Some(Ok(Call { name })), Some(Ok(mut inside))) = (named, object) else {
                return Step::Wrong("`call_tool` needs `name`: a name that `find_tools` gave");
            };
            if is_ours(&name) {
                return Step::Wrong("`call_tool` calls the tools that `find_tools` finds");
            }
            let Ok(name) = Raw::of(&name) else {
                return Step::Other;
            };
            params.insert("name", name);
            // In the place of those of `call_tool`.
            let arguments = inside.remove("arguments");
            params.retain(|name| name != "arguments" || arguments.is_some());
            if let Some(arguments) = arguments {
                params.insert("arguments", arguments);
            }
            match params.to_raw() {
                Ok(params) => {
                    let mut request = request.clone();
                    request.params = Some(params);
                    Step::Call(request)
                }
                Err(_) => Step::Other,
            }
        }
        _ => Step::Other,
    }
}

/// The result of `tools/list` in place of the catalog.
pub(crate) fn list(servers: &[ServerName], cost: &Cost) -> Result<Raw> {
    let mut named = String::new();
    for server in servers.iter().take(MAX_NAMED) {
        let comma = if named.is_empty() { "" } else { ", " };
        let _ = write!(named, "{comma}{server}");
    }
    let more = servers.len().saturating_sub(MAX_NAMED);
    if more > 0 {
        let _ = write!(named, " and {more} more");
    }
    Raw::of(&json!({
        "tools": [
            {
                "name": FIND,
                "title": "Find tools",
                "description": format!(
                    "Finds tools by words. There are {} tools, of these servers: {named}. Gives the \
                     name, description and input schema of those that fit best. Call them with \
                     {CALL}.",
                    cost.tools
                ),
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        "query": {
                            "type": "string",
                            "description": "Words of what the tool is to do, and of its server",
                        },
                        "limit": {
                            "type": "integer", "minimum": 1, "maximum": MAX_FOUND, "default": FOUND,
                            "description": "How many tools at most",
                        },
                    },
                    "required": ["query"],
                },
                "annotations": {"readOnlyHint": true, "openWorldHint": false},
            },
            {
                "name": CALL,
                "title": "Call a tool",
                "description": format!("Calls a tool that {FIND} has found."),
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "description": "The name of the tool"},
                        "arguments": {
                            "type": "object",
                            "description": "Its arguments, as its input schema wants them",
                        },
                    },
                    "required": ["name"],
                },
            },
        ],
        "_meta": {META_CATALOG: cost},
    }))
}

/// What a search finds, or why it finds nothing, as the result of its call: `rank` gives the places
/// of the tools that fit, the best first. The entries are those that a list would have.
pub(crate) fn find<'a>(
    arguments: Option<&Raw>,
    rank: impl FnOnce(&str) -> Vec<usize>,
    tools: impl Iterator<Item = (&'a str, &'a Reply<Tool>)>,
    listed: impl Fn(&str, &Raw) -> Result<Raw>,
) -> Result<Raw> {
    #[derive(Deserialize)]
    struct Arguments {
        query: String,
        #[serde(default)]
        limit: Option<usize>,
    }
    let arguments = arguments.map(Raw::parse::<Arguments>);
    let Some(Ok(Arguments { query, limit })) = arguments else {
        return wrong("`find_tools` needs `query`, a text; `limit` is a whole number");
    };
    if query.len() > MAX_QUERY {
        return wrong("the `query` is too long: a few words do");
    }
    let limit = limit.unwrap_or(FOUND).clamp(1, MAX_FOUND);
    let tools: Vec<_> = tools.collect();
    let ranked = rank(&query).into_iter();
    let found = ranked.filter_map(|at| tools.get(at)).take(limit);
    let (mut shown, mut left_out, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    for (name, tool) in found {
        let entry = listed(name, tool.raw())?;
        match bytes.saturating_add(entry.len()) {
            sum if sum <= MAX_FOUND_BYTES => {
                bytes = sum;
                shown.push(entry);
            }
            _ => left_out.push(*name),
        }
    }
    let mut result = RawObject::new();
    result.insert("tools", Raw::of(&shown)?);
    if !left_out.is_empty() {
        // Their descriptions are too long together; a search for one of them shows it.
        result.insert("left_out", Raw::of(&left_out)?);
    }
    if shown.is_empty() && left_out.is_empty() {
        let hint = "no tool has any of these words: try others";
        result.insert("hint", Raw::of(hint)?);
    }
    Raw::of(&json!({"content": [{"type": "text", "text": result.to_raw()?.get()}]}))
}

/// The result of a call that the model has got wrong.
pub(crate) fn wrong(why: &str) -> Result<Raw> {
    Raw::of(&json!({"content": [{"type": "text", "text": why}], "isError": true}))
}

#[cfg(test)]
mod tests {
    use mcpool_manager::search;

    use super::*;

    fn request(params: &str) -> ServerRequest {
        let params = Raw::from_text(params.to_owned()).unwrap();
        ServerRequest::new(Raw::null(), "tools/call", Some(params))
    }

    #[test]
    fn a_call_inside_is_the_call_itself() {
        let Step::Call(call) = step(&request(
            r#"{"name":"call_tool","_meta":{"progressToken":1},"requestState":"s","arguments":{"arguments":{"n": 1e400},"name":"a__b"}}"#,
        )) else {
            panic!("no call");
        };
        assert_eq!(
            call.params.unwrap().get(),
            r#"{"name":"a__b","_meta":{"progressToken":1},"requestState":"s","arguments":{"n": 1e400}}"#
        );
        let Step::Call(call) = step(&request(
            r#"{"name":"call_tool","arguments":{"name":"a__b"}}"#,
        )) else {
            panic!("no call");
        };
        assert_eq!(call.params.unwrap().get(), r#"{"name":"a__b"}"#);
        for wrong in [
            r#"{"name":"call_tool"}"#,
            r#"{"name":"call_tool","arguments":[]}"#,
            r#"{"name":"call_tool","arguments":{"name":1}}"#,
            r#"{"name":"call_tool","arguments":{"name":"call_tool"}}"#,
            r#"{"name":"call_tool","arguments":{"name":"find_tools"}}"#,
        ] {
            assert!(matches!(step(&request(wrong)), Step::Wrong(_)), "{wrong}");
        }
        for other in [r#"{"name":"a__call_tool"}"#, "{}", "[]"] {
            assert!(matches!(step(&request(other)), Step::Other), "{other}");
        }
    }

    fn tool(name: &str, description: &str) -> Reply<Tool> {
        let tool =
            json!({"name": name, "description": description, "inputSchema": {"type": "object"}});
        Reply::new(
            serde_json::from_value(tool.clone()).unwrap(),
            Raw::of(&tool).unwrap(),
        )
    }

    fn found(tools: &[Reply<Tool>], arguments: &str) -> (Raw, serde_json::Value) {
        let arguments = Raw::from_text(arguments.to_owned()).unwrap();
        let documents = tools.iter();
        let documents = documents.map(|tool| search::document(&tool.name, tool));
        let rank = |words: &str| search::rank(words, documents.collect());
        let tools = tools.iter().map(|tool| (&*tool.name, tool));
        let result = find(Some(&arguments), rank, tools, |_, tool| Ok(tool.clone())).unwrap();
        let value: serde_json::Value = result.parse().unwrap();
        let text = value["content"][0]["text"].as_str().unwrap();
        let inside = serde_json::from_str(text).unwrap_or(serde_json::Value::Null);
        (result, inside)
    }

    #[test]
    fn what_is_found_has_a_bound() {
        let long = "file ".repeat(MAX_FOUND_BYTES / 12);
        let entries = [
            tool("read", &long),
            tool("write", &long),
            tool("list", &long),
            tool("sum", "Adds numbers"),
        ];
        let (result, inside) = found(&entries, r#"{"query":"file"}"#);
        assert!(result.len() < 2 * MAX_FOUND_BYTES, "{}", result.len());
        assert_eq!(inside["tools"].as_array().unwrap().len(), 2);
        assert_eq!(inside["left_out"].as_array().unwrap().len(), 1);
        let (_, inside) = found(&entries, r#"{"query":"file","limit":1}"#);
        assert_eq!(inside["tools"].as_array().unwrap().len(), 1);
        assert!(inside.get("left_out").is_none());
        let (_, inside) = found(&entries, r#"{"query":"adding up numbers","limit":99}"#);
        assert_eq!(inside["tools"][0]["name"], "sum");
        let (_, inside) = found(&entries, r#"{"query":"zzz"}"#);
        assert!(inside["hint"].as_str().unwrap().contains("try others"));
        let long = format!(r#"{{"query":"{}"}}"#, "x".repeat(MAX_QUERY + 1));
        for wrong in ["{}", r#"{"query":1}"#, r#"{"query":"x","limit":-1}"#, &long] {
            let (result, _) = found(&entries, wrong);
            assert!(result.get().contains(r#""isError":true"#), "{wrong}");
        }
    }

    #[test]
    fn the_list_says_what_it_stands_for() {
        let servers: Vec<_> = (0..MAX_NAMED + 3)
            .map(|number| ServerName::new(format!("s{number}")).unwrap())
            .collect();
        let cost = Cost {
            tools: 1000,
            tokens_estimate: 123,
        };
        let list: serde_json::Value = list(&servers, &cost).unwrap().parse().unwrap();
        assert_eq!(list["_meta"]["mcpool/catalog"]["tokens_estimate"], 123);
        let said = list["tools"][0]["description"].as_str().unwrap();
        assert!(
            said.contains("1000 tools") && said.contains("s49 and 3 more"),
            "{said}"
        );
        assert_eq!(list["tools"].as_array().unwrap().len(), 2);
    }
}
