//! The gateway between real clients and real servers: our own client in both eras, over HTTP and
//! over streams, in front of fixture servers of both eras.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(deprecated, reason = "the log level is spoken by older servers")]

mod access;
mod asking;
mod attacks;
mod catalog;
mod connections;
mod ending;
mod eras;
mod limits;
mod lines;
mod oauth;
mod own;
mod page;
mod profiles;
mod replicas;
mod searching;
mod support;
mod traces;
