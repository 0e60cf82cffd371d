//! `mcpool bench SERVER TOOL`: how fast a server answers through mcpool.

mod figures;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mcpool::{ServerHandle, Verbs as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Outcome, call};
use crate::{
    app::App,
    args::BenchArgs,
    arguments::Object,
    exit::{Exit, Failure},
    render::out,
    text,
};
use figures::{Figures, Measured};

/// Two servers take turns, so that what else the machine does meets both.
const TURNS: usize = 10;

/// How many calls run at once at most.
const MAX_CONCURRENCY: usize = 10_000;

/// How much of the work is one turn.
#[derive(Debug, Clone, Copy)]
enum Amount {
    Calls(usize),
    Time(Duration),
}

impl Amount {
    /// The part of it that one of so many turns is, the first ones a call larger.
    fn turn(self, turn: usize, of: usize) -> Self {
        match self {
            Self::Calls(calls) => Self::Calls(calls / of + usize::from(turn < calls % of)),
            Self::Time(time) => Self::Time(time / u32::try_from(of).unwrap_or(u32::MAX)),
        }
    }
}

/// What is called.
#[derive(Clone)]
struct Side {
    server: ServerHandle,
    tool: Arc<str>,
    arguments: Arc<Object>,
}

impl Side {
    /// How long one call took, and what went wrong.
    async fn call(&self) -> (Duration, Option<String>) {
        let start = Instant::now();
        let result = self.server.call_tool(&self.tool, &*self.arguments).await;
        let took = start.elapsed();
        let error = match result {
            Ok(result) if result.is_error == Some(true) => {
                let said = result.content.iter().find_map(|block| block.as_text());
                let said = said.map_or("without a word", |text| text.text.as_str());
                Some(format!("the tool reported an error: {said}"))
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        (took, error)
    }

    /// Calls until the amount is done, or until it is stopped; calls under way are finished.
    async fn run(&self, amount: Amount, at_once: usize, stop: &CancellationToken) -> Measured {
        let (calls, end) = match amount {
            Amount::Calls(calls) => (calls, None),
            Amount::Time(time) => (usize::MAX, Instant::now().checked_add(time)),
        };
        let next = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..at_once.min(calls) {
            let (side, next, stop) = (self.clone(), Arc::clone(&next), stop.clone());
            workers.spawn(async move {
                let mut measured = Measured::default();
                while !stop.is_cancelled()
                    && end.is_none_or(|end| Instant::now() < end)
                    && next.fetch_add(1, Ordering::Relaxed) < calls
                {
                    let (took, error) = side.call().await;
                    measured.add(took, error);
                }
                measured
            });
        }
        let mut all = Measured::default();
        for measured in workers.join_all().await {
            all.join(measured);
        }
        all.wall += start.elapsed();
        all
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, args: BenchArgs) -> Outcome {
    let amount = match args.duration {
        Some(time) if time.is_zero() => {
            return Err(Failure::usage(text!("-d: it has to be longer than 0 s")));
        }
        Some(time) => Amount::Time(time),
        None if args.calls == 0 => {
            return Err(Failure::usage(text!("-n: at least one call is needed")));
        }
        None => Amount::Calls(args.calls),
    };
    if args.concurrency == 0 {
        return Err(Failure::usage(text!(
            "-c: at least one call at once is needed"
        )));
    }
    let at_once = args.concurrency.min(MAX_CONCURRENCY);
    let start = Instant::now();
    let found = app
        .connected_tool(
            &args.server,
            args.tool,
            args.pairs,
            args.args,
            args.against.as_deref(),
        )
        .await?;
    let connect = start.elapsed();
    let check = !args.no_check;
    let arguments = call::fitting(&found.server, &found.tool, &found.given, check).await?;
    let arguments = Arc::new(arguments);
    let tool: Arc<str> = found.tool.into();
    let side = |server| Side {
        server,
        tool: Arc::clone(&tool),
        arguments: Arc::clone(&arguments),
    };
    let sides: Vec<Side> = std::iter::once(found.server)
        .chain(found.beside)
        .map(side)
        .collect();

    // From here on Ctrl-C ends the measuring, and what there is is shown.
    let stop = app.on_interrupt();
    for side in &sides {
        side.run(Amount::Calls(args.warmup), at_once, &stop).await;
    }
    let turns = if sides.len() > 1 { TURNS } else { 1 };
    let mut measured: Vec<Measured> = sides.iter().map(|_| Measured::default()).collect();
    for turn in 0..turns {
        for (side, measured) in sides.iter().zip(&mut measured) {
            let part = amount.turn(turn, turns);
            measured.join(side.run(part, at_once, &stop).await);
        }
    }
    let names = std::iter::once(args.server.as_str()).chain(args.against.as_deref());
    let figures: Vec<Figures<'_>> = names
        .zip(&measured)
        .map(|(name, measured)| Figures { name, measured })
        .collect();
    if app.global.json {
        out::document(&figures::to_json(
            &figures,
            at_once,
            connect,
            stop.is_cancelled(),
        ))?;
    } else {
        out::print(&figures::to_text(&figures, at_once, connect))?;
        for figures in &figures {
            if let Some(error) = &figures.measured.first_error {
                out::tell(&text!("{}: the first error: {}\n", figures.name, error));
            }
        }
    }
    Ok(match measured.iter().any(|measured| measured.errors > 0) {
        _ if stop.is_cancelled() => Exit::Signal(2),
        true => Exit::ToolError,
        false => Exit::Good,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_all_of_the_work() {
        for calls in [0, 1, 9, 10, 11, 1003] {
            let sum: usize = (0..TURNS)
                .map(|turn| match Amount::Calls(calls).turn(turn, TURNS) {
                    Amount::Calls(calls) => calls,
                    Amount::Time(_) => 0,
                })
                .sum();
            assert_eq!(sum, calls);
        }
    }
}
