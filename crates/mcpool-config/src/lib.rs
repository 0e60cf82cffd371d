//! Loads the `mcp.json` files that people really have, and says exactly what is wrong.
//!
//! A [`Loader`] reads files in any [`Dialect`], validates them, lays them over each other, and
//! gives [`mcpool_core::ServerSpec`]s. It never connects. Placeholders such as `${TOKEN}` stay in
//! the specs; the [`Resolver`] that is attached to each fills them in when it is connected.
//!
//! ```
//! use mcpool_config::Loader;
//!
//! let loaded = Loader::new()
//!     .with_text("mcp.json", r#"{
//!         "mcpServers": {
//!             "files": { "command": "mcp-server-filesystem", "args": ["/srv"] },
//!             "typo":  { "comand": "oops" },
//!         }
//!     }"#)
//!     .load()?
//!     .checked()?;
//! // The bad entry is reported; the good one works.
//! assert_eq!(loaded.servers.len(), 1);
//! let rendered = loaded.problems[0].render();
//! assert!(rendered.contains("did you mean `command`?"), "{rendered}");
//! # Ok::<(), mcpool_core::Error>(())
//! ```
//!
//! # Cargo features
//!
//! All are on by default; without them files in JSON are read, and nothing is written or watched.
//!
//! - `toml`, `yaml`: files in these formats. Without them such a file is a
//!   [`Problem`] that names the feature.
//! - `edit`: [`edit_file`] and [`HostWriter`], which change files and keep what they do not change.
//! - `schema`: [`json_schema`].
//! - `watch`: [`Watcher`].
//! - `url`: a URL that cannot be used is a problem with its place. Without it, it is an error when
//!   the server is connected.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod compile;
mod dialects;
mod document;
#[cfg(feature = "edit")]
mod edit;
mod excerpt;
mod expand;
mod home;
mod hosts;
mod inputs;
#[cfg(feature = "edit")]
mod install;
mod loader;
mod merge;
mod origin;
mod portable;
mod problem;
mod problem_summary;
mod problems;
mod reader;
mod render;
#[cfg(feature = "schema")]
mod schema;
mod secrets;
pub mod settings;
mod show;
mod source;
mod template;
mod trust;
mod units;
#[cfg(feature = "watch")]
mod watch;

pub use dialects::Dialect;
pub use document::Format;
#[cfg(feature = "edit")]
pub use edit::{Edit, edit_file, edit_text};
pub use excerpt::Excerpt;
pub use expand::{
    EnvironmentSource, FileSource, InputProvider, InputSource, PlaceSource, Provenance, Resolution,
    Resolver, VariableSource,
};
pub use hosts::{Folders, HostFile, find, host_files};
pub use inputs::InputDeclaration;
#[cfg(feature = "edit")]
pub use install::{HostServer, HostWriter, read_host_file, remove_host_file, write_host_file};
pub use loader::{Loaded, Loader};
pub use merge::Entry;
pub use origin::{Origin, Scope};
pub use portable::Portable;
pub use problem::{Problem, Severity, nearest};
pub use problem_summary::ProblemSummary;
pub use problems::Problems;
#[cfg(feature = "schema")]
pub use schema::json_schema;
pub use source::{Position, Source, Span};
pub use template::{Reference, Syntax, Template, TemplateError, WhenUnset};
pub use trust::{
    Admission, CoveredFile, FactKind, Standing, Taken, TrustAction, TrustFact, TrustRequest,
    TrustStore,
};
pub use units::{ByteSize, HumanDuration};
#[cfg(feature = "watch")]
pub use watch::{Reload, Watcher};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
