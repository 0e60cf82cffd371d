//! JSON with comments and trailing commas, and nothing looser.

use std::sync::Arc;

use jsonc_parser::{
    CollectOptions, ParseOptions, ast,
    common::Ranged,
    errors::{ParseError, ParseErrorKind},
    parse_to_ast,
};

use super::{Member, Node, Value};
use crate::{
    problem::Problem,
    source::{Source, Span},
};

/// Comments and trailing commas are allowed; the rest of what the parser would allow is not
/// JSON in any editor's eyes.
pub(crate) fn options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

pub(super) fn parse(source: &Arc<Source>) -> Result<Node, Box<Problem>> {
    let parsed = parse_to_ast(source.text(), &CollectOptions::default(), &options())
        .map_err(|error| Box::new(explain(source, &error)))?;
    match parsed.value {
        Some(value) => Ok(convert(value)),
        None => Err(Box::new(
            Problem::error("empty", "the file is empty")
                .at(Span::new(source, 0..0))
                .help("an empty configuration is written `{ \"mcpServers\": {} }`"),
        )),
    }
}

fn convert(value: ast::Value<'_>) -> Node {
    let range = value.range();
    let range = range.start..range.end;
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(lit) => Value::Bool(lit.value),
        ast::Value::StringLit(lit) => Value::String(lit.value.into_owned()),
        ast::Value::NumberLit(lit) => match lit.value.parse::<i64>() {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Float(lit.value.parse().unwrap_or(f64::INFINITY)),
        },
        ast::Value::Array(array) => Value::Array(array.elements.into_iter().map(convert).collect()),
        ast::Value::Object(object) => Value::Object(
            object
                .properties
                .into_iter()
                .map(|property| {
                    let key_range = match &property.name {
                        ast::ObjectPropName::String(lit) => lit.range,
                        ast::ObjectPropName::Word(lit) => lit.range,
                    };
                    Member {
                        key: property.name.into_string(),
                        key_range: key_range.start..key_range.end,
                        value: convert(property.value),
                    }
                })
                .collect(),
        ),
    };
    Node::new(range, value)
}

/// What the parser found, in words that say what to do.
fn explain(source: &Arc<Source>, error: &ParseError) -> Problem {
    use ParseErrorKind as Kind;
    let range = error.range();
    let mut start = range.start;
    let mut end = range.end;
    let (message, help) = match error.kind() {
        Kind::ExpectedComma => {
            // The comma is missing behind the value before, not in front of the next one.
            start = source.text()[..start].trim_end().len();
            end = start;
            ("a comma is missing here", "put `,` after this value")
        }
        Kind::ExpectedColonAfterObjectKey => (
            "a colon is missing after this key",
            "write `\"key\": value`",
        ),
        Kind::ExpectedObjectValue => (
            "a value is missing after the colon",
            "write `\"key\": value`",
        ),
        Kind::ExpectedStringObjectProperty | Kind::UnexpectedWord => (
            "this word is not in quotes",
            "keys and texts stand in double quotes",
        ),
        Kind::SingleQuotedStringsNotAllowed => (
            "single quotes are not JSON",
            "use double quotes: `\"text\"`",
        ),
        Kind::String(_) => (
            "this text is not a valid JSON string",
            "close it with `\"` on the same line, and write a backslash as `\\\\`",
        ),
        Kind::UnterminatedObject => ("this object is never closed", "add the missing `}`"),
        Kind::UnterminatedArray => ("this list is never closed", "add the missing `]`"),
        Kind::UnterminatedCommentBlock => ("this comment is never closed", "add the missing `*/`"),
        Kind::MultipleRootJsonValues => (
            "there is more text after the end of the document",
            "remove it, or check that no `}` before it is one too many",
        ),
        Kind::UnexpectedCloseBrace => ("this `}` closes nothing", "remove it"),
        Kind::UnexpectedCloseBracket => ("this `]` closes nothing", "remove it"),
        Kind::NestingDepthExceeded => ("values are nested too deeply", "flatten them"),
        Kind::UnexpectedComma => ("this comma is one too many", "remove it"),
        Kind::UnexpectedColon => ("a colon cannot stand here", "remove it"),
        Kind::HexadecimalNumbersNotAllowed
        | Kind::NonFiniteNumbersNotAllowed
        | Kind::UnaryPlusNumbersNotAllowed
        | Kind::BareDecimalPointNumbersNotAllowed
        | Kind::ExpectedDigit
        | Kind::ExpectedDigitFollowingNegativeSign
        | Kind::ExpectedPlusMinusOrDigitInNumberLiteral => (
            "this is not a JSON number",
            "write it in plain decimal digits",
        ),
        _ => ("this cannot stand here", "check the punctuation around it"),
    };
    if end < start {
        end = start;
    }
    Problem::error("syntax", format!("not valid JSON: {message}"))
        .at(Span::new(source, start..end))
        .label(message)
        .help(help)
}
