//! Arguments of a tool that travel as headers too (MCP 2026-07-28, "Custom Headers from Tool
//! Parameters"). Pure functions.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Raw;

/// Which arguments of a tool are mirrored into headers, as its `inputSchema` says by
/// `x-mcp-header`.
///
/// ```
/// use mcpool_core::{ParamHeaders, Raw};
///
/// let tool = Raw::from_text(r#"{"name": "query", "inputSchema": {"type": "object",
///     "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}}"#.to_owned())?;
/// let headers = ParamHeaders::of_tool(&tool).unwrap();
/// let params = Raw::from_text(r#"{"name": "query", "arguments": {"region": "eu"}}"#.to_owned())?;
/// assert_eq!(headers.of_call(&params), [("Mcp-Param-Region".to_owned(), "eu".to_owned())]);
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamHeaders(Vec<Mirrored>);

/// One argument that is mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirrored {
    /// The names of properties from the root of the schema to it.
    path: Vec<String>,
    /// The whole name of its header.
    header: String,
}

const ANNOTATION: &str = "x-mcp-header";

impl ParamHeaders {
    /// Reads an entry of a `tools/list` result. What has no schema that can be read has no
    /// annotations.
    ///
    /// # Errors
    /// What is wrong with an annotation, in words that may hold text of the server's. Over
    /// Streamable HTTP such a tool must be left out of the list.
    pub fn of_tool(tool: &Raw) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Tool {
            input_schema: Map<String, Value>,
        }
        // Nearly no tool has any: the schema is read only where one may be.
        let text = tool.get().as_bytes();
        if memchr::memmem::find(text, ANNOTATION.as_bytes()).is_none()
            && memchr::memmem::find(text, br"\u").is_none()
        {
            return Ok(Self::default());
        }
        let Ok(tool) = tool.parse::<Tool>() else {
            return Ok(Self::default());
        };
        let schema = tool.input_schema;
        if schema.contains_key(ANNOTATION) {
            return Err(format!("{ANNOTATION} stands at the root of the schema"));
        }
        if is_astray(&schema, true) {
            return Err(format!(
                "{ANNOTATION} stands where `properties` alone do not lead"
            ));
        }
        let mut found = Self::default();
        let mut names = HashSet::new();
        found.collect(schema.get("properties"), &mut Vec::new(), &mut names)?;
        Ok(found)
    }

    fn collect(
        &mut self,
        properties: Option<&Value>,
        path: &mut Vec<String>,
        names: &mut HashSet<String>,
    ) -> Result<(), String> {
        let Some(Value::Object(properties)) = properties else {
            return Ok(());
        };
        for (name, schema) in properties {
            path.push(name.clone());
            if let Some(annotation) = schema.get(ANNOTATION) {
                let name = checked(annotation, schema, names)
                    .map_err(|why| format!("property `{}`: {why}", path.join(".")))?;
                self.0.push(Mirrored {
                    path: path.clone(),
                    header: format!("Mcp-Param-{name}"),
                });
            }
            self.collect(schema.get("properties"), path, names)?;
            path.pop();
        }
        Ok(())
    }

    /// Whether no argument is mirrored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers of a call with these parameters: their whole names, and their values as plain
    /// text. An argument that is missing, null, or of another type than text, number and truth
    /// value has none.
    #[must_use]
    pub fn of_call(&self, params: &Raw) -> Vec<(String, String)> {
        #[derive(Deserialize)]
        struct Params {
            #[serde(default)]
            arguments: Value,
        }
        if self.is_empty() {
            return Vec::new();
        }
        let Ok(params) = params.parse::<Params>() else {
            return Vec::new();
        };
        self.0
            .iter()
            .filter_map(|mirrored| {
                let steps = mirrored.path.iter();
                let value = steps
                    .into_iter()
                    .try_fold(&params.arguments, |value, name| value.get(name))?;
                Some((mirrored.header.clone(), plain(value)?))
            })
            .collect()
    }
}

/// The name of a header, if the annotation may name it.
fn checked<'a>(
    annotation: &'a Value,
    schema: &Value,
    names: &mut HashSet<String>,
) -> Result<&'a str, String> {
    let Some(name) = annotation.as_str() else {
        return Err(format!("{ANNOTATION} is not text"));
    };
    // RFC 9110, section 5.6.2.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("{ANNOTATION} is no name of a header"));
    }
    if !names.insert(name.to_ascii_lowercase()) {
        return Err(format!("{ANNOTATION} `{name}` is there twice"));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "boolean") => Ok(name),
        _ => Err(format!(
            "{ANNOTATION} needs the type string, integer or boolean"
        )),
    }
}

