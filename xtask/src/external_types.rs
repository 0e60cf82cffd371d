//! `cargo xtask external-types`: whose types stand in public signatures.
//!
//! A type of another crate in a signature ties our versions to that crate's. Those that are worth it
//! are listed; any other fails. It reads the sources: what is `pub` is reachable, since rustc warns
//! of what is not. What a macro writes is not seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use syn::{
    Fields, File, ImplItem, Item, Path, Signature, TraitItem, Visibility,
    visit::{self, Visit},
};

use crate::{
    Outcome,
    sources::{self, Module, Sources, leaves},
};

/// What may stand in public signatures: of which crate (`*` for all), by the beginning of its path,
/// and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("*", "serde", "the traits that everybody's types have"),
    ("*", "serde_json::Value", "JSON, as everybody has it"),
    ("*", "futures::Stream", "what everybody's streams are"),
    ("*", "futures_core::Stream", "the same"),
    ("*", "futures::future::BoxFuture", "a future without a name"),
    ("*", "tokio::time::Instant", "a moment that tests can pause"),
    ("*", "tokio::io", "the traits of byte streams"),
    (
        "mcpool-core",
        "rmcp::model",
        "the protocol's payload types, re-exported as `model`",
    ),
    (
        "mcpool-core",
        "serde_json::value::RawValue",
        "JSON as the text that came",
    ),
    (
        "mcpool-core",
        "serde_json::Error",
        "what the parser says of text that is no JSON",
    ),
    ("mcpool-core", "serde_json::Result", "the same"),
    (
        "mcpool-manager",
        "tokio::runtime::Handle",
        "the runtime that the tasks run on",
    ),
    (
        "mcpool-manager",
        "tokio::sync::watch::Receiver",
        "a state, and its changes",
    ),
    (
        "mcpool-auth",
        "tokio::sync::mpsc::Receiver",
        "the answers that a person pastes",
    ),
    (
        "mcpool-config",
        "schemars::JsonSchema",
        "the settings describe themselves",
    ),
    (
        "mcpool-http-pool",
        "http",
        "the types that all of HTTP shares",
    ),
    (
        "mcpool-http-pool",
        "reqwest::ClientBuilder",
        "the feature `reqwest` gives a client to be finished",
    ),
    (
        "mcpool-http-pool",
        "reqwest::dns::Resolve",
        "the feature `reqwest` takes a resolver of one's own",
    ),
    ("mcpool-http-pool", "bytes::Bytes", "pieces of a body"),
    ("mcpool-http-pool", "url::Url", "addresses, checked"),
    ("mcpool-nats", "bytes::Bytes", "a catalog, as bytes"),
    (
        "mcpool-nats",
        "tokio::sync::watch::Receiver",
        "an epoch, and its changes",
    ),
    (
        "mcpool-stdio",
        "rmcp",
        "the feature `rmcp` is a transport of rmcp's",
    ),
    (
        "mcpool-gateway",
        "axum::Router",
        "the gateway as a part of an application's own server",
    ),
    (
        "mcpool-gateway",
        "tokio::net::TcpListener",
        "where the gateway is served, as the application has bound it",
    ),
    (
        "mcpool-testkit",
        "axum::http::HeaderMap",
        "what a fixture was sent",
    ),
    (
        "mcpool-testkit",
        "tokio::sync::mpsc::UnboundedReceiver",
        "what a fixture says, to be carried",
    ),
];

/// Crates that are no library for others.
const PROGRAMS: &[&str] = &["mcpool-cli"];

/// Checks every library.
pub(crate) fn run() -> Outcome {
    let mut problems = Vec::new();
    let mut used = BTreeSet::new();
    let mut count = 0;
    for sources in sources::crates()? {
        if PROGRAMS.contains(&sources.name.as_str()) {
            continue;
        }
        count += 1;
        for (path, places) in external(&sources) {
            let allowed = ALLOWED.iter().find(|(of, allowed, _)| {
                (*of == "*" || *of == sources.name) && begins(&path, allowed)
            });
            match allowed {
                Some((of, allowed, _)) => {
                    used.insert((*of, *allowed));
                }
                None => {
                    let places: Vec<String> = places.into_iter().collect();
                    problems.push(format!("{}: {path} in {}", sources.name, places.join(", ")));
                }
            }
        }
    }
    for (of, allowed, _) in ALLOWED {
        if !used.contains(&(*of, *allowed)) {
            problems.push(format!(
                "{of}: {allowed} is used nowhere: take it off the list"
            ));
        }
    }
    for problem in &problems {
        println!("external-types: {problem}");
    }
    match problems.len() {
        0 => {
            println!("external-types: {count} libraries, nothing that is not listed");
            Ok(())
        }
        count => Err(format!("{count} types of other crates")),
    }
}

fn begins(path: &str, allowed: &str) -> bool {
    path.strip_prefix(allowed)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The types of other crates in the public signatures of one, and in which files.
fn external(sources: &Sources) -> BTreeMap<String, BTreeSet<String>> {
    let public: BTreeSet<String> = sources.files.values().flat_map(public_types).collect();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, file) in &sources.files {
        let mut signatures = Signatures::new(module, sources, file);
        for item in &file.items {
            signatures.item(item, &public);
        }
        for path in signatures.found {
            let place = match module.is_empty() {
                true => "the root".to_owned(),
                false => module.join("::"),
            };
            found.entry(path).or_default().insert(place);
        }
    }
    found
}

fn public_types(file: &File) -> Vec<String> {
    let named = |vis: &Visibility, name: &syn::Ident| {
        matches!(vis, Visibility::Public(_)).then(|| name.to_string())
    };
    let public = file.items.iter().filter_map(|item| match item {
        Item::Struct(item) => named(&item.vis, &item.ident),
        Item::Enum(item) => named(&item.vis, &item.ident),
        Item::Trait(item) => named(&item.vis, &item.ident),
        _ => None,
    });
    public.collect()
}

