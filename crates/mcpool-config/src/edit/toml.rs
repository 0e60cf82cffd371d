//! Edits of TOML, on a document that keeps its comments and order.

use mcpool_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;
use toml_edit::{
    Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value, value,
};

use super::{Edit, to_value};

pub(super) fn apply(text: &str, edit: &Edit) -> Result<String> {
    // The document writes `\n` only; what the file had is put back below.
    let windows = text.contains("\r\n");
    let mut document: DocumentMut = text.parse().map_err(|_| {
        // The parser's message quotes the line, and with it perhaps a secret.
        Error::new(ErrorKind::InvalidSpec, "the file is not valid TOML")
    })?;
    let broken = || Error::new(ErrorKind::InvalidSpec, "the file is not a table of servers");
    let key = if !document.contains_key("mcpServers") && document.contains_key("mcp_servers") {
        "mcp_servers"
    } else {
        "mcpServers"
    };
    if let Edit::AddInput { id, declaration } = edit {
        add_input(&mut document, &declaration.to_json(id))?;
        return Ok(written(&document, windows));
    }
    if !document.contains_key(key) {
        let mut servers = Table::new();
        // Only the tables of the servers themselves get a header.
        servers.set_implicit(true);
        document.insert(key, Item::Table(servers));
    }
    let servers: &mut dyn TableLike = document
        .get_mut(key)
        .and_then(Item::as_table_like_mut)
        .ok_or_else(broken)?;
    match edit {
        Edit::AddInput { .. } => {}
        Edit::Add { name, settings, .. } => {
            let Json::Object(fields) = to_value(settings)? else {
                return Err(broken());
            };
            let mut table = Table::new();
            for (field, json) in &fields {
                if let Some(json) = convert(json) {
                    table.insert(field, value(json));
                }
            }
            match servers.get_mut(name) {
                Some(Item::Table(old)) => {
                    *table.decor_mut() = old.decor().clone();
                    table.set_position(old.position());
                    *old = table;
                }
                Some(old) => *old = value(table.into_inline_table()),
                None => {
                    // In an inline map of servers the new one is inline as well.
                    let item = if text_is_inline(servers) {
                        value(table.into_inline_table())
                    } else {
                        Item::Table(table)
                    };
                    servers.insert(name, item);
                }
            }
        }
        Edit::Remove { name } => {
            servers.remove(name);
        }
        Edit::SetEnabled { name, enabled } => {
            let server = servers
                .get_mut(name)
                .and_then(Item::as_table_like_mut)
                .ok_or_else(broken)?;
            if server.contains_key("disabled") {
                set(server, "disabled", !enabled);
                if server.contains_key("enabled") {
                    set(server, "enabled", *enabled);
                }
            } else if server.contains_key("enabled") || !enabled {
                set(server, "enabled", *enabled);
            }
        }
    }
    Ok(written(&document, windows))
}

fn written(document: &DocumentMut, windows: bool) -> String {
    let out = document.to_string();
    match windows {
        true => out.replace("\r\n", "\n").replace('\n', "\r\n"),
        false => out,
    }
}

/// Adds an input to the list of them, as the list is written.
fn add_input(document: &mut DocumentMut, input: &Json) -> Result<()> {
    let broken = || Error::new(ErrorKind::InvalidSpec, "`inputs` of the file is not a list");
    let Some(Value::InlineTable(input)) = convert(input) else {
        return Err(broken());
    };
    let empty = Item::ArrayOfTables(ArrayOfTables::new());
    match document.entry("inputs").or_insert(empty) {
        Item::ArrayOfTables(list) => list.push(input.into_table()),
        Item::Value(Value::Array(list)) => list.push(input),
        _ => return Err(broken()),
    }
    Ok(())
}

pub(crate) fn text_is_inline(servers: &dyn TableLike) -> bool {
    !servers.is_empty() && servers.iter().all(|(_, item)| item.is_inline_table())
}

/// Sets a flag and keeps the comment behind it.
fn set(table: &mut dyn TableLike, key: &str, flag: bool) {
    let mut new = Value::from(flag);
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *new.decor_mut() = old.decor().clone();
    }
    table.insert(key, Item::Value(new));
}

/// TOML has no null: it is left out.
pub(crate) fn convert(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::from(number.as_f64()?),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::Array(items.iter().filter_map(convert).collect::<Array>()),
        Json::Object(map) => {
            let mut table = InlineTable::new();
            for (name, json) in map {
                if let Some(json) = convert(json) {
                    table.insert(name, json);
                }
            }
            Value::InlineTable(table)
        }
    })
}
