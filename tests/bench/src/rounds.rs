//! Rounds, medians and the table.

use crate::{Outcome, contender::Took};

/// What was asked for on the command line.
pub(crate) struct Options {
    /// How many rounds are counted.
    pub(crate) rounds: usize,
    only: Option<String>,
}

impl Options {
    /// Reads `--rounds N` and `--only TEXT`.
    pub(crate) fn parse(args: &[String]) -> Outcome<Self> {
        let mut options = Self {
            rounds: 15,
            only: None,
        };
        for pair in args.chunks(2) {
            match pair {
                [flag, count] if flag == "--rounds" => options.rounds = count.parse()?,
                [flag, text] if flag == "--only" => options.only = Some(text.clone()),
                _ => return Err("the options are --rounds N and --only TEXT".into()),
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

/// What the contenders took in each round, a call.
#[derive(Default)]
pub(crate) struct Series {
    /// In microseconds: by the clock on the wall, and of CPU.
    rounds: Vec<[[f64; 4]; 2]>,
}

/// The contenders, in the order of a round.
const LIMIT: usize = 0;
const RMCP: usize = 1;
const CLIENT: usize = 2;
const MANAGER: usize = 3;

impl Series {
    /// One round of so many calls.
    pub(crate) fn add(&mut self, took: [Took; 4], calls: u32) {
        let calls = f64::from(calls.max(1));
        self.rounds.push([
            took.map(|took| took.time.as_secs_f64() * 1e6 / calls),
            took.map(|took| took.cpu.as_secs_f64() * 1e6 / calls),
        ]);
    }

    /// Prints the rows of a work: its time, and the CPU of the client's process. The ratios are
    /// medians over the rounds as well: what disturbs a round disturbs all in it.
    pub(crate) fn print(&self, work: &str) {
        for (what, work) in [(0, work.to_owned()), (1, format!("{work}: CPU"))] {
            let median = |of: &dyn Fn(&[f64; 4]) -> f64| {
                median(self.rounds.iter().map(|round| of(&round[what])).collect())
            };
            let time = |which: usize| time(median(&|round| round[which]));
            let ratio = |by: usize| format!("{:.2}", median(&|round| round[CLIENT] / round[by]));
            let manager = median(&|round| round[MANAGER] - round[CLIENT]);
            row([
                &work,
                &time(CLIENT),
                &time(LIMIT),
                &time(RMCP),
                &ratio(LIMIT),
                &ratio(RMCP),
                &format!("{manager:+.1} µs"),
            ]);
        }
    }
}

/// The head of the table that all rows make: Markdown, as `docs/measurements.md` has it.
pub(crate) fn head() {
    row([
        "work", "mcpool", "limit", "rmcp", "× limit", "× rmcp", "manager",
    ]);
    row(["---"; 7]);
}

/// One row. `–` stands for what there is none of.
pub(crate) fn row(cells: [&str; 7]) {
    println!("| {} |", cells.join(" | "));
}

/// The row of a figure for which less is better, and of which there is one each.
pub(crate) fn figure(work: &str, unit: &str, ours: f64, limit: Option<f64>, rmcp: Option<f64>) {
    let value = |value: f64| format!("{value:.1} {unit}");
    let cell = |other: Option<f64>| other.map_or("–".to_owned(), value);
    let ratio =
        |other: Option<f64>| other.map_or("–".to_owned(), |other| format!("{:.2}", ours / other));
    row([
        work,
        &value(ours),
        &cell(limit),
        &cell(rmcp),
        &ratio(limit),
        &ratio(rmcp),
        "–",
    ]);
}

/// The median; not a number when there is nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn time(micros: f64) -> String {
    if micros < 1_000.0 {
        format!("{micros:.1} µs")
    } else {
        format!("{:.2} ms", micros / 1_000.0)
    }
}
