//! Callers that call without a pause, what they are given, and what was really run.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mcpool_core::{Delivery, Error, ErrorKind, Verbs as _};
use mcpool_manager::ServerHandle;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::PATIENCE;

/// What is known of a call that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// With whether it is the answer to this call.
    Answered(bool),
    /// Said to be not sent, or rejected.
    NotRun,
    Unknown,
}

/// What callers share.
struct Book {
    next: AtomicU64,
    stop: AtomicBool,
    ended: Mutex<Vec<(String, Known)>>,
    /// For each server handle, when the newest call that was answered began, and when it ended.
    newest: Vec<Mutex<Option<(Instant, Instant)>>>,
}

/// A load that runs.
pub(crate) struct Load {
    book: Arc<Book>,
    callers: Vec<JoinHandle<()>>,
}

/// What to call: a tool, and results of so many bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) tool: &'static str,
    pub(crate) bytes: usize,
}

/// The tool of the fixture that writes its key into the journal.
pub(crate) const COUNT: Work = Work {
    tool: "count",
    bytes: 0,
};

impl Load {
    /// Starts so many callers, in turn on each handle.
    pub(crate) fn start(servers: &[ServerHandle], callers: usize, work: Work) -> Self {
        let book = Arc::new(Book {
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            ended: Mutex::default(),
            newest: servers.iter().map(|_| Mutex::default()).collect(),
        });
        let callers = (0..callers).map(|caller| {
            let at = caller % servers.len();
            let (server, book) = (servers[at].clone(), Arc::clone(&book));
            tokio::spawn(async move { book.calls(at, &server, work).await })
        });
        Self {
            callers: callers.collect(),
            book,
        }
    }

    /// How long after `fault` the last of the servers had answered a call that began after it.
    pub(crate) async fn recovered(&self, fault: Instant) -> Duration {
        let mut last = Duration::ZERO;
        for newest in &self.book.newest {
            loop {
                let seen = *newest.lock().unwrap();
                match seen {
                    Some((began, ended)) if began >= fault => {
                        last = last.max(ended.duration_since(fault));
                        break;
                    }
                    _ => assert!(fault.elapsed() < PATIENCE * 2, "nothing goes on"),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        last
    }

    /// Waits until every server answers.
    pub(crate) async fn goes_on(&self) {
        self.recovered(Instant::now()).await;
    }

    /// Ends it, and gives what became of each call.
    pub(crate) async fn end(self) -> Vec<(String, Known)> {
        self.book.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            let ended = tokio::time::timeout(PATIENCE, caller).await;
            ended.expect("a call hangs").unwrap();
        }
        std::mem::take(&mut *self.book.ended.lock().unwrap())
    }
}

impl Book {
    async fn calls(&self, at: usize, server: &ServerHandle, work: Work) {
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let key = format!("k{number}");
            let arguments = json!({"key": key, "ms": number % 20, "bytes": work.bytes});
            let began = Instant::now();
            let known = known(call(server, work.tool, arguments).await, &key);
            match known {
                Known::Answered(_) => {
                    let mut newest = self.newest[at].lock().unwrap();
                    if newest.is_none_or(|(before, _)| began > before) {
                        *newest = Some((began, Instant::now()));
                    }
                }
                // Nothing to spin on.
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
            self.ended.lock().unwrap().push((key, known));
        }
    }
}

async fn call(server: &ServerHandle, tool: &str, arguments: Value) -> Result<Value, Error> {
    let reply = server.call_tool(tool, arguments).await?;
    reply.raw().parse()
}

/// What the error says, or for a gateway the result.
fn known(outcome: Result<Value, Error>, key: &str) -> Known {
    match outcome {
        // A JSON-RPC error: a gateway that does not know the tool yet.
        Err(error) if error.kind() == ErrorKind::Rpc => Known::NotRun,
        Err(error) => match error.delivery() {
            Delivery::NotSent | Delivery::Rejected => Known::NotRun,
            _ => Known::Unknown,
        },
        Ok(result) => match result["_meta"]["mcpool/delivery"].as_str() {
            Some("not_sent" | "rejected") => Known::NotRun,
            Some(_) => Known::Unknown,
            None => {
                let text = result["content"][0]["text"].as_str().unwrap_or_default();
                Known::Answered(text.split(' ').next() == Some(key))
            }
        },
    }
}

/// What became of all calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: usize,
    pub(crate) not_run: usize,
    pub(crate) unknown: usize,
    /// Of the unknown ones, how many had run.
    pub(crate) unknown_and_ran: usize,
    /// Answered and not run, another call's answer, said not to have run and run, or run twice.
    pub(crate) wrong: Vec<String>,
}

impl Tally {
    /// Holds what callers were given against what servers wrote down.
    pub(crate) fn of(ended: &[(String, Known)], journal: &Path) -> Self {
        let journal = std::fs::read_to_string(journal).unwrap_or_default();
        let mut ran: HashMap<&str, usize> = HashMap::new();
        for key in journal.lines() {
            *ran.entry(key).or_default() += 1;
        }
        let mut tally = Self::default();
        for (key, known) in ended {
            let times = ran.remove(key.as_str()).unwrap_or_default();
            let is_right = match known {
                Known::Answered(right) => {
                    tally.answered += 1;
                    *right && times == 1
                }
                Known::NotRun => {
                    tally.not_run += 1;
                    times == 0
                }
                Known::Unknown => {
                    tally.unknown += 1;
                    tally.unknown_and_ran += times.min(1);
                    times <= 1
                }
            };
            if !is_right {
                let wrong = format!("{key} ended as {known:?} and ran {times} times");
                tally.wrong.push(wrong);
            }
        }
        // What ran and was never asked.
        tally
            .wrong
            .extend(ran.keys().map(|key| format!("{key} ran")));
        tally
    }
}

/// Times of recovery, for people: the median and the longest.
pub(crate) fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) => {
            format!("recovery: median {median:.2?}, longest {longest:.2?}")
        }
        _ => "no faults".to_owned(),
    }
}
