//! What a tool's JSON Schema says of the types of its arguments.

use serde_json::Value;

use super::Object;

/// How many references and choices within each other are followed.
const MAX_DEPTH: usize = 8;

/// How many places they may lead to.
const MAX_WAYS: usize = 256;

/// A place in a schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema<'a> {
    root: &'a Object,
    here: &'a Object,
}

impl<'a> Schema<'a> {
    /// The schema of all arguments.
    pub(super) fn new(root: &'a Object) -> Self {
        Self { root, here: root }
    }

    /// The types that are allowed, in the order of the schema; empty when it does not say.
    pub(super) fn types(self) -> Vec<&'a str> {
        let mut types: Vec<&'a str> = Vec::new();
        for place in self.ways() {
            match place.here.get("type") {
                Some(Value::String(one)) => types.push(one.as_str()),
                Some(Value::Array(many)) => types.extend(many.iter().filter_map(Value::as_str)),
                _ => types.extend(place.values().map(|value| -> &'a str { type_of(value) })),
            }
        }
        let mut seen: Vec<&'a str> = Vec::new();
        for kind in types {
            if !seen.contains(&kind) {
                seen.push(kind);
            }
        }
        seen
    }

    /// The schema of a property; `None` when it does not name it.
    pub(super) fn property(self, key: &str) -> Option<Self> {
        self.ways()
            .into_iter()
            .find_map(|place| place.below(place.here.get("properties")?.get(key)?))
    }

    /// The names of its properties.
    pub(super) fn keys(self) -> Vec<&'a str> {
        self.ways()
            .into_iter()
            .filter_map(|place| place.here.get("properties")?.as_object())
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect()
    }

    /// Whether it names all properties: an unknown one is then a mistake, also where the schema
    /// forgets to say so.
    pub(super) fn names_all(self) -> bool {
        let ways = self.ways();
        let open = |place: &Self| {
            let additional = place.here.get("additionalProperties");
            place.here.contains_key("patternProperties")
                || additional.is_some_and(|additional| *additional != Value::Bool(false))
        };
        !ways.iter().any(open)
            && ways
                .iter()
                .any(|place| place.here.contains_key("properties"))
    }

    /// The schema of an array's items.
    pub(super) fn items(self) -> Option<Self> {
        self.ways()
            .into_iter()
            .find_map(|place| place.below(place.here.get("items")?))
    }

    /// What a keyword says.
    pub(super) fn keyword(self, word: &str) -> Option<&'a Value> {
        self.here.get(word)
    }

    /// The schemas of `anyOf`, `oneOf` or `allOf`; one that is no object (`true`) allows anything,
    /// and is left out.
    pub(super) fn list(self, word: &str) -> Vec<Self> {
        let list = self.here.get(word).and_then(Value::as_array);
        let list = list.into_iter().flatten();
        list.filter_map(|value| self.below(value)).collect()
    }

    /// The schema that a reference stands for.
    pub(super) fn reference(self) -> Option<Self> {
        self.referred().and_then(|value| self.below(value))
    }

    /// A schema that stands somewhere in this one.
    pub(super) fn below(self, value: &'a Value) -> Option<Self> {
        let here = value.as_object()?;
        Some(Self { here, ..self })
    }

    /// The values of an `enum` or a `const`.
    fn values(self) -> impl Iterator<Item = &'a Value> {
        let many = self.here.get("enum").and_then(Value::as_array);
        many.into_iter().flatten().chain(self.here.get("const"))
    }

    /// It, what it refers to, and the schemas of which one or all hold.
    fn ways(self) -> Vec<Self> {
        let mut found = vec![self];
        let mut level = vec![self];
        for _ in 0..MAX_DEPTH {
            let room = MAX_WAYS.saturating_sub(found.len());
            level = level.into_iter().flat_map(Self::next).take(room).collect();
            found.extend(&level);
        }
        found
    }

    /// What a reference within the same schema stands for.
    fn referred(self) -> Option<&'a Value> {
        let pointer = self.here.get("$ref")?.as_str()?.strip_prefix("#/")?;
        let (first, rest) = match pointer.split_once('/') {
            Some((first, rest)) => (first, format!("/{rest}")),
            None => (pointer, String::new()),
        };
        // RFC 6901, section 4.
        let first = first.replace("~1", "/").replace("~0", "~");
        self.root.get(&first)?.pointer(&rest)
    }

    fn next(self) -> Vec<Self> {
        let ways = ["anyOf", "oneOf", "allOf"].into_iter();
        let ways = ways.flat_map(|word| self.list(word));
        self.reference().into_iter().chain(ways).collect()
    }
}

/// The type of a value, as a schema calls it.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn choices_and_references_are_followed() {
        let root = json!({"properties": {
            "a": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]},
            "c": {"const": 1},
            "x/y": {"$ref": "#/properties/x~1z"},
            "x/z": {"type": "boolean"},
            "self": {"$ref": "#/properties/self"},
            "none": {"$ref": "#/nowhere"},
        }, "$defs": {"N": {"type": ["integer", "string"]}}});
        let schema = Schema::new(root.as_object().unwrap());
        let types = |key: &str| schema.property(key).unwrap().types();
        assert_eq!(types("a"), ["null", "integer", "string"]);
        assert_eq!(types("c"), ["number"]);
        assert_eq!(types("x/y"), ["boolean"]);
        assert_eq!(types("self"), Vec::<&str>::new());
        assert_eq!(types("none"), Vec::<&str>::new());
        assert!(schema.property("b").is_none());
    }

    #[test]
    fn a_schema_names_all_keys_unless_it_says_otherwise() {
        for (schema, all) in [
            (json!({"properties": {"a": {}}}), true),
            (json!({"properties": {}}), true),
            (json!({"type": "object"}), false),
            (
                json!({"properties": {}, "additionalProperties": false}),
                true,
            ),
            (
                json!({"properties": {}, "additionalProperties": true}),
                false,
            ),
            (json!({"properties": {}, "additionalProperties": {}}), false),
            (
                json!({"properties": {}, "patternProperties": {"^x": {}}}),
                false,
            ),
        ] {
            let object = schema.as_object().unwrap();
            assert_eq!(Schema::new(object).names_all(), all, "{schema}");
        }
    }

    /// Schemas that double at each level must not take the memory of 2^depth places.
    #[test]
    fn a_schema_that_multiplies_is_bounded() {
        let twice = json!({"$ref": "#/$defs/T"});
        let many: Vec<Value> = vec![twice; 64];
        let root = json!({"$ref": "#/$defs/T", "$defs": {"T": {"anyOf": many}}});
        let schema = Schema::new(root.as_object().unwrap());
        assert!(schema.ways().len() <= MAX_WAYS);
    }
}
