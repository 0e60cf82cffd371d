//! The problems of a configuration that cannot be used, as an error.

use std::{error::Error as StdError, fmt};

use mcpool_core::{Error, ErrorKind};

use crate::{problem::Problem, problem_summary::ProblemSummary};

/// All problems of a configuration that could not be used: the source of the
/// [`mcpool_core::Error`] that a strict load gives.
#[derive(Debug, Clone)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The error for these problems: its message names the first and counts the rest.
    pub(crate) fn into_error(self) -> Error {
        let worst = self.0.iter().max_by_key(|problem| problem.severity);
        let message = match worst {
            // `max_by_key` gives the last of equals; a person wants the first.
            Some(worst) => {
                let first = self
                    .0
                    .iter()
                    .find(|problem| problem.severity == worst.severity)
                    .unwrap_or(worst);
                let help = first
                    .help
                    .as_ref()
                    .map(|help| format!("; {help}"))
                    .unwrap_or_default();
                match self.0.len() - 1 {
                    0 => format!("{first}{help}"),
                    more => format!("{first}{help} (and {more} more; see `mcpool config check`)"),
                }
            }
            None => "the configuration cannot be used".to_owned(),
        };
        Error::new(ErrorKind::InvalidSpec, message).with_source(self)
    }
}

/// The first of them in one line, and how many more there are.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = ProblemSummary::of(self.0.iter());
        for (index, problem) in summary.shown.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        match summary.left_out() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl StdError for Problems {}
