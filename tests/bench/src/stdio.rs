//! Calls over stdio.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use mcpool::{
    Client, ClientFactory as _, ConnectOptions, ConnectionManager, ServerHandle, ServerSpec,
    StandardFactory, StdioSpec,
};
use rmcp::{ServiceExt as _, transport::TokioChildProcess};
use serde::{Deserialize, Serialize};

use crate::{
    Outcome,
    contender::{Begun, Rmcp, Took, calls, one},
    process::Running,
    rounds::{Options, Round, Series},
    tokio_limit::TokioLimit,
};

/// The bare minimum: writes a line, reads a line, parses it.
pub(crate) struct Limit {
    _process: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: u64,
    line: String,
}

#[derive(Deserialize)]
pub(crate) struct Answer {
    id: u64,
    pub(crate) result: rmcp::model::CallToolResult,
}

/// The handshake of MCP 2025-11-25.
pub(crate) const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"limit","version":"1"}}}"#,
    "\n"
);
pub(crate) const INITIALIZED: &str = concat!(
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    "\n"
);

/// What a limit sends.
#[derive(Serialize)]
pub(crate) struct Call<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'static str,
    params: Params<'a>,
}

#[derive(Serialize)]
struct Params<'a> {
    name: &'static str,
    arguments: Arguments<'a>,
}

#[derive(Serialize)]
struct Arguments<'a> {
    text: &'a str,
}

impl<'a> Call<'a> {
    pub(crate) fn new(id: u64, text: &'a str) -> Self {
        Self {
            jsonrpc: "2.0",
            id,
            method: "tools/call",
            params: Params {
                name: "echo",
                arguments: Arguments { text },
            },
        }
    }
}

impl Limit {
    pub(crate) fn start() -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve-stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().ok_or("no stdin")?;
        let output = child.stdout.take().ok_or("no stdout")?;
        let mut output = BufReader::with_capacity(64 * 1024, output);
        input.write_all(INITIALIZE.as_bytes())?;
        output.read_line(&mut String::new())?;
        input.write_all(INITIALIZED.as_bytes())?;
        Ok(Self {
            _process: Running(child),
            input,
            output,
            next: 0,
            line: String::new(),
        })
    }

    fn send(&mut self, text: &str) -> Outcome {
        self.next += 1;
        let mut line = serde_json::to_string(&Call::new(self.next, text))?;
        line.push('\n');
        Ok(self.input.write_all(line.as_bytes())?)
    }

    fn receive(&mut self) -> Outcome<u64> {
        self.line.clear();
        self.output.read_line(&mut self.line)?;
        let answer: Answer = serde_json::from_str(&self.line)?;
        one(&answer.result.content)?;
        Ok(answer.id)
    }

    /// So many calls, so many of them in flight.
    pub(crate) fn run(&mut self, text: &str, calls: u32, in_flight: u32) -> Outcome<Took> {
        let began = Begun::now()?;
        let first = in_flight.min(calls);
        for _ in 0..first {
            self.send(text)?;
        }
        for _ in first..calls {
            self.receive()?;
            self.send(text)?;
        }
        for _ in 0..first {
            self.receive()?;
        }
        began.took()
    }
}

/// This program as a server over stdio.
pub(crate) fn spec(name: &str) -> Outcome<ServerSpec> {
    let program = std::env::current_exe()?;
    let command = program
        .to_str()
        .ok_or("the path of this program is no text")?;
    let stdio = StdioSpec::new(command).with_args(["serve-stdio"]);
    Ok(ServerSpec::stdio(name, stdio)?)
}

pub(crate) async fn run(options: &Options) -> Outcome {
    let mut limit = Limit::start()?;
    let tokio_limit = TokioLimit::start().await?;
    let mut child = tokio::process::Command::new(std::env::current_exe()?);
    child.arg("serve-stdio");
    let rmcp: Rmcp = Arc::new(().serve(TokioChildProcess::new(child)?).await?);
    let factory = StandardFactory::new();
    let client: Arc<dyn Client> = factory
        .connect(&spec("bench")?, &ConnectOptions::new())
        .await?;
    let manager = ConnectionManager::new(Arc::new(factory));
    manager.start(vec![spec("bench")?]).await?.all_connected()?;
    let handle: ServerHandle = manager.server("bench")?;

    let small = "0123456789abcdef";
    let megabyte = "x".repeat(1_000_000);
    for (work, text, count, in_flight) in [
        ("stdio, 16 B, one at a time", small, 2_000, 1),
        ("stdio, 16 B, 32 in flight", small, 16_000, 32),
        ("stdio, 1 MB both ways", &megabyte, 20, 1),
    ] {
        if !options.wants(work) {
            continue;
        }
        let text: Arc<str> = text.into();
        let mut series = Series::default();
        // The first round warms up and does not count.
        for round in 0..=options.rounds {
            let took = Round {
                limit: tokio::task::block_in_place(|| limit.run(&text, count, in_flight))?,
                tokio: Some(calls(&tokio_limit, &text, count, in_flight).await?),
                rmcp: calls(&rmcp, &text, count, in_flight).await?,
                client: calls(&client, &text, count, in_flight).await?,
                manager: calls(&handle, &text, count, in_flight).await?,
            };
            if round > 0 {
                series.add(took, count);
            }
        }
        series.print(work);
    }
    client.close().await;
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
