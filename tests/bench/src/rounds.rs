//! Rounds, medians and the table.

use std::time::Duration;

use crate::Outcome;

/// How many rounds, from `--rounds N`.
pub(crate) fn count(args: &[String]) -> Outcome<usize> {
    match args {
        [] => Ok(15),
        [flag, count] if flag == "--rounds" => Ok(count.parse::<usize>()?.max(1)),
        _ => Err("the one option is --rounds N".into()),
    }
}

/// What one contender took in each round, a call.
pub(crate) struct Series {
    name: &'static str,
    took: Vec<Duration>,
}

impl Series {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            took: Vec::new(),
        }
    }

    /// One round of so many calls.
    pub(crate) fn add(&mut self, whole: Duration, calls: u32) {
        self.took.push(whole / calls.max(1));
    }

    fn median(&self) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort();
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        middle.as_secs_f64() * 1e6
    }
}

/// Prints a line for each contender: its median in microseconds a call, and its ratio to the
/// first, which is the limit, and to the second, which is rmcp.
pub(crate) fn table(work: &str, series: &[Series]) {
    println!("\n{work}");
    println!(
        "  {:<18} {:>10} {:>9} {:>9}",
        "", "µs a call", "× limit", "× rmcp"
    );
    let limit = series.first().map_or(f64::NAN, Series::median);
    let rmcp = series.get(1).map_or(f64::NAN, Series::median);
    for one in series {
        let median = one.median();
        println!(
            "  {:<18} {median:>10.2} {:>9.2} {:>9.2}",
            one.name,
            median / limit,
            median / rmcp
        );
    }
}
