//! A server over a transport of one's own, beside a server over stdio, in one manager.
//!
//! `cargo run -p mcpool --example custom_transport -- [COMMAND [ARGUMENT…]]`; without a command the
//! one over the Unix socket is alone.

#[cfg(unix)]
mod connector;

#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::{sync::Arc, time::Duration};

    use connector::UnixConnector;
    use mcpool::{ConnectionManager, Refresh, ServerSpec, StandardFactory, StdioSpec};

    let directory = tempfile::tempdir()?;
    let path = directory.path().join("clock");
    tokio::spawn(server::run(tokio::net::UnixListener::bind(&path)?));

    let mut specs = vec![ServerSpec::custom("clock", Arc::new(UnixConnector(path)))?];
    let mut words = std::env::args().skip(1);
    if let Some(command) = words.next() {
        specs.push(ServerSpec::stdio(
            "other",
            StdioSpec::new(command).with_args(words),
        )?);
    }
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    for (name, error) in manager.start(specs).await?.failed() {
        println!("{name} is not there: {error}");
    }
    for entry in manager.tools(Refresh::IfStale).await.entries.iter() {
        println!("{}", entry.qualified_name);
    }
    let now = manager.call("clock__now", ()).await?;
    println!("{}", now.raw().get());
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("there are no Unix sockets here");
}

/// A server with one tool. It speaks the era of `initialize`.
#[cfg(unix)]
mod server {
    use std::time::{SystemTime, UNIX_EPOCH};

    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::{UnixListener, UnixStream},
    };

    pub(super) async fn run(listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    }

    async fn serve(stream: UnixStream) {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(message) = serde_json::from_str::<Value>(&line) else {
                return;
            };
            // A notification wants no answer.
            let Some(id) = message.get("id") else {
                continue;
            };
            let mut answer = answer(&message);
            answer["jsonrpc"] = json!("2.0");
            answer["id"] = id.clone();
            if write
                .write_all(format!("{answer}\n").as_bytes())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    fn answer(message: &Value) -> Value {
        match message["method"].as_str() {
            Some("initialize") => json!({"result": {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "clock", "version": "1"},
            }}),
            Some("tools/list") => json!({"result": {
                "tools": [{"name": "now", "inputSchema": {"type": "object"}}],
            }}),
            Some("tools/call") => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let text = format!("{} seconds since 1970", now.as_secs());
                json!({"result": {"content": [{"type": "text", "text": text}]}})
            }
            _ => json!({"error": {"code": -32601, "message": "not known here"}}),
        }
    }
}
