//! What several servers list, and which lists could not be fetched.

use futures::future::join_all;
use mcpool::{Error, ServerName};

use super::left_out::LeftOut;
use crate::app::Attempt;

/// The lists of the servers that are connected.
pub(super) struct Lists<T> {
    pub(super) entries: Vec<T>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) failed: Vec<Error>,
}

/// Fetches a list of each server that is connected, all at once.
pub(super) async fn gather<'a, T, F>(
    attempts: &'a [Attempt],
    fetch: impl Fn(&'a ServerName) -> F,
) -> Lists<T>
where
    F: Future<Output = Result<(Vec<T>, Vec<LeftOut>), Error>>,
{
    let connected = attempts.iter().filter(|attempt| attempt.result.is_ok());
    let fetches = connected.map(|attempt| fetch(&attempt.server));
    let mut lists = Lists {
        entries: Vec::new(),
        left_out: Vec::new(),
        failed: Vec::new(),
    };
    for outcome in join_all(fetches).await {
        match outcome {
            Ok((entries, left_out)) => {
                lists.entries.extend(entries);
                lists.left_out.extend(left_out);
            }
            Err(error) => lists.failed.push(error),
        }
    }
    lists
}