/// Collects the paths of the public signatures of one file.
struct Signatures {
    /// What the names here stand for.
    names: HashMap<String, Vec<String>>,
    /// Names of modules here: paths that begin with one stay inside.
    modules: BTreeSet<String>,
    found: BTreeSet<String>,
}

impl Signatures {
    fn new(module: &Module, sources: &Sources, file: &File) -> Self {
        let mut names = HashMap::new();
        for item in &file.items {
            if let Item::Use(item) = item {
                names.extend(leaves(&item.tree));
            }
        }
        let below = sources
            .files
            .keys()
            .filter(|other| other.starts_with(module));
        Self {
            names,
            modules: below
                .filter_map(|other| other.get(module.len()).cloned())
                .collect(),
            found: BTreeSet::new(),
        }
    }

    fn item(&mut self, item: &Item, public: &BTreeSet<String>) {
        let is_public = |vis: &Visibility| matches!(vis, Visibility::Public(_));
        match item {
            Item::Fn(item) if is_public(&item.vis) => self.visit_signature(&item.sig),
            Item::Const(item) if is_public(&item.vis) => self.visit_type(&item.ty),
            Item::Type(item) if is_public(&item.vis) => self.visit_type(&item.ty),
            Item::Struct(item) if is_public(&item.vis) => self.fields(&item.fields, false),
            Item::Enum(item) if is_public(&item.vis) => {
                for variant in &item.variants {
                    self.fields(&variant.fields, true);
                }
            }
            Item::Trait(item) if is_public(&item.vis) => {
                for bound in &item.supertraits {
                    self.visit_type_param_bound(bound);
                }
                for item in &item.items {
                    if let TraitItem::Fn(item) = item {
                        self.visit_signature(&item.sig);
                    }
                }
            }
            Item::Use(item) if is_public(&item.vis) => {
                for (_, path) in leaves(&item.tree) {
                    self.note(path);
                }
            }
            Item::Impl(item) => {
                let of = type_name(&item.self_ty).is_some_and(|name| public.contains(&name));
                match &item.trait_ {
                    Some((path, _)) if of => self.visit_path(path),
                    Some(_) => {}
                    None => {
                        for item in &item.items {
                            match item {
                                ImplItem::Fn(item) if is_public(&item.vis) => {
                                    self.visit_signature(&item.sig);
                                }
                                ImplItem::Const(item) if is_public(&item.vis) => {
                                    self.visit_type(&item.ty);
                                }
                                _ => {}
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, fields: &Fields, all: bool) {
        for field in fields {
            if all || matches!(field.vis, Visibility::Public(_)) {
                self.visit_type(&field.ty);
            }
        }
    }

    /// Notes a path that leads out of the workspace.
    fn note(&mut self, path: Vec<String>) {
        let Some(first) = path.first() else { return };
        let inside = ["std", "core", "alloc", "crate", "self", "super", "Self"];
        let ours = first == "mcpool" || first.starts_with("mcpool_");
        if !ours && !inside.contains(&first.as_str()) && !self.modules.contains(first) {
            self.found.insert(path.join("::"));
        }
    }
}

impl<'ast> Visit<'ast> for Signatures {
    fn visit_signature(&mut self, signature: &'ast Signature) {
        // Not its attributes or names: the types alone.
        visit::visit_generics(self, &signature.generics);
        for input in &signature.inputs {
            if let syn::FnArg::Typed(input) = input {
                self.visit_type(&input.ty);
            }
        }
        visit::visit_return_type(self, &signature.output);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let mut segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if let Some(meant) = segments.first().and_then(|first| self.names.get(first)) {
            segments = [meant.clone(), segments.split_off(1)].concat();
            self.note(segments);
        } else if segments.len() > 1
            && segments[0].starts_with(|first: char| first.is_ascii_lowercase())
        {
            self.note(segments);
        }
        visit::visit_path(self, path);
    }
}

fn type_name(of: &syn::Type) -> Option<String> {
    match of {
        syn::Type::Path(path) => path.path.segments.last().map(|s| s.ident.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut sources = Sources {
            name: "test".to_owned(),
            files: BTreeMap::new(),
        };
        sources.add(Vec::new(), text).unwrap();
        external(&sources).into_keys().collect()
    }

    #[test]
    fn types_of_others_are_found_wherever_they_stand() {
        let text = "
            use rand::{Rng, rngs::SmallRng as Small};
            use reqwest::Client;
            use std::sync::Arc;
            pub struct Open { pub client: Arc<Client>, hidden: Small }
            pub enum Either { One(tokio::time::error::Elapsed) }
            pub trait Draws { fn draw(&self, from: &mut dyn Rng) -> u64; }
            impl From<http::Error> for Open { }
            impl Open { pub fn random(&self) -> impl Into<Option<Small>> { None } }
        ";
        assert_eq!(
            found(text),
            [
                "http::Error",
                "rand::Rng",
                "rand::rngs::SmallRng",
                "reqwest::Client",
                "tokio::time::error::Elapsed",
            ]
        );
    }

    #[test]
    fn what_is_private_is_nobodys_affair() {
        let text = "
            use reqwest::Client;
            struct Hidden { client: Client }
            pub(crate) fn inside(_: Client) {}
            impl From<Client> for Hidden { }
            pub fn generic<T: Clone>(value: T) -> Result<T, crate::Error> { Client::new() }
        ";
        assert_eq!(found(text), Vec::<String>::new());
    }
}
