//! One layer alone: Streamable HTTP on a pool of sockets of one's own, without a client, a manager,
//! a server spec.
//!
//! `cargo run -p mcpool --example http_alone -- [URL]`

mod wire;

use mcpool_core::{ConnectRequest, Connector, HttpSpec, TransportSpec};
use mcpool_http::HttpConnector;
use mcpool_http_pool::HttpPool;
use mcpool_testkit::{Behavior, fixtures::http::HttpFixture};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = HttpFixture::start(Behavior::new())?;
    let url = std::env::args().nth(1).unwrap_or_else(|| server.url());
    let connector = HttpConnector::new(HttpPool::new());
    let target = TransportSpec::Http(HttpSpec::new(url));
    let request = ConnectRequest::new("alone".parse()?, target);
    let transport = connector.connect(request).await?;
    for name in wire::tool_names(&*transport).await? {
        println!("{name}");
    }
    transport.close().await?;
    Ok(())
}
