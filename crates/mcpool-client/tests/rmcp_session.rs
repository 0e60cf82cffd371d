//! Why this crate has a session of its own: what rmcp's does on the same transports.
//!
//! When a test here fails, rmcp has changed, and the reason in `src/peer.rs` is to be weighed
//! anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use mcpool_core::{ConnectRequest, Connector, Transport};
use rmcp::{
    RoleClient,
    model::{ProtocolVersion, ServerCapabilities, ServerPeerInfo},
    service::{RunningService, RxJsonRpcMessage, TxJsonRpcMessage, serve_directly},
};
use serde_json::json;
use support::*;
use tokio::time::Instant;

/// One of our transports under rmcp's session.
struct Adapted(Box<dyn Transport>);

impl rmcp::transport::Transport<RoleClient> for Adapted {
    type Error = mcpool_core::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.0.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        self.0.receive().await
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.0.close().await
    }
}

async fn serve(connector: Scripted, version: ProtocolVersion) -> RunningService<RoleClient, ()> {
    let request = ConnectRequest::new(spec().into());
    let transport = connector.connect(request).await.unwrap();
    let info = ServerPeerInfo::new(version, ServerCapabilities::default());
    serve_directly((), Adapted(transport), Some(info))
}

#[tokio::test(start_paused = true)]
async fn its_pending_calls_wait_for_the_close_of_a_dead_transport() {
    let connector = Scripted::stdio(|mut end: ServerEnd| async move {
        end.expect("tools/list").await;
    })
    .close_takes(Duration::from_secs(4));
    let service = serve(connector, ProtocolVersion::V_2025_11_25).await;
    let started = Instant::now();
    service.peer().list_tools(None).await.unwrap_err();
    // Ours: at most 0.2 s, see `a_slow_close_of_a_dead_connection_holds_up_no_call`.
    assert_eq!(started.elapsed(), Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn its_lists_are_served_from_a_cache_when_the_server_is_dead() {
    let connector = Scripted::stdio(|mut end: ServerEnd| async move {
        let request = end.expect("tools/list").await;
        end.reply(
            &request,
            json!({"tools": [], "ttlMs": 60_000, "cacheScope": "public"}),
        );
    });
    let service = serve(connector, ProtocolVersion::V_2026_07_28).await;
    service.peer().list_tools(None).await.unwrap();
    while !service.peer().is_transport_closed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Ours: an error, see `every_list_goes_to_the_server`.
    service.peer().list_tools(None).await.unwrap();
}
