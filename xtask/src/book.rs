//! `cargo xtask ci book`: the documents hold together.
//!
//! Each relative link leads to a file that is there, and to a heading that it has; each include of
//! the book is there; each page of `docs/` is in its table of contents; and a source file that a
//! document names in backticks is there. Where `mdbook` is installed (in CI it always is), the book
//! is rendered, and the links of its pages are checked as well.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Outcome,
    documents::{self, Document},
    links::{includes, inline, local},
    rendered::dead_links,
    tools::{self, find, find_or_install, is_ci, repository, root},
};

const SUMMARY: &str = "docs/SUMMARY.md";

/// Where `docs/book.toml` says that the book goes.
const RENDERED: &str = "target/book";
/// Its server and its search are not needed here.
const MDBOOK: (&str, &[&str]) = ("mdbook@0.5.4", &["--no-default-features"]);

/// Checks all documents, then the book that is made of them.
pub(crate) fn run() -> Outcome {
    let documents = documents::all()?;
    let repository = repository()?;
    let mut problems = Vec::new();
    for document in &documents {
        let shown = document.path.display();
        for target in links(&document.text) {
            if let Some(problem) = broken(&documents, &repository, document, target) {
                problems.push(format!("{shown}: {target}: {problem}"));
            }
        }
    }
    problems.extend(missing_pages(&documents));
    problems.extend(missing_sources(&documents, &documents::rust_files()?));
    let mdbook = match is_ci() {
        true => Some(find_or_install(MDBOOK.0, MDBOOK.1)?),
        false => find("mdbook"),
    };
    match mdbook {
        Some(mdbook) => {
            let mut build = Command::new(mdbook);
            tools::run(build.current_dir(root()).args(["build", "docs"]))?;
            problems.extend(dead_links(&root().join(RENDERED), &repository)?);
        }
        None => println!("book: not rendered, because mdbook is not installed"),
    }
    for problem in &problems {
        println!("book: {problem}");
    }
    if !problems.is_empty() {
        return Err(format!("{} problems in the documents", problems.len()));
    }
    println!(
        "book: {} documents, every link leads somewhere",
        documents.len()
    );
    Ok(())
}

/// Rust files that documents name and that are not there. Upper case stands for a name to choose.
fn missing_sources(documents: &[Document], files: &[PathBuf]) -> Vec<String> {
    let is_there = |name: &str| files.iter().any(|file| file.ends_with(name));
    let mut missing = Vec::new();
    for document in documents {
        for name in document.text.split('`').skip(1).step_by(2) {
            let is_path =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
            if name.ends_with(".rs") && name.chars().all(is_path) && !is_there(name) {
                missing.push(format!("{}: there is no {name}", document.path.display()));
            }
        }
    }
    missing
}

/// What the inline links, images and includes of a document lead to.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let inline = inline(text).into_iter().map(|range| &text[range]);
    inline.chain(includes(text))
}

/// What is wrong with a link, if anything is.
fn broken(
    documents: &[Document],
    repository: &str,
    from: &Document,
    target: &str,
) -> Option<String> {
    let (path, heading) = local(repository, &from.path, target)?;
    if !root().join(&path).exists() {
        return Some("there is no such file".to_owned());
    }
    let heading = heading?;
    let document = documents.iter().find(|document| document.path == path)?;
    (!headings(&document.text).contains(heading)).then(|| "there is no such heading".to_owned())
}

/// The anchors of the headings, as GitHub and mdbook make them.
fn headings(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if !in_code && line.starts_with('#') {
            found.insert(anchor(line.trim_start_matches('#').trim()));
        }
    }
    found
}

fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.collect()
}

/// Pages that the table of contents does not have.
fn missing_pages(documents: &[Document]) -> Vec<String> {
    let Some(summary) = documents.iter().find(|d| d.path == Path::new(SUMMARY)) else {
        return vec![format!("{SUMMARY} is missing")];
    };
    let listed: BTreeSet<_> = links(&summary.text)
        .map(|target| Path::new("docs").join(target))
        .collect();
    let pages = documents
        .iter()
        .filter(|d| d.path.starts_with("docs") && d.path != Path::new(SUMMARY));
    pages
        .filter(|page| !listed.contains(&page.path))
        .map(|page| format!("{} is not in {SUMMARY}", page.path.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str, text: &str) -> Document {
        Document {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn anchors_are_those_of_the_renderers() {
        assert_eq!(
            anchor("`health`, `limits`, `shutdown`"),
            "health-limits-shutdown"
        );
        assert_eq!(anchor("Who may use it"), "who-may-use-it");
    }

    #[test]
    fn a_link_to_nothing_is_a_problem() {
        let documents = [document("README.md", "# One\n[x](#one) [y](#two)\n")];
        let broken = |target| broken(&documents, "https://r", &documents[0], target);
        assert_eq!(broken("#one"), None);
        assert!(broken("#two").is_some());
        assert!(broken("no-such-file.md").is_some());
        assert_eq!(broken("https://example.com"), None);
        assert_eq!(broken("https://r/blob/main/README.md#one"), None);
        assert!(broken("https://r/blob/main/no-such-file.md").is_some());
    }

    #[test]
    fn a_source_that_is_named_is_there() {
        let files = ["crates/a/src/b.rs".into()];
        let missing = |text| missing_sources(&[document("docs/a.md", text)], &files);
        assert!(missing("see `b.rs`, `src/b.rs`, `dialects/NAME.rs`, `c.toml`").is_empty());
        assert_eq!(
            missing("`b.rs` and `c.rs`"),
            ["docs/a.md: there is no c.rs"]
        );
    }

    #[test]
    fn a_page_that_is_not_listed_is_a_problem() {
        let documents = [
            document(SUMMARY, "- [A](a.md)\n"),
            document("docs/a.md", ""),
            document("docs/b.md", ""),
        ];
        assert_eq!(
            missing_pages(&documents),
            ["docs/b.md is not in docs/SUMMARY.md"]
        );
    }
}
