//! The map of servers of a JSON file, on a tree that keeps every character that is not changed.

use jsonc_parser::cst::{CstInputValue, CstObject, CstObjectProp, CstRootNode};
use mcpool_core::Result;
use serde_json::Value;

use super::broken;
use crate::edit::json::{input, last};

pub(super) fn names(text: &str, key: &[&str]) -> Result<Vec<String>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let root = parse(text)?;
    let object = root.object_value().ok_or_else(no_object)?;
    let Some(servers) = find(object, key)? else {
        return Ok(Vec::new());
    };
    let properties = servers.properties();
    Ok(properties
        .iter()
        .filter_map(CstObjectProp::decoded_name)
        .collect())
}

pub(super) fn replace(
    text: &str,
    key: &[&str],
    moved: &[String],
    name: &str,
    entry: &Value,
) -> Result<String> {
    let root = parse_or_begin(text)?;
    let servers = make(&root, key)?;
    remove(&servers, |old| moved.iter().any(|moved| moved == old));
    match last(&servers, name) {
        // Its place and the comments around it stay.
        Some(property) => property.set_value(input(entry)),
        None => {
            servers.append(name, input(entry));
        }
    }
    Ok(root.to_string())
}

pub(super) fn restore(
    text: &str,
    key: &[&str],
    name: &str,
    before: &str,
    gone: &[String],
) -> Result<String> {
    let root = parse_or_begin(text)?;
    let servers = make(&root, key)?;
    remove(&servers, |old| old == name);
    if !gone.is_empty() {
        let earlier = parse(before)?;
        let earlier = earlier.object_value().ok_or_else(no_object)?;
        if let Some(earlier) = find(earlier, key)? {
            for name in gone {
                let value = last(&earlier, name).and_then(|property| property.value());
                if let Some(value) = value {
                    // A number is written as the text that it is given: so is any value that was
                    // read from a file, comments and all.
                    servers.append(name, CstInputValue::Number(value.to_string()));
                }
            }
        }
    }
    Ok(root.to_string())
}

/// The file as it is to be edited: an empty one begins with an empty object.
fn parse_or_begin(text: &str) -> Result<CstRootNode> {
    match text.trim().is_empty() {
        true => parse("{\n}\n"),
        false => parse(text),
    }
}

fn parse(text: &str) -> Result<CstRootNode> {
    CstRootNode::parse(text, &crate::document::jsonc_options())
        .map_err(|error| broken("the file is not valid JSON").with_source(error))
}

fn no_object() -> mcpool_core::Error {
    broken("the file is not an object")
}

fn find(mut object: CstObject, key: &[&str]) -> Result<Option<CstObject>> {
    for part in key {
        let Some(property) = last(&object, part) else {
            return Ok(None);
        };
        let next = property.object_value();
        object = next.ok_or_else(|| broken(&format!("`{part}` in the file is not an object")))?;
    }
    Ok(Some(object))
}

fn make(root: &CstRootNode, key: &[&str]) -> Result<CstObject> {
    let mut object = root.object_value().ok_or_else(no_object)?;
    for part in key {
        let next = match last(&object, part) {
            Some(property) => property.object_value(),
            None => object.object_value_or_create(part),
        };
        object = next.ok_or_else(|| broken(&format!("`{part}` in the file is not an object")))?;
    }
    Ok(object)
}

fn remove(servers: &CstObject, which: impl Fn(&str) -> bool) {
    for property in servers.properties() {
        if property.decoded_name().is_some_and(|name| which(&name)) {
            property.remove();
        }
    }
}
