//! The documents of the repository: which there are, and their text; and its Rust files.

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

/// Where Rust files are.
const SOURCES: &[&str] = &["crates", "tests", "xtask"];

/// Every Rust file, relative to the root, build output left out.
pub(crate) fn rust_files() -> Outcome<Vec<PathBuf>> {
    let root = root();
    let mut paths = Vec::new();
    for directory in SOURCES {
        collect_rust(&root.join(directory), &mut paths)?;
    }
    let relative = |path: PathBuf| path.strip_prefix(&root).unwrap_or(&path).to_path_buf();
    let mut paths: Vec<PathBuf> = paths.into_iter().map(relative).collect();
    paths.sort();
    Ok(paths)
}

fn collect_rust(directory: &Path, paths: &mut Vec<PathBuf>) -> Outcome {
    let failed = |error| format!("{}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect_rust(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
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
