//! YAML with spans, built from parser events: equal keys are kept, aliases and merged keys (`<<`)
//! are copied under a bound, so that a small file cannot grow without end.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use granit_parser::{Event, Parser, ScalarStyle, StrInput};

use super::{MAX_DEPTH, Member, Node, Value};
use crate::{
    problem::Problem,
    source::{Source, Span},
};

/// How many nodes a document may have once its aliases are copied.
const MAX_NODES: usize = 200_000;

pub(super) fn parse(source: &Arc<Source>) -> Result<Node, Box<Problem>> {
    let mut builder = Builder {
        source,
        parser: Parser::new_from_str(source.text()),
        anchors: HashMap::new(),
        nodes: 0,
        depth: 0,
        at: 0,
    };
    let mut root = None;
    loop {
        let (event, range) = builder.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            event if root.is_none() => root = Some(builder.node(event, range)?),
            _ => {
                return Err(builder.fail("a second document cannot stand in the same file", range));
            }
        }
    }
    root.ok_or_else(|| {
        Box::new(
            Problem::error("empty", "the file is empty")
                .at(Span::new(source, 0..0))
                .help("an empty configuration is written `mcpServers: {}`"),
        )
    })
}

struct Builder<'s> {
    source: &'s Arc<Source>,
    parser: Parser<'s, StrInput<'s>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    depth: usize,
    at: usize,
}

type Found<'s> = (Event<'s>, std::ops::Range<usize>);

impl<'s> Builder<'s> {
    fn fail(&self, message: &str, range: std::ops::Range<usize>) -> Box<Problem> {
        Box::new(
            Problem::error("syntax", format!("not valid YAML: {message}"))
                .at(Span::new(self.source, range))
                .label("here")
                .help("check the indentation, and put texts with `:` or `#` in quotes"),
        )
    }

    /// What most often keeps a text from being read.
    fn tab(&self) -> Box<Problem> {
        let range = tab_in_indentation(self.source.text()).unwrap_or_default();
        Box::new(
            Problem::error("syntax", "not valid YAML: a tab stands in the indentation")
                .at(Span::new(self.source, range))
                .label("a tab")
                .help("YAML is indented with spaces only: replace each tab by two spaces"),
        )
    }

    /// The next event that is about content.
    fn next(&mut self) -> Result<Found<'s>, Box<Problem>> {
        loop {
            match self.parser.next_event() {
                None => return Ok((Event::StreamEnd, self.at..self.at)),
                Some(Err(_)) if tab_in_indentation(self.source.text()).is_some() => {
                    return Err(self.tab());
                }
                Some(Err(error)) => {
                    let at = error.marker().byte_offset().unwrap_or(self.at);
                    return Err(self.fail("the text cannot be read on from here", at..at));
                }
                Some(Ok((event, span))) => {
                    let range = span.byte_range().unwrap_or(self.at..self.at);
                    self.at = range.end.max(self.at);
                    match event {
                        Event::Comment(..) | Event::Anchor(..) => {}
                        event => return Ok((event, range)),
                    }
                }
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'s>,
        range: std::ops::Range<usize>,
    ) -> Result<Node, Box<Problem>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.fail("the document is too large", range));
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.fail("values are nested too deeply", range));
        }
        self.depth += 1;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let value = if style == ScalarStyle::Plain && !is_text {
                    plain(&text)
                } else {
                    Value::String(text.into_owned())
                };
                (Node::new(range, value), anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let start = range.start;
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, range) => break range.end,
                        (event, range) => items.push(self.node(event, range)?),
                    }
                };
                (Node::new(start..end, Value::Array(items)), anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                let start = range.start;
                let mut members = Vec::new();
                let mut merged = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::MappingEnd, range) => break range.end,
                        (Event::StreamEnd, range) => {
                            return Err(self.fail("the mapping never ends", range));
                        }
                        (event, range) => {
                            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
                            let key = self.node(event, range)?;
                            let (event, range) = self.next()?;
                            let value = self.node(event, range)?;
                            if is_merge {
                                merged.push(value);
                                continue;
                            }
                            let name = match &key.value {
                                Value::String(text) => text.clone(),
                                Value::Bool(value) => value.to_string(),
                                Value::Integer(value) => value.to_string(),
                                Value::Float(value) => value.to_string(),
                                Value::Null => "null".to_owned(),
                                Value::Array(_) | Value::Object(_) => {
                                    return Err(self.fail("a key must be a text", key.range));
                                }
                            };
                            members.push(Member {
                                key: name,
                                key_range: key.range,
                                value,
                            });
                        }
                    }
                };
                if !merged.is_empty() {
                    let mut known: HashSet<String> =
                        members.iter().map(|member| member.key.clone()).collect();
                    for value in &merged {
                        self.merge(&mut members, &mut known, value)?;
                    }
                }
                (Node::new(start..end, Value::Object(members)), anchor)
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(self.fail("an alias cannot stand inside its own anchor", range));
                };
                self.nodes += count(&node);
                if self.nodes > MAX_NODES {
                    return Err(self.fail("the document is too large", range));
                }
                (node, 0)
            }
            _ => return Err(self.fail("this cannot stand here", range)),
        };
        self.depth -= 1;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Adds the members of a merged mapping, or of a list of them, that are not there yet: what
    /// is written out wins, then what is merged first (yaml.org/type/merge.html).
    fn merge(
        &mut self,
        members: &mut Vec<Member>,
        known: &mut HashSet<String>,
        value: &Node,
    ) -> Result<(), Box<Problem>> {
        match &value.value {
            Value::Object(others) => {
                for other in others {
                    if !known.insert(other.key.clone()) {
                        continue;
                    }
                    self.nodes += count(&other.value);
                    if self.nodes > MAX_NODES {
                        return Err(self.fail("the document is too large", value.range.clone()));
                    }
                    members.push(other.clone());
                }
                Ok(())
            }
            Value::Array(items) if items.iter().all(Node::is_object) => items
                .iter()
                .try_for_each(|item| self.merge(members, known, item)),
            _ => Err(self.fail(
                "`<<` takes a mapping, or a list of them",
                value.range.clone(),
            )),
        }
    }
}

/// The first tab in the white space at the beginning of a line.
fn tab_in_indentation(text: &str) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        let is_blank = line.trim().is_empty();
        if let Some(tab) = line[..indentation].find('\t').filter(|_| !is_blank) {
            return Some(start + tab..start + tab + 1);
        }
        start += line.len();
    }
    None
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(members) => {
            1 + members
                .iter()
                .map(|member| count(&member.value))
                .sum::<usize>()
        }
        _ => 1,
    }
}

/// A plain scalar by the YAML 1.2 core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if numeric {
        if let Ok(number) = text.parse::<i64>() {
            return Value::Integer(number);
        }
        if let Ok(number) = text.parse::<f64>()
            && text.contains(|c: char| c.is_ascii_digit())
        {
            return Value::Float(number);
        }
    }
    Value::String(text.to_owned())
}
