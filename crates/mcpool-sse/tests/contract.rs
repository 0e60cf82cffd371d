//! The contract of every transport, on legacy SSE.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;

use mcpool_http_pool::HttpPool;
use mcpool_sse::SseConnector;
use mcpool_testkit::contract::SseTarget;

mcpool_testkit::contract_tests!(SseTarget::new(|| Arc::new(SseConnector::new(
    HttpPool::new()
))));
