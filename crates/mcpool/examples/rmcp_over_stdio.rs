//! For those who stay with rmcp's client: its sessions over mcpool's processes, which die with
//! everything that they started, however the program ends.
//!
//! `cargo run -p mcpool --example rmcp_over_stdio -- [COMMAND [ARGUMENT…]]`

use mcpool_core::{ConnectRequest, StdioSpec, TransportSpec};
use mcpool_stdio::StdioConnector;
use mcpool_testkit::fixtures::stdio::fixture_path;
use rmcp::ServiceExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let command = words.next();
    let command = command.unwrap_or_else(|| fixture_path().to_string_lossy().into_owned());
    let target = TransportSpec::Stdio(StdioSpec::new(command).with_args(words));
    let request = ConnectRequest::new("server".parse()?, target);
    let transport = StdioConnector::new().open_rmcp(request).await?;
    let client = ().serve(transport).await?;
    for tool in client.list_all_tools().await? {
        println!("{}", tool.name);
    }
    client.cancel().await?;
    Ok(())
}