/// A value as the text of a header.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(match number.as_f64() {
            // 42.0 is an integer too, and its text is 42; up to 2^53 both say the same number.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= SAFE => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        }),
        _ => None,
    }
}

/// 2^53 − 1: the last integer that every JSON implementation can distinguish from its neighbours.
const SAFE: f64 = 9_007_199_254_740_991.0;

/// Whether a schema holds an annotation that no chain of `properties` leads to. `reached` says
/// whether this schema is reached by one.
fn is_astray(schema: &Map<String, Value>, reached: bool) -> bool {
    let in_map = |map: &Value, reached: bool| {
        map.as_object()
            .is_some_and(|map| map.values().any(|schema| holds_astray(schema, reached)))
    };
    schema.iter().any(|(key, value)| match key.as_str() {
        ANNOTATION => !reached,
        "properties" => in_map(value, reached),
        "$defs" | "definitions" | "dependentSchemas" | "patternProperties" => in_map(value, false),
        // Values, not schemas.
        "default" | "const" | "enum" | "examples" => false,
        _ => holds_astray(value, false),
    })
}

fn holds_astray(value: &Value, reached: bool) -> bool {
    match value {
        Value::Object(schema) => is_astray(schema, reached),
        Value::Array(schemas) => schemas.iter().any(|schema| holds_astray(schema, false)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(properties: Value) -> Result<ParamHeaders, String> {
        let schema = json!({"type": "object", "properties": properties});
        ParamHeaders::of_tool(&Raw::of(&json!({"name": "t", "inputSchema": schema})).unwrap())
    }

    fn headers(properties: Value, arguments: Value) -> Vec<(String, String)> {
        let params = Raw::of(&json!({"name": "t", "arguments": arguments})).unwrap();
        of(properties).unwrap().of_call(&params)
    }

    #[test]
    fn values_become_text_and_what_is_not_there_has_no_header() {
        let annotated = |kind: &str, name: &str| json!({"type": kind, "x-mcp-header": name});
        let properties = json!({
            "region": annotated("string", "Region"),
            "count": annotated("integer", "Count"),
            "flag": annotated("boolean", "Flag"),
            "none": annotated("string", "None"),
            "list": annotated("string", "List"),
            "deep": {"type": "object", "properties": {"er": annotated("integer", "Deeper")}},
            "plain": {"type": "string"},
        });
        let arguments = json!({
            "region": " eu\n", "count": 42.0, "flag": true, "none": null, "list": [1],
            "deep": {"er": -7}, "plain": "x",
        });
        let named = |(name, value): (&str, &str)| (format!("Mcp-Param-{name}"), value.to_owned());
        assert_eq!(
            headers(properties.clone(), arguments),
            [
                ("Region", " eu\n"),
                ("Count", "42"),
                ("Flag", "true"),
                ("Deeper", "-7")
            ]
            .map(named)
        );
        assert_eq!(headers(properties, json!({})), []);
    }

    #[test]
    fn annotations_that_break_a_rule_are_refused() {
        let bad = [
            json!({"a": {"type": "string", "x-mcp-header": ""}}),
            json!({"a": {"type": "string", "x-mcp-header": "bad name"}}),
            json!({"a": {"type": "string", "x-mcp-header": "x\r\ny"}}),
            json!({"a": {"type": "string", "x-mcp-header": 5}}),
            json!({"a": {"type": "number", "x-mcp-header": "N"}}),
            json!({"a": {"type": "array", "x-mcp-header": "A"}}),
            json!({"a": {"x-mcp-header": "A"}}),
            json!({
                "a": {"type": "string", "x-mcp-header": "Region"},
                "b": {"properties": {"c": {"type": "string", "x-mcp-header": "region"}}},
            }),
            json!({"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "I"}}}),
            json!({"a": {"oneOf": [{"type": "string", "x-mcp-header": "I"}]}}),
        ];
        for properties in bad {
            let shown = properties.to_string();
            assert!(of(properties).is_err(), "{shown}");
        }
        let root = json!({"name": "t", "inputSchema": {"type": "object", "x-mcp-header": "R"}});
        assert!(ParamHeaders::of_tool(&Raw::of(&root).unwrap()).is_err());
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        let values = json!({"a": {"type": "object", "default": {"x-mcp-header": "A"}}});
        assert!(of(values).unwrap().is_empty());
        // A property of that name is a property.
        let named = json!({"x-mcp-header": {"type": "string"}});
        assert!(of(named).unwrap().is_empty());
        for text in ["{}", "5", r#"{"inputSchema":"x-mcp-header"}"#] {
            let tool = Raw::from_text(text.to_owned()).unwrap();
            assert!(ParamHeaders::of_tool(&tool).unwrap().is_empty(), "{text}");
        }
    }
}
