//! The content of an answer: for people, as Markdown, as bytes, and saved to files.

mod reading;
mod save;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

pub(crate) use reading::value_of;
pub(crate) use save::Files;

use super::{
    out,
    text::{Answer, Text},
};
use crate::{exit::Failure, text};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people: text as it is, anything else by what it is
    #[default]
    Text,
    /// The whole answer as JSON, as --json does
    Json,
    /// The content alone, byte for byte, to be piped on
    Raw,
    /// Markdown: links, images and structured content marked as such
    Markdown,
}

/// What stands in one block of an answer.
#[derive(Debug, PartialEq)]
enum Block<'a> {
    Text(&'a str),
    /// An image, audio or a blob.
    Data {
        kind: &'static str,
        mime_type: &'a str,
        name: &'a str,
        base64: &'a str,
    },
    Link {
        uri: &'a str,
        name: &'a str,
    },
    Other(&'a Value),
}

/// Reads a content block, or one of the contents of a resource.
fn read(block: &Value) -> Block<'_> {
    let text_of = |value: &'_ Value, name: &str| value[name].as_str().map(str::len).is_some();
    let field = |name: &str| block[name].as_str().unwrap_or_default();
    match block["type"].as_str() {
        Some("text") if text_of(block, "text") => Block::Text(field("text")),
        Some(kind @ ("image" | "audio")) if text_of(block, "data") => Block::Data {
            kind: if kind == "image" { "image" } else { "audio" },
            mime_type: field("mimeType"),
            name: "",
            base64: field("data"),
        },
        Some("resource_link") if text_of(block, "uri") => Block::Link {
            uri: field("uri"),
            name: field("name"),
        },
        Some("resource") => read(&block["resource"]),
        None if text_of(block, "text") => Block::Text(field("text")),
        None if text_of(block, "blob") => Block::Data {
            kind: "resource",
            mime_type: field("mimeType"),
            name: field("uri"),
            base64: field("blob"),
        },
        None if text_of(block, "uri") => Block::Link {
            uri: field("uri"),
            name: field("name"),
        },
        _ => Block::Other(block),
    }
}

