//! Who is measured, and how: calls from tasks of a runtime, as in a server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcpool::{Client, Requester, ServerHandle, Verbs as _};
use nix::sys::resource::{UsageWho, getrusage};
use rmcp::{RoleClient, model::CallToolRequestParams, service::RunningService};
use serde_json::json;

use crate::Outcome;

/// A client that can call the tool `echo`.
pub(crate) trait Contender: Clone + Send + Sync + 'static {
    fn call(&self, text: &str) -> impl Future<Output = Outcome> + Send;
}

pub(crate) type Rmcp = Arc<RunningService<RoleClient, ()>>;

impl Contender for Rmcp {
    async fn call(&self, text: &str) -> Outcome {
        let mut params = CallToolRequestParams::new("echo");
        params.arguments = json!({ "text": text }).as_object().cloned();
        let result = self.call_tool(params).await?;
        one(&result.content)
    }
}

impl Contender for Arc<dyn Client> {
    async fn call(&self, text: &str) -> Outcome {
        mcpool_call(&**self, text).await
    }
}

impl Contender for ServerHandle {
    async fn call(&self, text: &str) -> Outcome {
        mcpool_call(self, text).await
    }
}

async fn mcpool_call<R: Requester + ?Sized>(client: &R, text: &str) -> Outcome {
    let result = client.call_tool("echo", json!({ "text": text })).await?;
    one(&result.content)
}

/// An answer has one block.
pub(crate) fn one<T>(content: &[T]) -> Outcome {
    match content.len() {
        1 => Ok(()),
        _ => Err("a wrong answer".into()),
    }
}

/// What something took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) time: Duration,
    /// Of this process, the kernel's work for it included.
    pub(crate) cpu: Duration,
}

/// Where the clocks stand.
pub(crate) struct Begun(Instant, Duration);

impl Begun {
    pub(crate) fn now() -> Outcome<Self> {
        Ok(Self(Instant::now(), cpu()?))
    }

    pub(crate) fn took(self) -> Outcome<Took> {
        Ok(Took {
            time: self.0.elapsed(),
            cpu: cpu()?.saturating_sub(self.1),
        })
    }
}

fn cpu() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let all = micros(usage.user_time()) + micros(usage.system_time());
    Ok(Duration::from_micros(u64::try_from(all)?))
}

/// Runs calls of a contender, so many of them in flight.
pub(crate) async fn calls<C: Contender>(
    contender: &C,
    text: &Arc<str>,
    calls: u32,
    in_flight: u32,
) -> Outcome<Took> {
    let began = Begun::now()?;
    let mut workers = Vec::new();
    for _ in 0..in_flight {
        let (contender, text) = (contender.clone(), Arc::clone(text));
        workers.push(tokio::spawn(async move {
            for _ in 0..calls / in_flight {
                contender.call(&text).await?;
            }
            Outcome::Ok(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    began.took()
}
