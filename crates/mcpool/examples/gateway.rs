//! A pool served as one MCP server, inside an application of yours, and a client of it.
//!
//! `cargo run -p mcpool --features gateway --example gateway`

use std::{sync::Arc, time::Duration};

use mcpool::{
    ConnectionManager, ServerSpec, StandardFactory, Verbs as _,
    gateway::{Gateway, HttpOptions},
};
use mcpool_testkit::{
    Behavior,
    fixtures::{http::HttpFixture, stdio::StdioFixture},
};
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (old, new) = (
        StdioFixture::new(Behavior::new()),
        HttpFixture::start(Behavior::modern())?,
    );
    let pool = ConnectionManager::new(Arc::new(StandardFactory::new()));
    let specs = vec![old.spec("old"), ServerSpec::url("new", new.url())?];
    pool.start(specs).await?.all_connected()?;

    let gateway = Gateway::builder(pool.clone()).with_name("my tools").build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    // An axum router: nest it into yours, or serve it as it is.
    let serve = axum::serve(listener, gateway.router(HttpOptions::new()));
    tokio::spawn(async move { serve.await });

    // Any MCP client in any language. Both servers, of two revisions, are one to it.
    let client = StandardFactory::new()
        .isolated(&ServerSpec::url("mine", url)?)
        .await?;
    for name in ["old__echo", "new__echo"] {
        let reply = client.call_tool(name, json!({"message": name})).await?;
        println!("{}", reply.raw().get());
    }
    drop(client);

    gateway.drain(Duration::from_secs(5)).await;
    pool.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
