//! A server that repeats what it was given brings it into no error of ours.
#![cfg(all(unix, feature = "stdio"))]
#![allow(clippy::unwrap_used)]

use mcpool_client::StandardFactory;
use mcpool_core::{Client as _, ClientFactory, RequestOptions, ServerSpec, StdioSpec};

/// Answers `initialize` as told, and refuses everything else with the value of `$TOKEN`.
fn echoing(initialize: &str) -> ServerSpec {
    let script = format!(
        r#"while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  refusal='"error":{{"code":-32000,"message":"bad token '$TOKEN'","data":{{"token":"'$TOKEN'"}}}}'
  answer=$refusal
  case "$line" in *'"initialize"'*) answer={initialize} ;; esac
  [ -z "$id" ] || printf '{{"jsonrpc":"2.0","id":%s,%s}}\n' "$id" "$answer"
done"#
    );
    let stdio = StdioSpec::new("/bin/sh")
        .with_args(["-c", &script])
        .with_env("TOKEN", "/canary+value=");
    ServerSpec::stdio("echoing", stdio).unwrap()
}

#[tokio::test]
async fn the_error_of_a_connect_repeats_no_secret() {
    let spec = echoing("$refusal");
    let error = StandardFactory::new().connect(&spec).await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", error.rpc());
    assert!(shown.contains("bad token [redacted]"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
#[ignore = "issue 10: the session is built there, and masks the JSON-RPC errors of its requests"]
async fn the_error_of_a_request_repeats_no_secret() {
    let spec = echoing(
        r#"'"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}'"#,
    );
    let client = StandardFactory::new().connect(&spec).await.unwrap();
    let error = client.list_tools(&RequestOptions::new()).await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", error.rpc());
    assert!(shown.contains("bad token [redacted]"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    client.close().await;
}
