//! Logins, refreshes and step-ups against the test authorization server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod logins;
mod refreshes;
mod registrations;
mod scopes;
#[path = "../support/mod.rs"]
mod support;