/// Prints the blocks of an answer, and its structured content where there is nothing else.
/// `files` saves what is no text.
pub(crate) fn print(
    blocks: &[Value],
    structured: Option<&Value>,
    form: Form,
    mut files: Option<Files>,
) -> Result<(), Failure> {
    let blocks: Vec<Block<'_>> = blocks.iter().map(read).collect();
    let mut saved = |block: &Block<'_>| -> Result<Option<Text>, Failure> {
        match (block, &mut files) {
            (
                Block::Data {
                    mime_type, base64, ..
                },
                Some(files),
            ) => match decoded(base64) {
                Some(data) => files.save(mime_type, &data).map(Some),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    };
    if form == Form::Raw {
        for block in &blocks {
            if saved(block)?.is_none() {
                print_raw(block)?;
            }
        }
        return match structured {
            Some(structured) if blocks.is_empty() => out::answer(structured).map(drop),
            _ => Ok(()),
        };
    }
    let mut shown = Vec::new();
    for block in &blocks {
        let place = saved(block)?;
        shown.push(match form {
            Form::Markdown => markdown(block, place),
            _ => for_people(block, place),
        });
    }
    match structured {
        Some(structured) if form == Form::Markdown => {
            let json = format!("{structured:#}");
            shown.push(text!("```json\n{}\n```", Answer(&json)));
        }
        Some(structured) if shown.is_empty() => {
            shown.push(text!("{}", Answer(&format!("{structured:#}"))));
        }
        _ => {}
    }
    let mut text = Text::join(shown, "\n");
    if !text.as_str().ends_with('\n') {
        text.push(&text!("\n"));
    }
    out::paged(&text)?;
    Ok(())
}

/// Saves what is no text, for a form that shows the answer as it came.
pub(crate) fn save_all(blocks: &[Value], files: Option<Files>) -> Result<(), Failure> {
    let Some(mut files) = files else {
        return Ok(());
    };
    for block in blocks.iter().map(read) {
        if let Block::Data {
            mime_type, base64, ..
        } = block
            && let Some(data) = decoded(base64)
        {
            let place = files.save(mime_type, &data)?;
            out::tell(&text!("saved as {}\n", place));
        }
    }
    Ok(())
}

/// One block on its own, as text or as Markdown.
pub(crate) fn block(block: &Value, form: Form) -> Text {
    match form {
        Form::Markdown => markdown(&read(block), None),
        _ => for_people(&read(block), None),
    }
}

fn for_people(block: &Block<'_>, saved: Option<Text>) -> Text {
    match block {
        Block::Text(text) => text!("{}", Answer(text)),
        Block::Data {
            kind,
            mime_type,
            name,
            base64,
        } => {
            let mut text = text!("[{}", *kind);
            for said in [name, mime_type]
                .into_iter()
                .filter(|said| !said.is_empty())
            {
                text.push(&text!(", {}", *said));
            }
            text.push(&match (decoded(base64), saved) {
                (_, Some(place)) => text!(", saved as {}]", place),
                (Some(data), None) => text!(", {}]", bytes(data.len())),
                (None, None) => text!(", not valid base64]"),
            });
            text
        }
        Block::Link { uri, name: "" } => text!("[resource {}]", *uri),
        Block::Link { uri, name } => text!("[resource {}: {}]", *name, *uri),
        Block::Other(value) => text!("{}", Answer(&value.to_string())),
    }
}

fn markdown(block: &Block<'_>, saved: Option<Text>) -> Text {
    match (block, saved) {
        (
            Block::Data {
                kind: "image",
                mime_type,
                ..
            },
            Some(place),
        ) => {
            text!("![{}]({})", *mime_type, place)
        }
        (Block::Data { mime_type, .. }, Some(place)) => text!("[{}]({})", *mime_type, place),
        (Block::Link { uri, name: "" }, _) => text!("<{}>", *uri),
        (Block::Link { uri, name }, _) => text!("[{}]({})", *name, *uri),
        (Block::Other(value), _) => text!("```json\n{}\n```", Answer(&format!("{value:#}"))),
        (block, saved) => for_people(block, saved),
    }
}

/// The bytes of a block and nothing else. To a terminal only text, cleaned.
fn print_raw(block: &Block<'_>) -> Result<(), Failure> {
    match block {
        Block::Text(text) if out::is_terminal() => out::print(&text!("{}", Answer(text))).map(drop),
        Block::Text(text) => out::raw_text(text),
        Block::Data { .. } if out::is_terminal() => Err(Failure::usage(text!(
            "the answer is not text: send it to a file with `> FILE`, or save it with `--save DIR`"
        ))),
        Block::Data { base64, .. } => match decoded(base64) {
            Some(data) => out::raw_bytes(&data),
            None => Err(Failure::usage(text!("the answer is not valid base64"))),
        },
        Block::Link { uri, .. } => out::raw_text(uri),
        Block::Other(value) => out::raw_text(&value.to_string()),
    }
}

/// Some servers leave out the padding, or break lines.
fn decoded(base64: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    if let Ok(data) = engine.decode(base64) {
        return Some(data);
    }
    let unbroken: String = base64
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    engine.decode(unbroken).ok()
}

/// `3 bytes`, `1.2 KB`, `3.4 MB`
pub(crate) fn bytes(count: usize) -> String {
    match count {
        1 => "1 byte".to_owned(),
        0..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{}.{} KB", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{} MB", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn people(block: &Value) -> String {
        super::block(block, Form::Text).as_str().to_owned()
    }

    #[test]
    fn blocks_for_people() {
        for (block, text) in [
            (json!({"type": "text", "text": "hi"}), "hi"),
            (
                json!({"type": "image", "mimeType": "image/png", "data": "AAAA"}),
                "[image, image/png, 3 bytes]",
            ),
            (
                json!({"type": "audio", "mimeType": "audio/wav", "data": "no base64!"}),
                "[audio, audio/wav, not valid base64]",
            ),
            (
                json!({"type": "resource_link", "uri": "file:///x", "name": "x"}),
                "[resource x: file:///x]",
            ),
            (
                json!({"type": "resource", "resource": {"uri": "a", "text": "t"}}),
                "t",
            ),
            (
                json!({"type": "resource", "resource": {"uri": "a", "blob": "AAA"}}),
                "[resource, a, 2 bytes]",
            ),
            (
                json!({"uri": "a", "text": "of a resource"}),
                "of a resource",
            ),
            (json!({"type": "hologram"}), r#"{"type":"hologram"}"#),
            (json!(7), "7"),
        ] {
            assert_eq!(people(&block), text);
        }
    }

    #[test]
    fn blocks_as_markdown() {
        let shown = |block: &Value, saved: Option<&str>| {
            let saved = saved.map(|place| text!("{}", place));
            markdown(&read(block), saved).as_str().to_owned()
        };
        let image = json!({"type": "image", "mimeType": "image/png", "data": "AAAA"});
        assert_eq!(shown(&image, Some("d/a.png")), "![image/png](d/a.png)");
        assert_eq!(shown(&image, None), "[image, image/png, 3 bytes]");
        let link = json!({"type": "resource_link", "uri": "file:///x", "name": "x"});
        assert_eq!(shown(&link, None), "[x](file:///x)");
        let other = json!({"type": "hologram"});
        assert_eq!(
            shown(&other, None),
            "```json\n{\n  \"type\": \"hologram\"\n}\n```"
        );
    }

    #[test]
    fn base64_is_read_as_servers_write_it() {
        assert_eq!(decoded("aGk="), Some(b"hi".to_vec()));
        assert_eq!(decoded("aGk"), Some(b"hi".to_vec()));
        assert_eq!(decoded("aG\nk="), Some(b"hi".to_vec()));
        assert_eq!(decoded("!"), None);
    }

    #[test]
    fn sizes_for_people() {
        for (count, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1_234, "1.2 KB"),
            (2_050_000, "2.0 MB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
