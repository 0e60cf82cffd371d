//! The JSON Schema of durations and sizes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{ByteSize, HumanDuration};

impl JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*(0|(\d+\s*[a-zA-Zµ]+\s*)+)$",
            "examples": ["500ms", "30s", "2m", "1h 30m"]
        })
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*(0|\d+(\.\d+)?\s*[kKmMgGtTpPeE]?[iI]?[bB]?)\s*$",
            "examples": ["64KiB", "16MiB", "1GB"]
        })
    }
}
