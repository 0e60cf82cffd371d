//! The gateway between real clients and real servers: our own client in both eras, over HTTP and
//! over streams, in front of fixture servers of both eras.

mod asking;
mod attacks;
mod catalog;
mod eras;
mod lines;
mod support;
