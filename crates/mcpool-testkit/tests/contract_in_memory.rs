//! The contract suite on the transport in memory, which keeps the contract.
#![allow(missing_docs)]

use mcpool_testkit::{contract::MemoryTarget, contract_tests};

contract_tests!(MemoryTarget::new());
