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

// Here notifications and the answer travel on different connections, so that nothing can be said
// of their order: the checks of that order are left out.
mod always_json {
    use mcpool_testkit::contract::{self, ContractTarget, Verdict};

    async fn check(run: impl AsyncFnOnce(&dyn ContractTarget) -> Verdict) {
        let target = super::target(|options| options.answers = super::AnswerMode::Json);
        run(&target).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answers_a_call() {
        check(async |target| contract::answers_a_call(target).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sends_concurrently() {
        check(async |target| contract::sends_concurrently(target).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn dropped_sends_break_nothing() {
        check(async |target| contract::dropped_sends_break_nothing(target).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn death_ends_everything() {
        check(async |target| contract::death_ends_everything(target).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn drop_leaves_nothing() {
        check(async |target| contract::drop_leaves_nothing(target).await).await;
    }
}

mod resumed_streams {
    mcpool_testkit::contract_tests!(super::target(|options| options.resume = true));
}
