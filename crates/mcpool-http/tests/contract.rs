//! The contract of every transport, on Streamable HTTP, however the server answers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;

use mcpool_http::HttpConnector;
use mcpool_http_pool::HttpPool;
use mcpool_testkit::{
    contract::HttpTarget,
    fixtures::http::{AnswerMode, HttpOptions},
};

fn target(change: impl FnOnce(&mut HttpOptions)) -> HttpTarget {
    let mut options = HttpOptions::default();
    change(&mut options);
    HttpTarget::new(|| Arc::new(HttpConnector::new(HttpPool::new()))).with_options(options)
}

mod json_or_stream {
    mcpool_testkit::contract_tests!(super::target(|_| {}));
}

mod always_a_stream {
    mcpool_testkit::contract_tests!(super::target(|options| {
        options.answers = super::AnswerMode::Sse;
    }));
}

mod always_json {
    mcpool_testkit::contract_tests!(super::target(|options| {
        options.answers = super::AnswerMode::Json;
    }));
}

mod resumed_streams {
    mcpool_testkit::contract_tests!(super::target(|options| options.resume = true));
}
