//! One layer alone: Streamable HTTP on a pool of sockets of one's own, without a client, a manager,
//! a server spec.
//!
//! `cargo run -p mcpool --example http_alone -- URL`

mod wire;

use mcpool_core::{ConnectRequest, Connector, Error, ErrorKind, HttpSpec, TransportSpec};
use mcpool_http::HttpConnector;
use mcpool_http_pool::HttpPool;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let Some(url) = std::env::args().nth(1) else {
        return Err(Error::new(ErrorKind::InvalidArgument, "say a URL"));
    };
    let connector = HttpConnector::new(HttpPool::new());
    let target = TransportSpec::Http(HttpSpec::new(url));
    let request = ConnectRequest::new("alone".parse()?, target);
    let transport = connector.connect(request).await?;
    for name in wire::tool_names(&*transport).await? {
        println!("{name}");
    }
    transport.close().await
}
