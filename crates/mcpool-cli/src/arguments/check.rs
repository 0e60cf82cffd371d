//! Whether arguments fit a tool's schema, before they are sent.
//!
//! What is said here is sure: a keyword that is not known here (`pattern`, `not`, `if`) is left to
//! the server. One thing is stricter than JSON Schema: a key that the schema does not name is a
//! mistake unless the schema allows more (`additionalProperties`), because most servers forget to
//! say so and ignore what they do not know.

use mcpool::config;
use serde_json::Value;

use super::{
    Object,
    schema::{Schema, type_of},
};
use crate::{render::text::Text, text};

/// How deep arguments are looked at.
const MAX_DEPTH: usize = 32;

/// How many values are looked at, each once for each schema that it has to fit. A schema may refer to
/// itself more than once; what is left is left to the server.
const MAX_LOOKS: usize = 10_000;

/// How many problems are reported.
const MAX_PROBLEMS: usize = 20;

/// What is wrong with arguments, each on a line of its own; empty when nothing is.
pub(crate) fn check(arguments: &Object, schema: &Object) -> Vec<Text> {
    let mut check = Check {
        problems: Vec::new(),
        path: Vec::new(),
        left: MAX_LOOKS,
    };
    check.object(arguments, Schema::new(schema), MAX_DEPTH);
    check.problems
}

/// What was found so far, and where the check stands.
struct Check {
    problems: Vec<Text>,
    path: Vec<String>,
    /// How many more values are looked at.
    left: usize,
}

impl Check {
    fn say(&mut self, problem: Text) {
        // A reference and what it refers to find the same.
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The place, as it is written on the command line: `filter.name`. In an array it is
    /// `entities[0].name`, which can only be written as JSON.
    fn place(&self) -> String {
        let mut place = String::new();
        for part in &self.path {
            if !place.is_empty() && !part.starts_with('[') {
                place.push('.');
            }
            place.push_str(part);
        }
        place
    }

    /// How a value at this place is written on the command line, where it can be.
    fn example(&self, kind: &str) -> Option<String> {
        let is_in_array = self.path.iter().any(|part| part.starts_with('['));
        (!is_in_array)
            .then(|| example(&self.place(), kind))
            .flatten()
    }

    fn within(&mut self, part: String, look: impl FnOnce(&mut Self)) {
        self.path.push(part);
        look(self);
        self.path.pop();
    }

    fn value(&mut self, value: &Value, schema: Schema<'_>, depth: usize) {
        let (Some(depth), Some(left)) = (depth.checked_sub(1), self.left.checked_sub(1)) else {
            return;
        };
        self.left = left;
        if !self.has_type(value, schema) || !self.is_listed(value, schema) {
            return;
        }
        match value {
            Value::Object(object) => self.object(object, schema, depth),
            Value::Array(items) => self.array(items, schema, depth),
            Value::String(text) => self.text(text, schema),
            Value::Number(_) => self.number(value, schema),
            Value::Null | Value::Bool(_) => {}
        }
        if let Some(schema) = schema.reference() {
            self.value(value, schema, depth);
        }
        for schema in schema.list("allOf") {
            self.value(value, schema, depth);
        }
        for word in ["anyOf", "oneOf"] {
            self.one_of(value, schema, word, depth);
        }
    }

    fn has_type(&mut self, value: &Value, schema: Schema<'_>) -> bool {
        let allowed: Vec<&str> = match schema.keyword("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => return true,
        };
        if allowed.iter().any(|allowed| is_a(value, allowed)) {
            return true;
        }
        self.wrong_type(value, &allowed);
        false
    }

    fn wrong_type(&mut self, value: &Value, allowed: &[&str]) {
        let example = match allowed.iter().find(|allowed| **allowed != "null") {
            Some(allowed) => self.example(allowed),
            None => None,
        };
        let mut problem = text!(
            "`{}` must be {}, and {}",
            self.place(),
            allowed_words(allowed),
            is(value)
        );
        if let Some(example) = example {
            problem.push(&text!("; write {}", example));
        }
        self.say(problem);
    }

    /// `enum` and `const`.
    fn is_listed(&mut self, value: &Value, schema: Schema<'_>) -> bool {
        let listed: Vec<&Value> = match (schema.keyword("enum"), schema.keyword("const")) {
            (Some(Value::Array(values)), _) => values.iter().collect(),
            (_, Some(value)) => vec![value],
            _ => return true,
        };
        if listed.iter().any(|listed| same(listed, value)) {
            return true;
        }
        let mut problem = text!(
            "`{}` must be {}, and {}",
            self.place(),
            choices(&listed),
            is(value)
        );
        let words = listed.iter().filter_map(|listed| listed.as_str());
        if let Some(near) = value.as_str().and_then(|text| config::nearest(text, words)) {
            problem.push(&did_you_mean(near));
        }
        self.say(problem);
        false
    }

    fn object(&mut self, object: &Object, schema: Schema<'_>, depth: usize) {
        let required = schema.keyword("required").and_then(Value::as_array);
        for key in required.into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(key) {
                self.within(key.to_owned(), |check| {
                    let types = schema.property(key).map(Schema::types).unwrap_or_default();
                    let mut problem = text!("`{}` is missing", check.place());
                    match types.first().map(|kind| (check.example(kind), kind)) {
                        Some((Some(example), _)) => problem.push(&text!("; write {}", example)),
                        Some((None, kind)) => {
                            problem.push(&text!("; it is {}", with_article(kind)))
                        }
                        None => {}
                    }
                    check.say(problem);
                });
            }
        }
        for (key, value) in object {
            self.within(key.clone(), |check| {
                let own = schema
                    .keyword("properties")
                    .and_then(|properties| properties.get(key));
                match own.and_then(|own| schema.below(own)) {
                    Some(property) => check.value(value, property, depth),
                    None if own.is_none() => check.unknown(key, schema),
                    None => {}
                }
            });
        }
    }

