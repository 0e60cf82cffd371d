//! The documents of the repository: which there are, and their text.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Outcome, tools::root};

/// A document, its path relative to the root.
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Every Markdown file: at the root, under `docs/`, and the README of each crate.
pub(crate) fn all() -> Outcome<Vec<Document>> {
    let root = root();
    let mut paths = Vec::new();
    collect(&root, &mut paths, 0)?;
    collect(&root.join("docs"), &mut paths, usize::MAX)?;
    collect(&root.join("crates"), &mut paths, 1)?;
    paths.sort();
    let read = |path: PathBuf| {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let path = path.strip_prefix(&root).unwrap_or(&path).to_path_buf();
        Ok(Document { path, text })
    };
    paths.into_iter().map(read).collect()
}

/// The Markdown files of a directory, and of those so many levels below it.
fn collect(directory: &Path, paths: &mut Vec<PathBuf>, levels: usize) -> Outcome {
    let failed = |error| format!("{}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            if levels > 0 {
                collect(&path, paths, levels - 1)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    Ok(())
}
