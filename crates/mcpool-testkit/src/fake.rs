//! A fake client and a factory of fakes, for tests of what stands above them: a manager, an
//! agent, a layer.
//!
//! Nothing here does I/O, and all waiting is by tokio's clock: with the clock paused a test of
//! hours takes milliseconds.
//!
//! ```
//! use mcpool_core::Verbs;
//! use mcpool_testkit::FakeClient;
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
//! let client = FakeClient::new("math").on_tool("add", |arguments| {
//!     let sum = arguments["a"].as_i64().unwrap_or(0) + arguments["b"].as_i64().unwrap_or(0);
//!     Ok(json!({"content": [{"type": "text", "text": sum.to_string()}]}))
//! });
//! let reply = client.call_tool("add", json!({"a": 1, "b": 2})).await?;
//! assert_eq!(reply.content[0].as_text().unwrap().text, "3");
//! # Ok(()) }
//! ```
//!
//! Behind a manager stands a [`FakeFactory`]; what its servers do is said by [`FakeServer`]:
//!
//! ```
//! use mcpool_core::{ClientFactory, ConnectOptions, Error, ErrorKind, ServerSpec, StdioSpec, Verbs};
//! use mcpool_testkit::{Act, FakeFactory, Op};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
//! let factory = FakeFactory::new();
//! let server = factory.server("files");
//! server.next(Op::Connect, Act::Fail(Error::new(ErrorKind::Connect, "refused")));
//! let spec = ServerSpec::stdio("files", StdioSpec::new("not started"))?;
//!
//! assert!(factory.connect(&spec, &ConnectOptions::new()).await.is_err());
//! let client = factory.connect(&spec, &ConnectOptions::new()).await?;
//! assert_eq!(client.list_tools().await?.items.len(), 1);
//! server.kill(Error::new(ErrorKind::ConnectionLost, "reset by peer"));
//! assert!(client.is_closed());
//! assert_eq!(server.count(Op::Connect), 2);
//! # Ok(()) }
//! ```

mod client;
mod factory;
mod gauge;
mod server;

pub use client::FakeClient;
pub use factory::FakeFactory;
pub use gauge::Gauge;
pub use server::{Act, FakeServer, Op, tool};
