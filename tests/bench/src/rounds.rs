//! Rounds, medians and the table.

use std::path::PathBuf;

use crate::{Outcome, contender::Took};

/// What was asked for on the command line.
pub(crate) struct Options {
    /// How many rounds are counted.
    pub(crate) rounds: usize,
    only: Option<String>,
    /// Where the proxies of other makers are installed.
    pub(crate) peers: Option<PathBuf>,
}

impl Options {
    /// Reads `--rounds N`, `--only TEXT` and `--peers DIR`.
    pub(crate) fn parse(args: &[String]) -> Outcome<Self> {
        let mut options = Self {
            rounds: 15,
            only: None,
            peers: None,
        };
        for pair in args.chunks(2) {
            match pair {
                [flag, count] if flag == "--rounds" => options.rounds = count.parse()?,
                [flag, text] if flag == "--only" => options.only = Some(text.clone()),
                [flag, dir] if flag == "--peers" => options.peers = Some(dir.into()),
                _ => return Err("the options are --rounds N, --only TEXT and --peers DIR".into()),
            }
        }
        options.rounds = options.rounds.max(1);
        Ok(options)
    }

    /// Whether a work is measured: all are, unless `--only` names a part of some.
    pub(crate) fn wants(&self, work: &str) -> bool {
        self.only.as_ref().is_none_or(|only| work.contains(only))
    }
}

/// What the contenders took in one round.
pub(crate) struct Round {
    /// Only writes, reads and parses; or bare reqwest.
    pub(crate) limit: Took,
    /// The same for many callers on tokio, where the limit is no such client itself.
    pub(crate) tokio: Option<Took>,
    pub(crate) rmcp: Took,
    pub(crate) client: Took,
    pub(crate) manager: Took,
}

/// What the contenders took in each round.
#[derive(Default)]
pub(crate) struct Series {
    rounds: Vec<Round>,
    calls: f64,
}

impl Series {
    /// One round of so many calls; as many in each.
    pub(crate) fn add(&mut self, round: Round, calls: u32) {
        self.calls = f64::from(calls.max(1));
        self.rounds.push(round);
    }

    /// Prints the rows of a work: its time, and the CPU of the client's process. The ratios are
    /// medians over the rounds as well: what disturbs a round disturbs all in it.
    pub(crate) fn print(&self, work: &str) {
        for (is_cpu, work) in [(false, work.to_owned()), (true, format!("{work}: CPU"))] {
            let micros = |took: &Took| {
                let took = if is_cpu { took.cpu } else { took.time };
                took.as_secs_f64() * 1e6 / self.calls
            };
            let over = |of: &dyn Fn(&Round) -> Option<f64>| {
                self.rounds
                    .iter()
                    .map(of)
                    .collect::<Option<_>>()
                    .map(median)
            };
            let time =
                |of: fn(&Round) -> Option<&Took>| cell(over(&|round| of(round).map(micros)), time);
            let ratio = |by: fn(&Round) -> Option<&Took>| {
                let ratio = over(&|round| Some(micros(&round.client) / micros(by(round)?)));
                cell(ratio, |ratio| format!("{ratio:.2}"))
            };
            let manager = over(&|round| Some(micros(&round.manager) - micros(&round.client)));
            row(&[
                &work,
                &time(|round| Some(&round.client)),
                &time(|round| Some(&round.limit)),
                &time(|round| round.tokio.as_ref()),
                &time(|round| Some(&round.rmcp)),
                &ratio(|round| Some(&round.limit)),
                &ratio(|round| round.tokio.as_ref()),
                &ratio(|round| Some(&round.rmcp)),
                &cell(manager, |manager| format!("{manager:+.1} µs")),
            ]);
        }
    }
}

/// The head of the table that all rows make: Markdown, as `docs/measurements.md` has it.
pub(crate) fn head() {
    row(&[
        "work",
        "mcpool",
        "limit",
        "limit, tokio",
        "rmcp",
        "× limit",
        "× limit, tokio",
        "× rmcp",
        "manager",
    ]);
    row(&["---"; 9]);
}

fn cell(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or("–".to_owned(), show)
}

/// One row. `–` stands for what there is none of.
pub(crate) fn row(cells: &[&str]) {
    println!("| {} |", cells.join(" | "));
}

/// The row of a figure for which less is better, and of which there is one each.
pub(crate) fn figure(work: &str, unit: &str, ours: f64, limit: Option<f64>, rmcp: Option<f64>) {
    let value = |value: f64| format!("{value:.1} {unit}");
    let ratio = |other| cell(other, |other| format!("{:.2}", ours / other));
    row(&[
        work,
        &value(ours),
        &cell(limit, value),
        "–",
        &cell(rmcp, value),
        &ratio(limit),
        "–",
        &ratio(rmcp),
        "–",
    ]);
}

/// The median; not a number when there is nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn time(micros: f64) -> String {
    if micros < 1_000.0 {
        format!("{micros:.1} µs")
    } else {
        format!("{:.2} ms", micros / 1_000.0)
    }
}
