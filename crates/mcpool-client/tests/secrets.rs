//! A server that repeats what it was given brings it into no error of ours.
#![cfg(all(unix, feature = "stdio"))]
#![allow(clippy::unwrap_used)]

use mcpool_client::StandardFactory;
use mcpool_core::{ClientFactory, ConnectOptions, ServerSpec, StdioSpec};

/// Refuses everything with the value of `$TOKEN`.
fn echoing() -> ServerSpec {
    let script = r#"while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  [ -z "$id" ] || printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"bad token %s","data":{"token":"%s"}}}\n' "$id" "$TOKEN" "$TOKEN"
done"#;
    let stdio = StdioSpec::new("/bin/sh")
        .with_args(["-c", script])
        .with_env("TOKEN", "/canary+value=");
    ServerSpec::stdio("echoing", stdio).unwrap()
}

#[tokio::test]
async fn the_error_of_a_connect_repeats_no_secret() {
    let error = StandardFactory::new()
        .connect(&echoing(), &ConnectOptions::new())
        .await
        .unwrap_err();
    let shown = format!("{error} {error:?} {:?}", error.rpc());
    assert!(shown.contains("bad token [redacted]"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}
