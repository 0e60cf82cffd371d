//! The parameters of a tool, read from its JSON Schema: for its signature, and one by one.

use std::fmt;

use serde_json::Value;

/// How deep types within types are spelled out; below that it is `object` or `array`.
const MAX_DEPTH: usize = 3;

/// How many values of an `enum` a signature names; `Parameter::choices` has all.
const MAX_CHOICES: usize = 8;

/// How many types the words for one parameter hold. A schema may refer to itself, and more than once.
const MAX_TYPES: usize = 64;

/// One parameter of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    /// Its name.
    pub(crate) name: String,
    /// Its type in words: `number`, `string[]`, `"a" | "b"`, `{x: number}`.
    pub(crate) kind: String,
    /// Whether a call must have it.
    pub(crate) required: bool,
    /// What it is when a call does not say.
    pub(crate) default: Option<Value>,
    /// What it may be, where the schema lists it.
    pub(crate) choices: Vec<Value>,
    /// What else is asked of it: `1 to 10`, `at least 1 item`.
    pub(crate) limits: Vec<String>,
    /// What the server says of it.
    pub(crate) description: Option<String>,
}

/// The parameters of an object's schema, required ones first, otherwise in the server's order.
pub(crate) fn parameters(schema: &Value) -> Vec<Parameter> {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = schema["properties"].as_object();
    let mut parameters: Vec<Parameter> = properties
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let property = followed(schema, property);
            Parameter {
                name: name.clone(),
                kind: Words::new(schema).of(property, MAX_DEPTH),
                required: required.contains(&name.as_str()),
                default: property.get("default").cloned(),
                choices: choices(property).cloned().unwrap_or_default(),
                limits: limits(property),
                description: property["description"].as_str().map(str::to_owned),
            }
        })
        .collect();
    parameters.sort_by_key(|parameter| !parameter.required);
    parameters
}

/// `a: number`, as a signature has it. What may be left out has a `?`, or its default.
impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, .. } = self;
        match &self.default {
            _ if self.required => write!(f, "{name}: {kind}"),
            Some(default) if !default.is_null() => write!(f, "{name}?: {kind} = {default}"),
            _ => write!(f, "{name}?: {kind}"),
        }
    }
}

/// Types in words.
struct Words<'s> {
    root: &'s Value,
    /// How many more types are spelled out.
    left: usize,
}

impl<'s> Words<'s> {
    fn new(root: &'s Value) -> Self {
        Self {
            root,
            left: MAX_TYPES,
        }
    }

    /// The type that a schema describes.
    fn of(&mut self, schema: &Value, depth: usize) -> String {
        let Some(left) = self.left.checked_sub(1) else {
            return "…".to_owned();
        };
        self.left = left;
        let schema = followed(self.root, schema);
        if let Some(value) = schema.get("const") {
            return value.to_string();
        }
        if let Some(values) = choices(schema) {
            let mut words: Vec<String> = values.iter().take(MAX_CHOICES).map(text_of).collect();
            if values.len() > MAX_CHOICES {
                words.push("…".to_owned());
            }
            return words.join(" | ");
        }
        for several in ["anyOf", "oneOf"] {
            if let Some(ways) = schema[several].as_array() {
                let ways = ways.iter().take(self.left.saturating_add(1));
                return any_of(ways.map(|way| self.of(way, depth)));
            }
        }
        match &schema["type"] {
            Value::String(word) => self.of_type(schema, word, depth),
            Value::Array(words) => any_of(
                words
                    .iter()
                    .filter_map(Value::as_str)
                    .take(MAX_CHOICES)
                    .map(|word| self.of_type(schema, word, depth)),
            ),
            _ if schema["properties"].is_object() => self.of_type(schema, "object", depth),
            _ => "any".to_owned(),
        }
    }

    fn of_type(&mut self, schema: &Value, word: &str, depth: usize) -> String {
        let Some(below) = depth.checked_sub(1) else {
            return word.to_owned();
        };
        match word {
            "array" => match schema.get("items") {
                Some(items) if items.is_object() => {
                    let items = self.of(items, below);
                    match items.contains(" | ") && !items.starts_with('{') {
                        true => format!("({items})[]"),
                        false => format!("{items}[]"),
                    }
                }
                _ => "array".to_owned(),
            },
            "object" => match schema["properties"].as_object() {
                Some(properties) if !properties.is_empty() => {
                    let required = schema["required"].as_array();
                    let mut members: Vec<String> = Vec::new();
                    for (name, property) in properties {
                        if self.left == 0 {
                            members.push("…".to_owned());
                            break;
                        }
                        let must = required.is_some_and(|all| all.iter().any(|one| one == name));
                        let mark = if must { "" } else { "?" };
                        members.push(format!("{name}{mark}: {}", self.of(property, below)));
                    }
                    format!("{{{}}}", members.join(", "))
                }
                _ => "object".to_owned(),
            },
            word => word.to_owned(),
        }
    }
}

/// Each way once. `null` says that it may be left out, which the signature says already.
fn any_of(ways: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = Vec::new();
    for way in ways {
        if way != "null" && !words.contains(&way) {
            words.push(way);
        }
    }
    match words.is_empty() {
        true => "null".to_owned(),
        false => words.join(" | "),
    }
}

