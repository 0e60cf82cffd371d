//! The sources of the library crates as syntax trees, without their tests.

use std::{collections::BTreeMap, fs, path::Path};

use syn::{Attribute, File, Item, UseTree};

use crate::{Outcome, tools::root};

/// Where a file stands in its crate: `["supervise", "machine"]`; the root is empty.
pub(crate) type Module = Vec<String>;

/// One crate.
pub(crate) struct Sources {
    pub(crate) name: String,
    pub(crate) files: BTreeMap<Module, File>,
}

/// Every crate under `crates/`.
pub(crate) fn crates() -> Outcome<Vec<Sources>> {
    let mut crates = Vec::new();
    for directory in entries(&root().join("crates"))? {
        let name = directory.file_name().unwrap_or_default();
        let mut sources = Sources {
            name: name.to_string_lossy().into_owned(),
            files: BTreeMap::new(),
        };
        sources.read(&directory.join("src"), &[])?;
        crates.push(sources);
    }
    Ok(crates)
}

impl Sources {
    fn read(&mut self, directory: &Path, above: &[String]) -> Outcome {
        for path in entries(directory)? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let mut module = above.to_vec();
            match &*stem {
                "lib" | "main" if above.is_empty() => {}
                "mod" => {}
                "tests" | "bin" => continue,
                _ => module.push(stem.into_owned()),
            }
            if path.is_dir() {
                self.read(&path, &module)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                let text = fs::read_to_string(&path).map_err(|error| failed(&error))?;
                self.add(module, &text).map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, module: Module, text: &str) -> syn::Result<()> {
        let mut file = syn::parse_file(text)?;
        file.items = file.items.into_iter().flat_map(items_of).collect();
        file.items.retain(|item| !is_test(item));
        self.files.insert(module, file);
        Ok(())
    }
}

fn entries(directory: &Path) -> Outcome<Vec<std::path::PathBuf>> {
    let failed = |error| format!("{}: {error}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// An item; for a call of a macro that takes items, these: such a macro adds to them.
fn items_of(item: Item) -> Vec<Item> {
    if let Item::Macro(call) = &item
        && call.ident.is_none()
        && let Ok(file) = syn::parse2::<File>(call.mac.tokens.clone())
    {
        return file.items;
    }
    vec![item]
}

fn is_test(item: &Item) -> bool {
    let attributes: &[Attribute] = match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|condition| condition == "test")
    })
}

/// The paths that a `use` brings in, each with the name that it has here.
pub(crate) fn leaves(tree: &UseTree) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    walk(tree, &[], &mut found);
    found
}

fn walk(tree: &UseTree, above: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let with = |name: String| {
        let mut path = above.to_vec();
        path.push(name);
        path
    };
    match tree {
        UseTree::Path(path) => walk(&path.tree, &with(path.ident.to_string()), found),
        UseTree::Name(name) if name.ident == "self" => {
            found.push((above.last().cloned().unwrap_or_default(), above.to_vec()));
        }
        UseTree::Name(name) => {
            found.push((name.ident.to_string(), with(name.ident.to_string())));
        }
        UseTree::Rename(rename) => {
            found.push((rename.rename.to_string(), with(rename.ident.to_string())));
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                walk(tree, above, found);
            }
        }
        UseTree::Glob(_) => found.push(("*".to_owned(), above.to_vec())),
        #[allow(unreachable_patterns, reason = "the enum may grow")]
        _ => {}
    }
}
