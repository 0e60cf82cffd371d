//! The JSON Schema of the native format, made from the types in [`settings`](crate::settings).

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{
    dialects::{COMMON, Key, Unit},
    settings::FileSettings,
};

/// The JSON Schema (draft 2020-12) of a file in the native format.
///
/// It also knows the other names that every dialect accepts (`type`, `disabled`, `envFile` …).
#[must_use]
pub fn json_schema() -> Value {
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<FileSettings>();
    let mut schema = schema.to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert(
            "description".to_owned(),
            "Servers for mcpool. Comments and trailing commas are allowed; strings may hold ${NAME}, ${NAME:-default}, ${env:NAME}, ${file:path} and ${input:id}.".into(),
        );
        allow_extensions(root);
        if let Some(fields) = root.get_mut("properties").and_then(Value::as_object_mut) {
            let inputs = json!({"description": "What `${input:id}` asks for, as VS Code has it.",
                                "type": "array", "items": {"type": "object"}});
            fields.insert("inputs".to_owned(), inputs);
        }
    }
    if let Some(server) = schema
        .pointer_mut("/$defs/ServerSettings")
        .and_then(Value::as_object_mut)
    {
        add_aliases(server);
        allow_extensions(server);
    }
    schema
}

/// Keys of other tools: `x-…`, `$comment`, `_comment`.
fn allow_extensions(schema: &mut Map<String, Value>) {
    schema.insert(
        "patternProperties".to_owned(),
        json!({ "^(x-|\\$|_|//)": true }),
    );
}

/// The other names of fields, each with the schema of its canonical name.
fn add_aliases(server: &mut Map<String, Value>) {
    let Some(properties) = server.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(transport) = properties.get_mut("transport") {
        *transport = json!({
            "description": "How it is reached. Default: `stdio` with a `command`, `auto` with a `url`. `streamable-http` and `remote` mean `http`, `local` means `stdio`.",
            "enum": ["stdio", "http", "sse", "auto", "streamable-http", "streamableHttp", "streamable_http", "remote", "local"]
        });
    }
    for (name, key) in COMMON {
        if properties.contains_key(*name) {
            continue;
        }
        let schema = match key {
            Key::Disabled => {
                json!({ "description": "The opposite of `enabled`.", "type": "boolean" })
            }
            Key::BearerEnv => {
                json!({ "description": "The variable that holds the bearer token.", "type": "string" })
            }
            Key::EnvHeaders => {
                json!({ "description": "Headers whose values are held by these variables.", "type": "object", "additionalProperties": { "type": "string" } })
            }
            Key::ToolsAllow => {
                json!({ "description": "The same as `tools.allow`.", "type": "array", "items": { "type": "string" } })
            }
            Key::ToolsDeny => {
                json!({ "description": "The same as `tools.deny`.", "type": "array", "items": { "type": "string" } })
            }
            Key::Timeout(Some(unit)) | Key::StartupTimeout(Some(unit)) => json!({
                "description": if *unit == Unit::Seconds { "In seconds." } else { "In milliseconds." },
                "type": "number", "minimum": 0
            }),
            Key::Auth => json!({ "description": "`oauth`, a token, or an `oauth` object." }),
            Key::Ignore => Value::Bool(true),
            Key::HttpUrl => {
                json!({ "description": "A `url` that is Streamable HTTP.", "type": "string" })
            }
            other => {
                // The canonical name comes first in the table.
                let canonical = COMMON
                    .iter()
                    .find(|(_, key)| key == other)
                    .map_or(*name, |(canonical, _)| *canonical);
                properties
                    .get(canonical)
                    .cloned()
                    .unwrap_or(Value::Bool(true))
            }
        };
        properties.insert((*name).to_owned(), schema);
    }
}