fn choices(schema: &Value) -> Option<&Vec<Value>> {
    schema["enum"]
        .as_array()
        .filter(|values| !values.is_empty())
}

fn text_of(value: &Value) -> String {
    value.to_string()
}

/// What a schema within the same document stands for: `{"$ref": "#/$defs/Unit"}`.
fn followed<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let mut found = schema;
    // A reference may name a reference, and a hostile one itself.
    for _ in 0..MAX_DEPTH {
        let Some(pointer) = found["$ref"]
            .as_str()
            .and_then(|text| text.strip_prefix('#'))
        else {
            break;
        };
        let Some(next) = root.pointer(pointer) else {
            break;
        };
        found = next;
    }
    found
}

/// What is asked of a value beside its type.
fn limits(schema: &Value) -> Vec<String> {
    let number = |name: &str| schema[name].as_number().map(ToString::to_string);
    let count = |name: &str| schema[name].as_u64();
    let mut limits = Vec::new();
    match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => limits.push(format!("{least} to {most}")),
        (Some(least), None) => limits.push(format!("at least {least}")),
        (None, Some(most)) => limits.push(format!("at most {most}")),
        (None, None) => {}
    }
    for (least, most, word) in [
        ("minLength", "maxLength", "character"),
        ("minItems", "maxItems", "item"),
    ] {
        let many = |n: u64| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        match (count(least), count(most)) {
            (Some(least), Some(most)) => limits.push(format!("{least} to {}", many(most))),
            (Some(least), None) => limits.push(format!("at least {}", many(least))),
            (None, Some(most)) => limits.push(format!("at most {}", many(most))),
            (None, None) => {}
        }
    }
    for word in ["format", "pattern"] {
        if let Some(text) = schema[word].as_str() {
            limits.push(format!("{word} {text}"));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn signature(schema: &Value) -> String {
        let parameters = parameters(schema);
        let shown: Vec<String> = parameters.iter().map(ToString::to_string).collect();
        shown.join(", ")
    }

    #[test]
    fn a_signature_says_what_a_call_needs() {
        let schema = json!({
            "type": "object",
            "properties": {
                "count": {"type": "number", "default": 3, "minimum": 1, "maximum": 10},
                "city": {"enum": ["Rome", "Oslo"]},
                "paths": {"type": "array", "items": {"type": "string"}},
                "tail": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": null},
                "edits": {"type": "array", "items": {"$ref": "#/$defs/Edit"}},
                "free": {},
                "either": {"type": ["string", "number"]},
            },
            "required": ["city", "paths"],
            "$defs": {"Edit": {"type": "object", "properties": {
                "old": {"type": "string"}, "new": {"type": "string"}
            }, "required": ["old"]}},
        });
        assert_eq!(
            signature(&schema),
            "city: \"Rome\" | \"Oslo\", paths: string[], count?: number = 3, tail?: integer, \
             edits?: {old: string, new?: string}[], free?: any, either?: string | number"
        );
        let all = parameters(&schema);
        let count = all
            .iter()
            .find(|parameter| parameter.name == "count")
            .unwrap();
        assert_eq!(count.limits, ["1 to 10"]);
        assert_eq!(all[0].choices, [json!("Rome"), json!("Oslo")]);
    }

    #[test]
    fn a_schema_of_any_shape_has_a_signature() {
        let endless = json!({"properties": {"a": {"$ref": "#/properties/a"}, "b": {"$ref": "#"}}});
        for (schema, shown) in [
            (Value::Null, ""),
            (json!(true), ""),
            (json!({"properties": [1]}), ""),
            (json!({"properties": {"a": null}}), "a?: any"),
            (
                json!({"properties": {"a": {"type": 7, "enum": 3}}}),
                "a?: any",
            ),
            (json!({"properties": {"a": {"type": "array"}}}), "a?: array"),
            (json!({"properties": {"a": {"enum": []}}}), "a?: any"),
            (json!({"properties": {"a": {"anyOf": []}}}), "a?: null"),
            (
                endless,
                "a?: any, b?: {a?: any, b?: {a?: any, b?: {a?: any, b?: object}}}",
            ),
        ] {
            assert_eq!(signature(&schema), shown);
        }
    }

    /// Each of these doubles, or goes on for ever.
    #[test]
    fn a_schema_that_multiplies_is_cut() {
        let twice = |name: String| json!({"anyOf": [{"$ref": name}, {"$ref": name}]});
        let chain: serde_json::Map<String, Value> = (0..40)
            .map(|n| (format!("a{n}"), twice(format!("#/$defs/a{}", n + 1))))
            .collect();
        let wide: serde_json::Map<String, Value> = (0..300)
            .map(|n| (format!("p{n}"), json!({"$ref": "#"})))
            .collect();
        for schema in [
            json!({"properties": {"p": {"anyOf": [{"$ref": "#/properties/p"}]}}}),
            json!({"$defs": chain, "properties": {"p": {"$ref": "#/$defs/a0"}}}),
            json!({ "properties": wide }),
            json!({"properties": {"p": {"type": vec!["array"; 10_000],
                                        "items": {"$ref": "#/properties/p"}}}}),
        ] {
            for parameter in parameters(&schema) {
                assert!(parameter.kind.len() < 20 * MAX_TYPES, "{parameter}");
                assert!(parameter.kind.contains('…'), "{parameter}");
            }
        }
    }
}
