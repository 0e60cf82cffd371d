//! The program from outside: its output, its exit codes, and the processes that it leaves.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod calls;
mod canned;
mod commands;
mod config;
mod consent;
mod demo;
mod doctor;
mod endings;
#[cfg(feature = "gateway")]
mod host;
mod output;
mod questions;
mod readme;
mod secrecy;
mod seen;
#[cfg(feature = "gateway")]
mod serve;
mod signals;
mod support;
mod transcript;
#[cfg(feature = "gateway")]
mod up;
