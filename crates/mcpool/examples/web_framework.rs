//! A pool behind a web application: one for the process, shared by all handlers.
//!
//! `cargo run -p mcpool --example web_framework`

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use mcpool::{ConnectionManager, Recovery, Refresh, ServerSpec, StandardFactory};
use mcpool_testkit::{Behavior, fixtures::stdio::StdioFixture};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

async fn tools(State(pool): State<ConnectionManager>) -> Json<Value> {
    let tools = pool.tools(Refresh::IfStale).await;
    let names = tools.entries.iter().map(|entry| &entry.qualified_name);
    Json(json!(names.collect::<Vec<_>>()))
}

async fn call(
    State(pool): State<ConnectionManager>,
    Path(tool): Path<String>,
    Json(arguments): Json<Value>,
) -> Result<Json<Value>, (StatusCode, String)> {
    // When the browser goes away, axum drops this future, and the call is cancelled.
    match pool.call(&tool, arguments).await {
        Ok(reply) => Ok(Json(json!(reply.content))),
        Err(error) => {
            let status = match error.recovery() {
                Recovery::Login => StatusCode::UNAUTHORIZED,
                _ => StatusCode::BAD_GATEWAY,
            };
            Err((status, error.to_string()))
        }
    }
}

fn routes(pool: ConnectionManager) -> Router {
    Router::new()
        .route("/tools", get(tools))
        .route("/tools/{tool}", post(call))
        .with_state(pool)
}

/// The specs as the application knows them; with the same ones `start` does nothing.
fn specs(server: &StdioFixture) -> Vec<ServerSpec> {
    vec![server.spec("files")]
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = StdioFixture::new(Behavior::new());
    // The same manager however often it is asked for, also in a front end that runs its script
    // again on every click.
    let pool =
        || ConnectionManager::global(|| ConnectionManager::new(Arc::new(StandardFactory::new())));
    pool().start(specs(&server)).await?.all_connected()?;
    pool().start(specs(&server)).await?.all_connected()?;
    assert_eq!(server.marker().processes().len(), 1);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let application = axum::serve(listener, routes(pool()));
    tokio::spawn(async move { application.await });

    let body = r#"{"message": "hello"}"#;
    let mut browser = TcpStream::connect(address).await?;
    let request = format!(
        "POST /tools/files__echo HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    browser.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    browser.read_to_string(&mut answer).await?;
    println!("{answer}");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello"));

    pool().shutdown(Duration::from_secs(5)).await;
    Ok(())
}
