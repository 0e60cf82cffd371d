//! `cargo xtask api`: the public items of each library, committed in `docs/api/`, so that a change
//! of the API is a change that a reviewer sees.
//!
//! It reads the sources: what is `pub` is reachable, since rustc warns of what is not. What a macro
//! writes is not seen. `cargo-public-api` sees it, but documents each crate with all that it depends
//! on, which takes minutes in place of a second, and needs unstable options of rustdoc whose format
//! changes with the compiler. So does `cargo-semver-checks`, which the release runs: nothing that a
//! macro writes is taken away unseen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use quote::ToTokens;
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, TraitItem, Type, Visibility};

use crate::{
    Outcome,
    sources::{self, Sources},
    tools::root,
};

const DIR: &str = "docs/api";

/// Crates that are no library for others.
const LEFT_OUT: &[&str] = &["mcpool-cli", "mcpool-testkit"];

/// Compares, or with `--update` writes the lists.
pub(crate) fn run(args: &[String]) -> Outcome {
    let update = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--update"] => true,
        _ => return Err("the only option is --update".to_owned()),
    };
    let mut stale = Vec::new();
    for (name, list) in lists()? {
        let path = root().join(DIR).join(format!("{name}.txt"));
        let committed = fs::read_to_string(&path).unwrap_or_default();
        if committed == list {
            continue;
        }
        if update {
            fs::create_dir_all(root().join(DIR)).map_err(|error| error.to_string())?;
            fs::write(&path, &list).map_err(|error| format!("{}: {error}", path.display()))?;
            continue;
        }
        for line in difference(&committed, &list) {
            println!("api: {name}: {line}");
        }
        stale.push(name);
    }
    match stale.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "the public API of {} changed; `cargo xtask api --update` writes it down",
            stale.join(", ")
        )),
    }
}

