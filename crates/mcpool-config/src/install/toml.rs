//! The table of servers of a TOML file, on a document that keeps its comments and order.

use mcpool_core::Result;
use serde_json::Value as Json;
use toml_edit::{DocumentMut, Item, Table, TableLike, value};

use super::broken;
use crate::edit::toml::{convert, text_is_inline};

pub(super) fn names(text: &str, key: &[&str]) -> Result<Vec<String>> {
    let document = parse(text)?;
    let mut item: &Item = document.as_item();
    for part in key {
        match item.get(part) {
            Some(next) => item = next,
            None => return Ok(Vec::new()),
        }
    }
    let servers = item.as_table_like().ok_or_else(no_table)?;
    Ok(servers.iter().map(|(name, _)| name.to_owned()).collect())
}

pub(super) fn replace(
    text: &str,
    key: &[&str],
    moved: &[String],
    name: &str,
    entry: &Json,
) -> Result<String> {
    let mut document = parse(text)?;
    let servers = make(&mut document, key)?;
    for old in moved {
        servers.remove(old);
    }
    let mut table = Table::new();
    for (field, json) in entry.as_object().into_iter().flatten() {
        if let Some(json) = convert(json) {
            table.insert(field, value(json));
        }
    }
    let item = match text_is_inline(servers) {
        true => value(table.into_inline_table()),
        false => Item::Table(table),
    };
    servers.insert(name, item);
    Ok(written(text, &document))
}

pub(super) fn restore(
    text: &str,
    key: &[&str],
    name: &str,
    before: &str,
    gone: &[String],
) -> Result<String> {
    let mut document = parse(text)?;
    let earlier = parse(before)?;
    let servers = make(&mut document, key)?;
    servers.remove(name);
    let mut old = Some(earlier.as_item());
    for part in key {
        old = old.and_then(|item| item.get(part));
    }
    for name in gone {
        if let Some(item) = old.and_then(|item| item.get(name)) {
            servers.insert(name, item.clone());
        }
    }
    Ok(written(text, &document))
}

fn parse(text: &str) -> Result<DocumentMut> {
    // The parser's message quotes the line, and with it perhaps a secret.
    text.parse()
        .map_err(|_| broken("the file is not valid TOML"))
}

fn no_table() -> mcpool_core::Error {
    broken("what stands in the place of the servers is not a table")
}

fn make<'a>(document: &'a mut DocumentMut, key: &[&str]) -> Result<&'a mut dyn TableLike> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for part in key {
        if !table.contains_key(part) {
            let mut servers = Table::new();
            // Only the tables of the servers themselves get a header.
            servers.set_implicit(true);
            table.insert(part, Item::Table(servers));
        }
        let next = table.get_mut(part).and_then(Item::as_table_like_mut);
        table = next.ok_or_else(no_table)?;
    }
    Ok(table)
}

/// The document writes `\n` only; what the file had is put back.
fn written(before: &str, document: &DocumentMut) -> String {
    let out = document.to_string();
    match before.contains("\r\n") {
        true => out.replace("\r\n", "\n").replace('\n', "\r\n"),
        false => out,
    }
}
