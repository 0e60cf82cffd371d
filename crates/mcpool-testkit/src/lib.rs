//! Fixture servers, faults, leak checks and the contract suite that every mcpool transport runs.
//!
//! | you test | you take |
//! |---|---|
//! | a transport of your own | [`contract`]: the suite that the transports of mcpool pass |
//! | a client over some transport | [`scripted`]: a transport in memory with a script |
//! | a manager, or what stands above one | [`FakeClient`], [`FakeFactory`]: scripts instead of servers |
//! | against a server with a bad habit | [`fixtures`]: one [`Behavior`] for stdio, SSE and HTTP |
//! | what the network does | [`faults`]: a proxy that drops, stalls, resets, cuts |
//! | against NATS | [`nats`]: one node or a cluster of three, to be killed and started again |
//! | what a machine may lack | [`machine`]: installed servers, free ports, a skip with its reason |
//! | that nothing is left behind | [`leaks`]: processes, sockets, pipes, tasks |
//!
//! Everything runs on loopback and waits for events, not for time.
#![deny(missing_docs)]

mod behavior;
pub mod contract;
mod fake;
pub mod faults;
pub mod fixtures;
pub mod leaks;
pub mod machine;
pub mod nats;
pub mod scripted;

pub use behavior::{Behavior, DiscoverReaction, Era};
pub use fake::{Act, FakeClient, FakeFactory, FakeServer, Gauge, Op, tool};
pub use leaks::{eventually, eventually_blocking};
