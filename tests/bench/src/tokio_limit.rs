//! The least that a client of many callers can do over stdio: their requests go through one pipe,
//! and one task reads the answers and hands each to its caller. No deadline, no cancellation, no
//! progress, no bound.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, de::IgnoredAny};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex as AsyncMutex, oneshot},
};

use crate::{
    Outcome,
    contender::{Contender, one},
    stdio::{Answer, Call, INITIALIZE, INITIALIZED},
};

pub(crate) struct TokioLimit {
    /// Killed when it is dropped.
    _child: Child,
    input: AsyncMutex<ChildStdin>,
    next: AtomicU64,
    waiting: Waiting,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<String>>>>;

/// Where a line says whose answer it is.
#[derive(Deserialize)]
struct Envelope {
    id: u64,
    #[serde(rename = "result")]
    _result: IgnoredAny,
}

impl TokioLimit {
    pub(crate) async fn start() -> Outcome<Arc<Self>> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve-stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut input = child.stdin.take().ok_or("no stdin")?;
        let output = child.stdout.take().ok_or("no stdout")?;
        let mut output = BufReader::with_capacity(64 * 1024, output);
        input.write_all(INITIALIZE.as_bytes()).await?;
        output.read_line(&mut String::new()).await?;
        input.write_all(INITIALIZED.as_bytes()).await?;
        let waiting = Waiting::default();
        tokio::spawn(read(output, Arc::clone(&waiting)));
        Ok(Arc::new(Self {
            _child: child,
            input: AsyncMutex::new(input),
            next: AtomicU64::new(1),
            waiting,
        }))
    }
}

async fn read(mut output: BufReader<ChildStdout>, waiting: Waiting) -> Outcome {
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let Envelope { id, .. } = serde_json::from_str(&line)?;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caller) = waiting.remove(&id) {
            // The run has failed when nobody is there.
            let _ = caller.send(line);
        }
    }
}

impl TokioLimit {
    /// The id of the next request.
    pub(crate) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request, a line, and gives the line of its answer.
    pub(crate) async fn exchange(&self, id: u64, line: &str) -> Outcome<String> {
        let (sender, answer) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sender);
        self.input.lock().await.write_all(line.as_bytes()).await?;
        Ok(answer.await?)
    }
}

impl Contender for Arc<TokioLimit> {
    async fn call(&self, text: &str) -> Outcome {
        let id = self.next_id();
        let mut line = serde_json::to_string(&Call::new(id, text))?;
        line.push('\n');
        let answer: Answer = serde_json::from_str(&self.exchange(id, &line).await?)?;
        one(&answer.result.content)
    }
}
