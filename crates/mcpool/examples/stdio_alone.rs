//! One layer alone: a server process and its messages, without a client, a manager, a server spec.
//! It ends with all its children, however this program ends.
//!
//! `cargo run -p mcpool --example stdio_alone -- [COMMAND [ARGUMENT…]]`

mod wire;

use std::time::Duration;

use mcpool_core::{ConnectRequest, Error, StdioSpec, TransportSpec};
use mcpool_stdio::StdioConnector;
use mcpool_testkit::fixtures::stdio::fixture_path;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut words = std::env::args().skip(1);
    let command = words.next();
    let command = command.unwrap_or_else(|| fixture_path().to_string_lossy().into_owned());
    let target = TransportSpec::Stdio(StdioSpec::new(command).with_args(words));
    let request = ConnectRequest::new("alone".parse()?, target);
    let transport = StdioConnector::new().open(request).await?;
    for name in wire::tool_names(&transport).await? {
        println!("{name}");
    }
    // Within this time the process has ended, or is killed.
    transport.close_within(Duration::from_secs(2)).await
}
