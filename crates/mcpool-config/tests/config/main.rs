//! The loader from outside: files in; specs, problems, edits and reloads out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broken;
mod dialects;
mod editing;
mod expansion;
mod finding;
mod fuzz;
mod installing;
mod layers;
mod native;
mod oauth;
mod porting;
mod roundtrip;
mod rows;
mod scale;
mod schema;
mod secrecy;
mod trusting;
mod watching;
