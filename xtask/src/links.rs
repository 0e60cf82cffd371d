//! The links of a Markdown document: where they are, and what they lead to in the repository.

use std::{
    ops::Range,
    path::{Component, Path, PathBuf},
};

/// Where the targets of the inline links and images stand in a text, code left out.
pub(crate) fn inline(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut in_code = false;
    let mut start_of_line = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            for (at, opening) in line.match_indices("](") {
                let start = at + opening.len();
                if let Some(length) = line[start..].find(')') {
                    let start = start_of_line + start;
                    found.push(start..start + length);
                }
            }
        }
        start_of_line += line.len();
    }
    found
}

/// What the includes of the book lead to; they also stand in code.
pub(crate) fn includes(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.split_once("{{#include "))
        .filter_map(|(_, rest)| rest.split(['}', ':']).next())
}

/// The file of this repository that a link of a document leads to, relative to the root, and the
/// heading; none for a link to somewhere else.
pub(crate) fn local<'a>(
    repository: &str,
    document: &Path,
    target: &'a str,
) -> Option<(PathBuf, Option<&'a str>)> {
    let (file, heading) = match target.split_once('#') {
        Some((file, heading)) => (file, Some(heading)),
        None => (target, None),
    };
    let path = match in_repository(repository, file) {
        Some(path) => path.into(),
        None if is_foreign(file) => return None,
        None if file.is_empty() => document.to_path_buf(),
        None => normal(&document.parent().unwrap_or(Path::new("")).join(file)),
    };
    Some((path, heading))
}

/// Whether a link leads out of this repository, or is none to a file.
pub(crate) fn is_foreign(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:") || target.starts_with("data:")
}

/// The path in a URL of the repository's main branch.
pub(crate) fn in_repository<'a>(repository: &str, url: &'a str) -> Option<&'a str> {
    let rest = url.strip_prefix(repository)?;
    let rest = rest
        .strip_prefix("/blob/")
        .or(rest.strip_prefix("/tree/"))?;
    rest.strip_prefix("main/")
}

/// A path without `..`.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: &str = "https://host/a/b";

    #[test]
    fn links_are_found_outside_of_code() {
        let text =
            "a [b](c.md#d) ![e](f.svg)\n```\n[no](g.md)\n{{#include ../h.rs:i}}\n```\n[é](i)";
        let found: Vec<&str> = inline(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["c.md#d", "f.svg", "i"]);
        assert_eq!(includes(text).collect::<Vec<_>>(), ["../h.rs"]);
    }

    #[test]
    fn a_link_leads_to_a_file_by_path_or_by_the_address_of_the_repository() {
        let local = |target| local(REPOSITORY, Path::new("docs/c/d.md"), target);
        assert_eq!(local("#e"), Some(("docs/c/d.md".into(), Some("e"))));
        assert_eq!(local("../e.md#f"), Some(("docs/e.md".into(), Some("f"))));
        let absolute = "https://host/a/b/tree/main/e";
        assert_eq!(local(absolute), Some(("e".into(), None)));
        assert_eq!(local("https://host/a/b"), None);
        assert_eq!(local("mailto:x@y"), None);
    }
}