    fn unknown(&mut self, key: &str, schema: Schema<'_>) {
        // Another part of the schema may name it.
        if !schema.names_all() || schema.property(key).is_some() {
            return;
        }
        let keys = schema.keys();
        let mut problem = text!("`{}` is not known", self.place());
        match config::nearest(key, keys.iter().copied()) {
            Some(near) => problem.push(&did_you_mean(near)),
            None if keys.is_empty() => problem.push(&text!("; there is nothing to give")),
            None => {}
        }
        self.say(problem);
    }

    fn array(&mut self, items: &[Value], schema: Schema<'_>, depth: usize) {
        self.size(items.len(), "item", schema, ["minItems", "maxItems"]);
        let Some(every) = schema
            .keyword("items")
            .and_then(|items| schema.below(items))
        else {
            return;
        };
        for (index, item) in items.iter().enumerate() {
            self.within(format!("[{index}]"), |check| {
                check.value(item, every, depth)
            });
        }
    }

    fn text(&mut self, text: &str, schema: Schema<'_>) {
        let count = text.chars().count();
        self.size(count, "character", schema, ["minLength", "maxLength"]);
    }

    fn size(&mut self, count: usize, word: &str, schema: Schema<'_>, bounds: [&str; 2]) {
        let bound = |name| schema.keyword(name).and_then(Value::as_u64);
        let count_is = u64::try_from(count).unwrap_or(u64::MAX);
        let [least, most] = bounds.map(bound);
        if least.is_some_and(|least| count_is < least) {
            let least = counted(least.unwrap_or_default(), word);
            self.say(text!(
                "`{}` needs at least {}, and has {}",
                self.place(),
                least,
                count
            ));
        }
        if most.is_some_and(|most| count_is > most) {
            let most = counted(most.unwrap_or_default(), word);
            self.say(text!(
                "`{}` takes at most {}, and has {}",
                self.place(),
                most,
                count
            ));
        }
    }

    fn number(&mut self, value: &Value, schema: Schema<'_>) {
        let Some(number) = value.as_f64() else { return };
        for (name, words, fits) in [
            ("minimum", "at least", f64::ge as fn(&f64, &f64) -> bool),
            ("maximum", "at most", f64::le),
            ("exclusiveMinimum", "more than", f64::gt),
            ("exclusiveMaximum", "less than", f64::lt),
        ] {
            // In old schemas the exclusive ones are booleans: those are left to the server.
            let Some(bound) = schema.keyword(name).filter(|bound| bound.is_number()) else {
                continue;
            };
            if bound.as_f64().is_some_and(|bound| !fits(&number, &bound)) {
                self.say(text!(
                    "`{}` must be {} {}, and is {}",
                    self.place(),
                    words,
                    bound.to_string(),
                    value.to_string()
                ));
            }
        }
    }

