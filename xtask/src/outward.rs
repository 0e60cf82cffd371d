//! `cargo xtask book-links`: a preprocessor of mdbook.
//!
//! In the repository a link of `docs/` leads to a source file by its path. The rendered book has no
//! sources beside it: there the same link leads to the file in the repository on the web.

use std::{io, path::Path};

use serde_json::Value;

use crate::{
    Outcome,
    links::{inline, is_foreign, local},
    tools::repository,
};

/// Speaks with mdbook: `[context, book]` comes in, the book goes out.
pub(crate) fn run(args: &[String]) -> Outcome {
    if args.first().is_some_and(|arg| arg == "supports") {
        return Ok(());
    }
    let read: (Value, Value) = serde_json::from_reader(io::stdin().lock())
        .map_err(|error| format!("this is what mdbook starts, with a book as input: {error}"))?;
    let (_, mut book) = read;
    rewrite(&mut book, &repository()?);
    serde_json::to_writer(io::stdout().lock(), &book).map_err(|error| error.to_string())
}

/// Rewrites each chapter, at whatever depth of the book.
fn rewrite(value: &mut Value, repository: &str) {
    match value {
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| rewrite(value, repository)),
        Value::Object(fields) => {
            let path = fields.get("path").and_then(Value::as_str);
            let text = fields.get("content").and_then(Value::as_str);
            if let (Some(path), Some(text)) = (path, text) {
                let text = rewritten(&Path::new("docs").join(path), text, repository);
                fields.insert("content".to_owned(), Value::String(text));
            }
            fields
                .values_mut()
                .for_each(|value| rewrite(value, repository));
        }
        _ => {}
    }
}

/// The text of a page of `docs/` with the links out of `docs/` made absolute.
fn rewritten(page: &Path, text: &str, repository: &str) -> String {
    let mut rewritten = text.to_owned();
    // From the end, so that what is still to come stays where it is.
    for range in inline(text).into_iter().rev() {
        let target = &text[range.clone()];
        if is_foreign(target) {
            continue;
        }
        if let Some((path, heading)) = local(repository, page, target)
            && !path.starts_with("docs")
        {
            let heading = heading.map(|heading| format!("#{heading}"));
            let heading = heading.unwrap_or_default();
            let url = format!("{repository}/blob/main/{}{heading}", path.display());
            rewritten.replace_range(range, &url);
        }
    }
    rewritten
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn links_out_of_the_book_become_absolute_and_no_others() {
        let chapter = |text: &str| json!({"path": "t/a.md", "content": text, "sub_items": []});
        let inner = chapter("[s](../../src/b.rs#c) [p](../d.md) [w](https://e) [h](#f)");
        let mut outer = chapter("[x](../../LICENSE) and [y](../../LICENSE)");
        outer["sub_items"] = json!([{"Chapter": inner}]);
        let mut book = json!({"items": [{"Chapter": outer}, "Separator"]});
        rewrite(&mut book, "https://r");
        let outer = &book["items"][0]["Chapter"];
        assert_eq!(
            outer["content"],
            "[x](https://r/blob/main/LICENSE) and [y](https://r/blob/main/LICENSE)"
        );
        assert_eq!(
            outer["sub_items"][0]["Chapter"]["content"],
            "[s](https://r/blob/main/src/b.rs#c) [p](../d.md) [w](https://e) [h](#f)"
        );
    }
}
