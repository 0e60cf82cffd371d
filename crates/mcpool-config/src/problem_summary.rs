//! Which of many problems are shown: a file can hold the same one ten thousand times.

use std::collections::HashMap;

use crate::problem::{Problem, Severity};

/// The problems that are worth showing one by one, and how many there are besides.
///
/// Of equal problems (same severity, code and message, whatever their servers and places) the first
/// [`EQUAL`](ProblemSummary::EQUAL) are shown, of all together [`TOTAL`](ProblemSummary::TOTAL), errors before
/// warnings before notes. What is shown keeps its order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProblemSummary<'a> {
    /// The problems to show.
    pub shown: Vec<&'a Problem>,
    /// For each problem that has equals which are not shown, its first and how many they are.
    pub equals: Vec<(&'a Problem, usize)>,
    /// How many problems are not shown and are no equals of one that is.
    pub others: usize,
}

impl<'a> ProblemSummary<'a> {
    /// How many of equal problems are shown.
    pub const EQUAL: usize = 3;

    /// How many problems are shown.
    pub const TOTAL: usize = 50;

    /// The summary of these problems.
    #[must_use]
    pub fn of(problems: impl IntoIterator<Item = &'a Problem>) -> Self {
        let problems: Vec<&Problem> = problems.into_iter().collect();
        let mut worst_first: Vec<usize> = (0..problems.len()).collect();
        worst_first.sort_by_key(|index| std::cmp::Reverse(problems[*index].severity));

        let mut kinds: HashMap<Kind<'a>, Count> = HashMap::new();
        let mut shown = Vec::new();
        for index in worst_first {
            let count = kinds.entry(kind(problems[index])).or_default();
            if count.shown < Self::EQUAL && shown.len() < Self::TOTAL {
                count.first.get_or_insert(index);
                count.shown += 1;
                shown.push(index);
            } else {
                count.left_out += 1;
            }
        }
        shown.sort_unstable();
        let mut equals: Vec<(usize, usize)> = Vec::new();
        let mut others = 0;
        for Count {
            first, left_out, ..
        } in kinds.into_values()
        {
            match first {
                Some(first) if left_out > 0 => equals.push((first, left_out)),
                Some(_) => {}
                None => others += left_out,
            }
        }
        equals.sort_unstable();
        Self {
            shown: shown.into_iter().map(|index| problems[index]).collect(),
            equals: equals
                .into_iter()
                .map(|(index, count)| (problems[index], count))
                .collect(),
            others,
        }
    }

    /// How many problems are not shown.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.others + self.equals.iter().map(|(_, count)| count).sum::<usize>()
    }
}

/// What makes problems equal.
type Kind<'a> = (Severity, &'static str, &'a str);

fn kind(problem: &Problem) -> Kind<'_> {
    (problem.severity, problem.code, &problem.message)
}

#[derive(Default)]
struct Count {
    /// The first that is shown.
    first: Option<usize>,
    shown: usize,
    left_out: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_problems_are_counted_after_the_first() {
        let mut problems = vec![Problem::note("n", "first")];
        for index in 0..10 {
            let mut problem = Problem::warning("unknown-field", "no such field `comand`");
            problem.server = Some(format!("s{index}"));
            problems.push(problem);
        }
        problems.push(Problem::error("e", "last"));
        let summary = ProblemSummary::of(&problems);
        let codes: Vec<&str> = summary.shown.iter().map(|problem| problem.code).collect();
        assert_eq!(
            codes,
            ["n", "unknown-field", "unknown-field", "unknown-field", "e"]
        );
        assert_eq!(summary.equals, [(&problems[1], 7)]);
        assert_eq!((summary.others, summary.left_out()), (0, 7));
    }

    #[test]
    fn of_many_different_problems_the_worst_are_shown() {
        let mut problems: Vec<Problem> = (0..200)
            .map(|index| Problem::warning("w", format!("number {index}")))
            .collect();
        problems.push(Problem::error("e", "the last"));
        let summary = ProblemSummary::of(&problems);
        assert_eq!(summary.shown.len(), ProblemSummary::TOTAL);
        assert_eq!(summary.shown.last().unwrap().code, "e");
        assert_eq!((summary.equals.len(), summary.others), (0, 151));
    }
}