/// What is gone and what is new.
fn difference(before: &str, now: &str) -> Vec<String> {
    let (before, now): (BTreeSet<&str>, BTreeSet<&str>) =
        (before.lines().collect(), now.lines().collect());
    let gone = before.difference(&now).map(|line| format!("- {line}"));
    let new = now.difference(&before).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

/// The list of each library.
fn lists() -> Outcome<BTreeMap<String, String>> {
    let crates = sources::crates()?.into_iter();
    let libraries = crates.filter(|sources| !LEFT_OUT.contains(&sources.name.as_str()));
    Ok(libraries
        .map(|sources| (sources.name.clone(), list(&sources)))
        .collect())
}

/// The public items of a crate, one a line, sorted.
fn list(sources: &Sources) -> String {
    let items = || sources.files.values().flat_map(|file| &file.items);
    let public: BTreeSet<String> = items().filter_map(public_type).collect();
    let hidden: BTreeSet<String> = items().filter_map(hidden_trait).collect();
    let mut lines = BTreeSet::new();
    for (module, file) in &sources.files {
        for item in &file.items {
            // A re-export of the root is what a user writes.
            if let (true, Item::Use(item)) = (module.is_empty(), item)
                && is_public(&item.vis)
            {
                for (name, path) in sources::leaves(&item.tree) {
                    lines.insert(format!("use {} as {name}", path.join("::")));
                }
            }
            if !implements(item, &hidden) {
                describe(item, &public, &mut lines);
            }
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn public_type(item: &Item) -> Option<String> {
    let (vis, name) = match item {
        Item::Struct(item) => (&item.vis, &item.ident),
        Item::Enum(item) => (&item.vis, &item.ident),
        Item::Trait(item) => (&item.vis, &item.ident),
        Item::Type(item) => (&item.vis, &item.ident),
        _ => return None,
    };
    is_public(vis).then(|| name.to_string())
}

/// The name of a trait that no user sees.
fn hidden_trait(item: &Item) -> Option<String> {
    match item {
        Item::Trait(item) if !is_public(&item.vis) => Some(item.ident.to_string()),
        _ => None,
    }
}

/// Whether an item implements one of these traits.
fn implements(item: &Item, traits: &BTreeSet<String>) -> bool {
    let Item::Impl(ItemImpl {
        trait_: Some((path, _)),
        ..
    }) = item
    else {
        return false;
    };
    let last = path.segments.last();
    last.is_some_and(|last| traits.contains(&last.ident.to_string()))
}

/// Adds the lines of an item, if it is public.
fn describe(item: &Item, public: &BTreeSet<String>, lines: &mut BTreeSet<String>) {
    match item {
        Item::Fn(item) if is_public(&item.vis) => {
            lines.insert(text(&item.sig));
        }
        Item::Const(item) if is_public(&item.vis) => {
            lines.insert(format!("const {}: {}", item.ident, text(&item.ty)));
        }
        Item::Type(item) if is_public(&item.vis) => {
            let generics = text(&item.generics);
            lines.insert(format!(
                "type {}{generics} = {}",
                item.ident,
                text(&item.ty)
            ));
        }
        Item::Struct(item) if is_public(&item.vis) => {
            let (name, generics) = (&item.ident, text(&item.generics));
            lines.insert(format!("{}struct {name}{generics}", growth(&item.attrs)));
            fields(&format!("{name}."), &item.fields, true, lines);
        }
        Item::Enum(item) if is_public(&item.vis) => {
            let (name, generics) = (&item.ident, text(&item.generics));
            lines.insert(format!("{}enum {name}{generics}", growth(&item.attrs)));
            for variant in &item.variants {
                let at = format!("{name}::{}", variant.ident);
                fields(&format!("{at}."), &variant.fields, false, lines);
                lines.insert(at);
            }
        }
        Item::Trait(item) if is_public(&item.vis) => {
            let (name, above) = (&item.ident, text(&item.supertraits));
            let generics = text(&item.generics);
            lines.insert(format!("trait {name}{generics}: {above}"));
            for item in &item.items {
                if let TraitItem::Fn(method) = item {
                    let default = method.default.as_ref().map_or("", |_| " { … }");
                    lines.insert(format!("{name}::{}{default}", text(&method.sig)));
                }
            }
        }
        Item::Impl(item) => implementation(item, public, lines),
        _ => {}
    }
}

/// The methods and constants of a public type, and the traits that it has.
fn implementation(item: &ItemImpl, public: &BTreeSet<String>, lines: &mut BTreeSet<String>) {
    let Type::Path(of) = &*item.self_ty else {
        return;
    };
    let Some(name) = of.path.segments.last().map(|last| last.ident.to_string()) else {
        return;
    };
    if !public.contains(&name) {
        return;
    }
    if let Some((path, _)) = &item.trait_ {
        lines.insert(format!("impl {} for {}", text(path), text(&item.self_ty)));
        return;
    }
    for item in &item.items {
        match item {
            ImplItem::Fn(method) if is_public(&method.vis) => {
                lines.insert(format!("{name}::{}", text(&method.sig)));
            }
            ImplItem::Const(constant) if is_public(&constant.vis) => {
                let (ident, of) = (&constant.ident, text(&constant.ty));
                lines.insert(format!("{name}::const {ident}: {of}"));
            }
            _ => {}
        }
    }
}

fn fields(at: &str, fields: &Fields, public_only: bool, lines: &mut BTreeSet<String>) {
    for (number, field) in fields.iter().enumerate() {
        if public_only && !is_public(&field.vis) {
            continue;
        }
        let number = number.to_string();
        let name = field.ident.as_ref().map_or(number, ToString::to_string);
        lines.insert(format!("{at}{name}: {}", text(&field.ty)));
    }
}

fn growth(attributes: &[Attribute]) -> &'static str {
    let is = |attribute: &Attribute| attribute.path().is_ident("non_exhaustive");
    match attributes.iter().any(is) {
        true => "non_exhaustive ",
        false => "",
    }
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Tokens as a person writes them.
fn text(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (from, to) in [
        (" ::", "::"),
        (":: ", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" :", ":"),
        ("& ", "&"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" ;", ";"),
        (" [", "["),
        ("[ ", "["),
        (" ]", "]"),
        ("? ", "?"),
        (",)", ")"),
        (",>", ">"),
        ("->(", "-> ("),
        ("->[", "-> ["),
        ("->::", "-> ::"),
    ] {
        text = text.replace(from, to);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public_is_listed() {
        let mut sources = Sources {
            name: "sample".to_owned(),
            files: BTreeMap::new(),
        };
        let source = "
            pub use inner::Thing;
            #[non_exhaustive] pub struct Spec { pub name: String, secret: u8 }
            impl Spec { pub fn with<'a, T: Into<String>>(mut self, t: &'a [T]) -> Self { self } }
            impl Spec { fn hidden(&self) {} }
            impl Default for Spec { fn default() -> Self { todo!() } }
            pub enum Kind { One, Two { at: u8 } }
            struct Private; impl Private { pub fn seen(&self) {} }
        ";
        assert!(sources.add(Vec::new(), source).is_ok());
        let list = list(&sources);
        let lines: Vec<&str> = list.lines().collect();
        assert_eq!(
            lines,
            [
                "Kind::One",
                "Kind::Two",
                "Kind::Two.at: u8",
                "Spec.name: String",
                "Spec::fn with<'a, T: Into<String>>(mut self, t: &'a[T]) -> Self",
                "enum Kind",
                "impl Default for Spec",
                "non_exhaustive struct Spec",
                "use inner::Thing as Thing",
            ]
        );
    }

    #[test]
    fn a_difference_says_what_is_gone_and_what_is_new() {
        assert_eq!(difference("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
    }
}
