//! TOML with spans.

use std::sync::Arc;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{MAX_DEPTH, Member, Node, Value};
use crate::{
    problem::Problem,
    source::{Source, Span},
};

pub(super) fn parse(source: &Arc<Source>) -> Result<Node, Box<Problem>> {
    let table = DeTable::parse(source.text()).map_err(|error| {
        let range = error.span().unwrap_or(0..0);
        // The parser's words name tokens of the grammar, never values of the file.
        let message = error.message().lines().next().unwrap_or("invalid");
        Box::new(
            Problem::error("syntax", format!("not valid TOML: {message}"))
                .at(Span::new(source, range))
                .label("here")
                .help("texts stand in quotes, tables are written `[mcpServers.name]`"),
        )
    })?;
    let range = table.span();
    convert_table(table.into_inner(), range, 0).ok_or_else(|| too_deep(source))
}

fn too_deep(source: &Arc<Source>) -> Box<Problem> {
    Box::new(
        Problem::error("syntax", "not valid: values are nested too deeply")
            .at(Span::new(source, 0..0))
            .help("flatten them"),
    )
}

fn convert_table(table: DeTable<'_>, range: std::ops::Range<usize>, depth: usize) -> Option<Node> {
    let mut members = Vec::with_capacity(table.len());
    for (key, value) in table {
        let key_range = key.span();
        members.push(Member {
            key: key.into_inner().into_owned(),
            key_range,
            value: convert(value, depth + 1)?,
        });
    }
    Some(Node::new(range, Value::Object(members)))
}

fn convert(value: Spanned<DeValue<'_>>, depth: usize) -> Option<Node> {
    if depth > MAX_DEPTH {
        return None;
    }
    let range = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Float(f64::INFINITY),
        },
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::INFINITY)),
        DeValue::Datetime(date) => Value::String(date.to_string()),
        DeValue::Array(items) => {
            let mut nodes = Vec::with_capacity(items.len());
            for item in items {
                nodes.push(convert(item, depth + 1)?);
            }
            Value::Array(nodes)
        }
        DeValue::Table(table) => return convert_table(table, range, depth),
    };
    Some(Node::new(range, value))
}
