//! A program without an async runtime.
//!
//! `cargo run -p mcpool --features blocking --example blocking`

use std::{sync::Arc, time::Duration};

use mcpool::{ErrorKind, ServerSpec, StandardFactory, blocking::BlockingManager};
use mcpool_testkit::{Behavior, fixtures::http::HttpFixture};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = HttpFixture::start(Behavior::new())?;
    let specs = vec![ServerSpec::url("docs", server.url())?];

    let pool = BlockingManager::new(Arc::new(StandardFactory::new()))?;
    pool.try_run(|manager| async move { manager.start(specs).await })?
        .all_connected()?;

    let arguments = json!({"message": "hello"});
    let reply =
        pool.try_run(|manager| async move { manager.call("docs__echo", arguments).await })?;
    println!("{}", reply.raw().get());

    // Bounded in time: the call is dropped, and its server is notified.
    let hurried = pool.with_timeout(Duration::from_millis(200));
    let late =
        hurried.try_run(|manager| async move { manager.call("docs__hang", json!({})).await });
    assert_eq!(
        late.err().map(|error| error.kind()),
        Some(ErrorKind::Timeout)
    );

    pool.shutdown(Duration::from_secs(5))?;
    Ok(())
}
