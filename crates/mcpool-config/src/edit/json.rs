//! Edits of JSON, on a tree that keeps every character it does not change.

use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use mcpool_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{Edit, to_value};

pub(super) fn apply(text: &str, edit: &Edit) -> Result<String> {
    let root = CstRootNode::parse(text, &crate::document::jsonc_options()).map_err(|error| {
        Error::new(ErrorKind::InvalidSpec, "the file is not valid JSON").with_source(error)
    })?;
    let broken = || {
        Error::new(
            ErrorKind::InvalidSpec,
            "the file is not an object of servers",
        )
    };
    let object = root.object_value_or_create().ok_or_else(broken)?;
    let key = if object.get("mcpServers").is_none() && object.get("mcp_servers").is_some() {
        "mcp_servers"
    } else {
        "mcpServers"
    };
    let servers = last(&object, key)
        .map_or_else(
            || object.object_value_or_create(key),
            |property| property.object_value(),
        )
        .ok_or_else(broken)?;
    match edit {
        Edit::AddInput { id, declaration } => {
            let inputs = last(&object, "inputs")
                .map_or_else(
                    || object.array_value_or_create("inputs"),
                    |property| property.array_value(),
                )
                .ok_or_else(|| {
                    Error::new(ErrorKind::InvalidSpec, "`inputs` of the file is not a list")
                })?;
            inputs.append(input(&declaration.to_json(id)));
        }
        Edit::Add { name, settings, .. } => {
            let value = input(&to_value(settings)?);
            match last(&servers, name) {
                // The place and the comments around it stay.
                Some(property) => property.set_value(value),
                None => {
                    servers.append(name, value);
                }
            }
        }
        Edit::Remove { name } => {
            for property in servers.properties() {
                if property.decoded_name().as_deref() == Some(name) {
                    property.remove();
                }
            }
        }
        Edit::SetEnabled { name, enabled } => {
            let server = last(&servers, name)
                .and_then(|property| property.object_value())
                .ok_or_else(broken)?;
            // Where a host's own flag stands, it is turned, and no second one added.
            if let Some(flag) = last(&server, "disabled") {
                flag.set_value(CstInputValue::Bool(!enabled));
                if let Some(flag) = last(&server, "enabled") {
                    flag.set_value(CstInputValue::Bool(*enabled));
                }
            } else if let Some(flag) = last(&server, "enabled") {
                flag.set_value(CstInputValue::Bool(*enabled));
            } else if !enabled {
                server.append("enabled", CstInputValue::Bool(false));
            }
        }
    }
    Ok(root.to_string())
}

/// The property that counts, of equal ones.
pub(crate) fn last(object: &CstObject, name: &str) -> Option<jsonc_parser::cst::CstObjectProp> {
    object
        .properties()
        .into_iter()
        .rev()
        .find(|property| property.decoded_name().as_deref() == Some(name))
}

pub(crate) fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(map) => CstInputValue::Object(
            map.iter()
                .map(|(name, value)| (name.clone(), input(value)))
                .collect(),
        ),
    }
}
