//! A server that wants a login, with its authorization server, to try `mcpool login` on:
//!
//! ```console
//! $ cargo run -p mcpool-testkit --example login_server > mcp.json
//! $ mcpool --config mcp.json login guarded
//! ```
//!
//! It serves until its standard input ends.
use std::io::{Read as _, Write as _};

use mcpool_testkit::fixtures::authz::{AuthzFixture, AuthzOptions};
use serde_json::json;

fn main() -> std::io::Result<()> {
    let mut options = AuthzOptions::default();
    options.login_page = true;
    options.scope = Some("mcp:read".to_owned());
    let server = AuthzFixture::start(options)?;
    let config = json!({"mcpServers": {
        "guarded": {"type": "http", "url": server.mcp_url()},
        "legacy": {"type": "sse", "url": server.sse_url()},
    }});
    let mut out = std::io::stdout();
    writeln!(out, "{config:#}")?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
