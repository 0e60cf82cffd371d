//! Files of a crate do not depend on each other in circles.
//!
//! Edges are the paths that begin with `crate::`, in a `use` or in the middle of the code, followed
//! through the re-exports of the crate to the file that has the item. What a parent says of its
//! children (`mod`, re-exports) and a child of its parent (`super::`) is their own affair. What
//! stands inside of a macro's call is not seen.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    ItemUse, Path, Visibility,
    visit::{self, Visit},
};

use crate::{
    Outcome,
    sources::{self, Module, Sources, leaves},
};

/// Checks every crate.
pub(crate) fn run() -> Outcome {
    let mut count = 0;
    for sources in sources::crates()? {
        for circle in circles(&sources) {
            println!("circles: {}: {}", sources.name, circle.join(", "));
            count += 1;
        }
    }
    match count {
        0 => Ok(()),
        count => Err(format!("{count} circles of files")),
    }
}

/// What one file says of others.
#[derive(Default)]
struct Said {
    /// Paths below the crate's root that it uses.
    uses: Vec<Vec<String>>,
    /// What it gives on, by the name that it gives it.
    gives: Vec<(String, Vec<String>)>,
}

impl<'ast> Visit<'ast> for Said {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let leaves = leaves(&item.tree);
        if matches!(item.vis, Visibility::Inherited) {
            let inside = leaves.into_iter().filter_map(|(_, path)| below_root(path));
            self.uses.extend(inside);
        } else {
            self.gives.extend(leaves);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments = path.segments.iter().map(|s| s.ident.to_string());
        self.uses.extend(below_root(segments.collect()));
        visit::visit_path(self, path);
    }
}

fn below_root(path: Vec<String>) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    (first == "crate" && !rest.is_empty()).then(|| rest.to_vec())
}

/// The circles of a crate, each file by its path.
fn circles(sources: &Sources) -> Vec<Vec<String>> {
    let mut said: BTreeMap<&Module, Said> = BTreeMap::new();
    let mut given: BTreeMap<Module, Module> = BTreeMap::new();
    for (module, file) in &sources.files {
        let mut here = Said::default();
        here.visit_file(file);
        for (name, path) in &here.gives {
            let mut place = module.clone();
            place.push(name.clone());
            given.insert(place, absolute(module, path));
        }
        said.insert(module, here);
    }
    let edges: BTreeMap<&Module, BTreeSet<&Module>> = said
        .iter()
        .map(|(module, said)| {
            let to = said
                .uses
                .iter()
                .filter_map(|path| file_of(path, sources, &given));
            // The root lists everything, and has nothing of its own.
            (
                *module,
                to.filter(|to| to != module && !to.is_empty()).collect(),
            )
        })
        .collect();
    components(&edges)
        .into_iter()
        .map(|circle| circle.into_iter().map(|module| module.join("::")).collect())
        .collect()
}

/// A path as seen from the root.
fn absolute(module: &Module, path: &[String]) -> Module {
    match path.split_first() {
        Some((first, rest)) if first == "crate" => rest.to_vec(),
        Some((first, rest)) if first == "self" => [module, rest].concat(),
        Some((first, rest)) if first == "super" => {
            let above = module.split_last().map_or(&[][..], |(_, above)| above);
            [above, rest].concat()
        }
        _ => [module, path].concat(),
    }
}

/// The file that has what a path names.
fn file_of<'a>(
    path: &[String],
    sources: &'a Sources,
    given: &BTreeMap<Module, Module>,
) -> Option<&'a Module> {
    let mut path = path.to_vec();
    // Nothing is given on more often than this.
    for _ in 0..8 {
        let longest = (0..=path.len())
            .rev()
            .find(|n| sources.files.contains_key(&path[..*n]))?;
        let next = given.get(path.get(..=longest).unwrap_or(&path));
        match next {
            Some(next) if *next != path => {
                let rest = path.split_off((longest + 1).min(path.len()));
                path = [next.clone(), rest].concat();
            }
            _ => {
                return sources
                    .files
                    .get_key_value(&path[..longest])
                    .map(|(module, _)| module);
            }
        }
    }
    None
}

/// The sets of files each of which reaches all others of its set, if there are others.
fn components<'a>(edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> Vec<Vec<&'a Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = edges
        .keys()
        .map(|from| (*from, reach(from, edges)))
        .collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (from, to) in &reached {
        let circle: Vec<&Module> = to
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(from)))
            .copied()
            .collect();
        if circle.len() > 1 && !seen.contains(from) {
            seen.extend(circle.iter().copied());
            found.push(circle);
        }
    }
    found
}

fn reach<'a>(
    from: &'a Module,
    edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut left = vec![from];
    while let Some(module) = left.pop() {
        for next in edges.get(module).into_iter().flatten() {
            if reached.insert(*next) {
                left.push(next);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_of(files: &[(&str, &str)]) -> Sources {
        let mut sources = Sources {
            name: "test".to_owned(),
            files: BTreeMap::new(),
        };
        for (path, text) in files {
            let module = path.split("::").filter(|part| !part.is_empty());
            sources
                .add(module.map(str::to_owned).collect(), text)
                .unwrap();
        }
        sources
    }

    #[test]
    fn a_circle_is_found_through_a_re_export_and_in_the_code() {
        let sources = crate_of(&[
            ("", "mod a; mod b; mod c; pub use b::B;"),
            ("a", "use crate::B; pub struct A;"),
            ("b", "pub struct B; fn f() { crate::c::g() }"),
            ("c", "use crate::a::{self, A}; pub fn g() {}"),
        ]);
        assert_eq!(circles(&sources), [["a", "b", "c"]]);
    }

    #[test]
    fn families_and_tests_are_no_circles() {
        let sources = crate_of(&[
            ("", "mod a; mod b;"),
            ("a", "mod child; pub(crate) use child::Child; pub struct A;"),
            (
                "a::child",
                "use super::A; use crate::b::B; pub struct Child;",
            ),
            (
                "b",
                "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }",
            ),
        ]);
        assert_eq!(circles(&sources), Vec::<Vec<String>>::new());
    }
}
