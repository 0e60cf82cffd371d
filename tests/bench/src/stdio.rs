//! Calls over stdio.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use mcpool::{
    Client, ClientFactory as _, ConnectOptions, ConnectionManager, Requester, ServerHandle,
    ServerSpec, StandardFactory, StdioSpec, Verbs as _,
};
use rmcp::{
    RoleClient, ServiceExt as _, model::CallToolRequestParams, service::RunningService,
    transport::TokioChildProcess,
};
use serde::Deserialize;
use serde_json::json;

use crate::{Outcome, rounds};

/// The bare minimum: writes a line, reads a line, parses it.
struct Limit {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: u64,
    line: String,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    result: rmcp::model::CallToolResult,
}

impl Limit {
    fn start() -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve-stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no stdin")?;
        let output = child.stdout.take().ok_or("no stdout")?;
        Ok(Self {
            child,
            input,
            output: BufReader::with_capacity(64 * 1024, output),
            next: 0,
            line: String::new(),
        })
    }

    fn send(&mut self, text: &str) -> Outcome {
        self.next += 1;
        let mut line = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#,
            self.next
        );
        line.push('\n');
        Ok(self.input.write_all(line.as_bytes())?)
    }

    fn receive(&mut self) -> Outcome<u64> {
        self.line.clear();
        self.output.read_line(&mut self.line)?;
        let answer: Answer = serde_json::from_str(&self.line)?;
        if answer.result.content.len() != 1 {
            return Err("a wrong answer".into());
        }
        Ok(answer.id)
    }

    /// So many calls, so many of them in flight.
    fn run(&mut self, text: &str, calls: u32, in_flight: u32) -> Outcome<Duration> {
        let began = Instant::now();
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
        Ok(began.elapsed())
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Rmcp = Arc<RunningService<RoleClient, ()>>;

async fn rmcp_call(client: &Rmcp, text: &str) -> Outcome {
    let arguments = json!({ "text": text }).as_object().cloned();
    let mut params = CallToolRequestParams::new("echo");
    params.arguments = arguments;
    let result = client.call_tool(params).await?;
    if result.content.len() != 1 {
        return Err("a wrong answer".into());
    }
    Ok(())
}

pub(crate) async fn mcpool_call<R: Requester + ?Sized>(client: &R, text: &str) -> Outcome {
    let result = client.call_tool("echo", json!({ "text": text })).await?;
    if result.content.len() != 1 {
        return Err("a wrong answer".into());
    }
    Ok(())
}

/// Runs calls of a contender, so many of them in flight.
pub(crate) async fn calls<C, F, Fut>(
    client: &C,
    calls: u32,
    in_flight: u32,
    call: F,
) -> Outcome<Duration>
where
    C: Clone + Send + 'static,
    F: Fn(C) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let began = Instant::now();
    if in_flight == 1 {
        for _ in 0..calls {
            call(client.clone()).await?;
        }
        return Ok(began.elapsed());
    }
    let mut workers = Vec::new();
    for _ in 0..in_flight {
        let (client, call) = (client.clone(), call.clone());
        workers.push(tokio::spawn(async move {
            for _ in 0..calls / in_flight {
                call(client.clone()).await?;
            }
            Outcome::Ok(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    Ok(began.elapsed())
}

fn spec() -> Outcome<ServerSpec> {
    let program = std::env::current_exe()?;
    let command = program
        .to_str()
        .ok_or("the path of this program is no text")?;
    let stdio = StdioSpec::new(command).with_args(["serve-stdio"]);
    Ok(ServerSpec::stdio("bench", stdio)?)
}

pub(crate) async fn run(rounds: usize) -> Outcome {
    let mut limit = Limit::start()?;
    let mut child = tokio::process::Command::new(std::env::current_exe()?);
    child.arg("serve-stdio");
    let rmcp: Rmcp = Arc::new(().serve(TokioChildProcess::new(child)?).await?);
    let factory = StandardFactory::new();
    let client: Arc<dyn Client> = factory.connect(&spec()?, &ConnectOptions::new()).await?;
    let manager = ConnectionManager::new(Arc::new(factory));
    manager.start(vec![spec()?]).await?.all_connected()?;
    let handle: ServerHandle = manager.server("bench")?;

    let megabyte = "x".repeat(1_000_000);
    for (work, text, calls_each, in_flight) in [
        ("stdio, 16 B, one at a time", "0123456789abcdef", 2_000, 1),
        ("stdio, 16 B, 32 in flight", "0123456789abcdef", 16_000, 32),
        ("stdio, 1 MB both ways", megabyte.as_str(), 20, 1),
    ] {
        let mut series = [
            rounds::Series::new("limit"),
            rounds::Series::new("rmcp"),
            rounds::Series::new("mcpool client"),
            rounds::Series::new("mcpool manager"),
        ];
        let text: Arc<str> = text.into();
        // The first round warms up and does not count.
        for round in 0..=rounds {
            let took = [
                tokio::task::block_in_place(|| limit.run(&text, calls_each, in_flight))?,
                {
                    let text = Arc::clone(&text);
                    calls(&rmcp, calls_each, in_flight, move |client| {
                        let text = Arc::clone(&text);
                        async move { rmcp_call(&client, &text).await }
                    })
                    .await?
                },
                {
                    let text = Arc::clone(&text);
                    calls(&client, calls_each, in_flight, move |client| {
                        let text = Arc::clone(&text);
                        async move { mcpool_call(&*client, &text).await }
                    })
                    .await?
                },
                {
                    let text = Arc::clone(&text);
                    calls(&handle, calls_each, in_flight, move |handle| {
                        let text = Arc::clone(&text);
                        async move { mcpool_call(&handle, &text).await }
                    })
                    .await?
                },
            ];
            if round > 0 {
                for (one, took) in series.iter_mut().zip(took) {
                    one.add(took, calls_each);
                }
            }
        }
        rounds::table(work, &series);
    }
    client.close().await;
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
