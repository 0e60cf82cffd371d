//! The contract that every transport keeps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use mcpool_stdio::StdioConnector;
use mcpool_testkit::contract::StdioTarget;

mod contract {
    use super::*;

    mcpool_testkit::contract_tests!(StdioTarget::new(|| Arc::new(StdioConnector::new())));
}

/// The same behind the gate that other systems than Linux need.
mod contract_with_gate {
    use super::*;

    mcpool_testkit::contract_tests!(StdioTarget::new(|| Arc::new(
        StdioConnector::new().with_exec_gate(true)
    )));
}
