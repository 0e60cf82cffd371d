//! The links of the book as mdbook renders it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Outcome,
    links::{in_repository, is_foreign, normal},
    tools::root,
};

/// Pages that are made for another place than their own: one is served for any path that is not
/// there, the other is the frame of the table of contents.
const ELSEWHERE: &[&str] = &["404.html", "toc.html"];

/// The pages of a book, by path.
struct Book {
    directory: PathBuf,
    pages: BTreeMap<PathBuf, String>,
}

/// Every link of the pages that leads nowhere; those into the repository are looked up there.
pub(crate) fn dead_links(directory: &Path, repository: &str) -> Outcome<Vec<String>> {
    let mut pages = BTreeMap::new();
    read(directory, Path::new(""), &mut pages)?;
    let book = Book {
        directory: directory.to_path_buf(),
        pages,
    };
    let mut dead = Vec::new();
    for (page, text) in &book.pages {
        if ELSEWHERE.iter().any(|name| page == Path::new(name)) {
            continue;
        }
        for target in targets(text) {
            if !book.leads_somewhere(page, target, repository) {
                dead.push(format!("{} of the rendered book: {target}", page.display()));
            }
        }
    }
    dead.sort();
    dead.dedup();
    Ok(dead)
}

fn read(directory: &Path, under: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Outcome {
    let failed = |error| format!("{}: {error}", directory.join(under).display());
    for entry in fs::read_dir(directory.join(under)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let page = under.join(entry.file_name());
        if entry.path().is_dir() {
            read(directory, &page, pages)?;
        } else if page
            .extension()
            .is_some_and(|extension| extension == "html")
        {
            let text = fs::read_to_string(entry.path()).map_err(failed)?;
            pages.insert(page, text);
        }
    }
    Ok(())
}

/// What the links and images of a page lead to.
fn targets(page: &str) -> impl Iterator<Item = &str> {
    [" href=\"", " src=\""]
        .into_iter()
        .flat_map(move |attribute| {
            let values = page.split(attribute).skip(1);
            values.filter_map(|rest| rest.split('"').next())
        })
}

impl Book {
    fn leads_somewhere(&self, page: &Path, target: &str, repository: &str) -> bool {
        let (file, heading) = match target.split_once('#') {
            Some((file, heading)) => (file, heading),
            None => (target, ""),
        };
        if let Some(path) = in_repository(repository, file) {
            return root().join(path).exists();
        }
        if is_foreign(target) {
            return true;
        }
        let path = match file.is_empty() {
            true => page.to_path_buf(),
            false => normal(&page.parent().unwrap_or(Path::new("")).join(file)),
        };
        match self.pages.get(&path) {
            Some(text) => heading.is_empty() || text.contains(&format!("id=\"{heading}\"")),
            None => self.directory.join(path).is_file(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_page_a_heading_or_a_file_of_the_repository() {
        let page = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let book = Book {
            directory: PathBuf::from("no-such-directory"),
            pages: BTreeMap::from([
                page("a.html", "<h1 id=\"top\">"),
                page("b/c.html", "<a href=\"../a.html#top\"><img src=\"d.svg\">"),
            ]),
        };
        let from = Path::new("b/c.html");
        let text = &book.pages[from];
        assert_eq!(
            targets(text).collect::<Vec<_>>(),
            ["../a.html#top", "d.svg"]
        );
        let leads = |target| book.leads_somewhere(from, target, "https://r");
        assert!(leads("../a.html") && leads("../a.html#top") && leads("https://elsewhere"));
        assert!(leads("https://r/blob/main/Cargo.toml"));
        assert!(!leads("https://r/blob/main/no-such-file"));
        assert!(!leads("../a.html#bottom") && !leads("a.html") && !leads("d.svg"));
    }
}