    /// At least one of several schemas has to hold. When none does, what is wrong with the nearest
    /// is said: the one of the value's type.
    fn one_of(&mut self, value: &Value, schema: Schema<'_>, word: &str, depth: usize) {
        let ways = schema.list(word);
        let all = schema.keyword(word).and_then(Value::as_array);
        if ways.is_empty() || all.is_some_and(|all| all.len() != ways.len()) {
            return;
        }
        let mut nearest: Option<Vec<Text>> = None;
        for way in ways {
            let mut tried = Self {
                problems: Vec::new(),
                path: self.path.clone(),
                left: self.left,
            };
            tried.value(value, way, depth);
            self.left = tried.left;
            if tried.problems.is_empty() {
                return;
            }
            let types = way.types();
            let has_type = types.iter().any(|allowed| is_a(value, allowed));
            if has_type && nearest.is_none() {
                nearest = Some(tried.problems);
            }
        }
        match nearest {
            Some(problems) => problems.into_iter().for_each(|problem| self.say(problem)),
            None => {
                let types = schema.types();
                self.wrong_type(value, &types);
            }
        }
    }
}

/// Whether a value is of a type of JSON Schema. 1.0 is an integer (2020-12 Core, section 4.2.2).
fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        "null" | "boolean" | "number" | "string" | "array" | "object" => type_of(value) == kind,
        // A word that is no type of JSON Schema: the server may know what it means.
        _ => true,
    }
}

/// Whether two values are the same to JSON Schema: `1` and `1.0` are.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
}

fn allowed_words(allowed: &[&str]) -> String {
    let words: Vec<&str> = allowed.iter().map(|kind| with_article(kind)).collect();
    words.join(" or ")
}

fn with_article(kind: &str) -> &str {
    match kind {
        "string" => "a string",
        "number" => "a number",
        "integer" => "an integer",
        "boolean" => "true or false",
        "array" => "an array",
        "object" => "an object",
        other => other,
    }
}

/// `is "x"`, `is an object`.
fn is(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => format!("is {}", with_article(type_of(value))),
        Value::String(_) => format!("is the string {value}"),
        plain => format!("is {plain}"),
    }
}

fn choices(listed: &[&Value]) -> String {
    let words: Vec<String> = listed.iter().map(|value| value.to_string()).collect();
    match &words[..] {
        [one] => one.clone(),
        many => format!("one of {}", many.join(", ")),
    }
}

fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn did_you_mean(near: &str) -> Text {
    text!("; did you mean `{}`?", near)
}

