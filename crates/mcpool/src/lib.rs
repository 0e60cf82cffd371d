//! Connection manager for Model Context Protocol servers.
#![deny(missing_docs)]
#![allow(
    unused_imports,
    unreachable_pub,
    reason = "the crates below are being filled"
)]

#[doc(inline)]
pub use mcpool_client::*;
#[cfg(feature = "config")]
#[doc(inline)]
pub use mcpool_config as config;
#[doc(inline)]
pub use mcpool_core::*;
#[cfg(feature = "manager")]
#[doc(inline)]
pub use mcpool_manager::*;