/// How a value of a type is written on the command line.
fn example(place: &str, kind: &str) -> Option<String> {
    Some(match kind {
        "string" => format!("{place}=TEXT"),
        "number" | "integer" => format!("{place}=1"),
        "boolean" => format!("{place}=true"),
        "array" => format!("{place}=ITEM once for each item, or {place}:='[…]'"),
        "object" => format!("{place}.KEY=VALUE, or {place}:='{{…}}'"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(arguments: Value, schema: &Value) -> Vec<String> {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object");
        };
        check(&arguments, schema.as_object().unwrap())
            .iter()
            .map(|problem| problem.as_str().to_owned())
            .collect()
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "message": {"type": "string", "maxLength": 5},
                "count": {"type": "integer", "minimum": 1, "maximum": 10},
                "city": {"enum": ["Rome", "Oslo"]},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "tail": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "filter": {"$ref": "#/$defs/Filter"},
                "deep": {"type": "boolean"},
            },
            "required": ["message"],
            "$defs": {"Filter": {"type": "object", "properties": {"name": {"type": "string"}},
                                 "required": ["name"]}},
        })
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_write() {
        let with = |key: &str, value: Value| {
            let mut arguments = json!({"message": "hi"});
            arguments[key] = value;
            problems(arguments, &schema())
        };
        assert_eq!(
            problems(json!({}), &schema()),
            ["`message` is missing; write message=TEXT"]
        );
        for (key, value, said) in [
            (
                "mesage",
                json!("x"),
                "`mesage` is not known; did you mean `message`?",
            ),
            ("other", json!("x"), "`other` is not known"),
            (
                "count",
                json!("many"),
                "`count` must be an integer, and is the string \"many\"; write count=1",
            ),
            (
                "count",
                json!(1.5),
                "`count` must be an integer, and is 1.5; write count=1",
            ),
            ("count", json!(0), "`count` must be at least 1, and is 0"),
            ("count", json!(11), "`count` must be at most 10, and is 11"),
            (
                "city",
                json!("Osla"),
                "`city` must be one of \"Rome\", \"Oslo\", and is the string \"Osla\"; did you mean `Oslo`?",
            ),
            (
                "tags",
                json!("a"),
                "`tags` must be an array, and is the string \"a\"; write tags=ITEM once for each item, or tags:='[…]'",
            ),
            ("tags", json!([]), "`tags` needs at least 1 item, and has 0"),
            (
                "tags",
                json!(["a", 1]),
                "`tags[1]` must be a string, and is 1",
            ),
            (
                "tail",
                json!("x"),
                "`tail` must be an integer or null, and is the string \"x\"; write tail=1",
            ),
            (
                "filter",
                json!({}),
                "`filter.name` is missing; write filter.name=TEXT",
            ),
            (
                "filter",
                json!({"name": "n", "nam": 1}),
                "`filter.nam` is not known; did you mean `name`?",
            ),
            (
                "deep",
                json!("yes"),
                "`deep` must be true or false, and is the string \"yes\"; write deep=true",
            ),
            (
                "message",
                json!("too long"),
                "`message` takes at most 5 characters, and has 8",
            ),
        ] {
            assert_eq!(with(key, value), [said]);
        }
        let good = json!({
            "message": "hi", "count": 1.0, "city": "Rome", "tags": ["a"], "tail": null,
            "filter": {"name": "n"}, "deep": true,
        });
        assert_eq!(problems(good, &schema()), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_server() {
        for schema in [
            json!({}),
            json!({"properties": {"a": true}}),
            json!({"properties": {"a": {"type": "file"}}}),
            json!({"properties": {"a": {"$ref": "https://example.org/a"}}}),
            json!({"properties": {"a": {"$ref": "#/properties/a"}}}),
            json!({"properties": {"a": {"anyOf": [true, {"type": "number"}]}}}),
            json!({"properties": {"a": {"pattern": "^b"}}}),
            json!({"allOf": [{"properties": {"a": {}}}], "properties": {"b": {}}}),
            json!({"properties": {}, "additionalProperties": {"type": "string"}}),
        ] {
            assert_eq!(
                problems(json!({"a": "x"}), &schema),
                Vec::<String>::new(),
                "{schema}"
            );
        }
    }

    #[test]
    fn a_schema_that_multiplies_is_left_to_the_server() {
        for word in ["allOf", "anyOf"] {
            let eight = vec![json!({"$ref": "#/$defs/c"}); 8];
            let schema = json!({"$defs": {"c": {word: eight}},
                                "properties": {"a": {"$ref": "#/$defs/c"}}});
            assert_eq!(problems(json!({"a": 1}), &schema), Vec::<String>::new());
        }
    }

    /// A full validator must agree with whatever is refused here, but for unknown keys.
    #[test]
    fn what_is_refused_is_wrong() {
        let mut schema = schema();
        schema["additionalProperties"] = json!(false);
        schema["$defs"]["Filter"]["additionalProperties"] = json!(false);
        let validator = jsonschema::validator_for(&schema).unwrap();
        let values = [
            json!(null),
            json!(true),
            json!(0),
            json!(1),
            json!(1.0),
            json!(1.5),
            json!("Rome"),
            json!("x"),
            json!([]),
            json!(["a"]),
            json!([1]),
            json!({}),
            json!({"name": "n"}),
            json!({"name": 1}),
            json!({"name": "n", "more": 1}),
        ];
        let keys = [
            "message", "count", "city", "tags", "tail", "filter", "deep", "else",
        ];
        for key in keys {
            for value in &values {
                let mut arguments = json!({"message": "hi"});
                arguments[key] = value.clone();
                let found = problems(arguments.clone(), &schema);
                assert_eq!(
                    found.is_empty(),
                    validator.is_valid(&arguments),
                    "{arguments}: {found:?}"
                );
            }
        }
    }
}
