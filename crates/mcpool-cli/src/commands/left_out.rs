//! What could not be used of the servers' lists: named on standard error, and in `--json`.

use mcpool::{ConnectionManager, Error, Listing, Refresh, RejectedItem, ServerName};
use serde_json::{Value, json};

use crate::{
    app::Attempt,
    render::{out, text::Text},
    text,
};

/// How many are named on standard error; the rest is counted.
const NAMED: usize = 20;

/// An entry that could not be used, or why a list may not be whole.
pub(super) struct LeftOut {
    server: String,
    list: &'static str,
    /// `None` when it is about the list.
    name: Option<String>,
    reason: String,
}

/// What was left out of a list that a server gave.
pub(super) fn of_list<T>(
    server: &str,
    list: &'static str,
    listing: &Listing<T>,
) -> impl Iterator<Item = LeftOut> {
    of(
        server,
        list,
        &listing.rejected,
        listing.incomplete.as_deref(),
    )
}

/// What was left out of the lists of tools, as they were last fetched.
pub(super) async fn of_tools(manager: &ConnectionManager) -> Vec<LeftOut> {
    let mut left_out = Vec::new();
    for name in manager.names() {
        let Ok(server) = manager.server(name.as_str()) else {
            continue;
        };
        if let Ok(tools) = server.tools(Refresh::Cached).await {
            let of_server = of(
                name.as_str(),
                "tools/list",
                &tools.rejected,
                tools.incomplete.as_deref(),
            );
            left_out.extend(of_server);
        }
    }
    left_out
}

fn of(
    server: &str,
    list: &'static str,
    rejected: &[RejectedItem],
    incomplete: Option<&str>,
) -> impl Iterator<Item = LeftOut> {
    let entry = |name, reason: &str| LeftOut {
        server: server.to_owned(),
        list,
        name,
        reason: reason.to_owned(),
    };
    let entries: Vec<LeftOut> = rejected
        .iter()
        .map(|item| entry(Some(item.name.clone()), &item.reason))
        .chain(incomplete.map(|why| entry(None, why)))
        .collect();
    entries.into_iter()
}

impl LeftOut {
    /// On one line, without the server.
    pub(super) fn to_text(&self) -> Text {
        match &self.name {
            Some(name) => text!("{} leaves out \"{}\": {}", self.list, name, self.reason),
            None => text!("{} may not be whole: {}", self.list, self.reason),
        }
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "server": self.server,
            "list": self.list,
            "name": self.name,
            "reason": self.reason,
        })
    }
}

/// All of them, for programs.
pub(super) fn to_json(left_out: &[LeftOut]) -> Value {
    left_out.iter().map(LeftOut::to_json).collect()
}

/// All of them for programs, and the whole lists of servers that could not be connected, or did not
/// list: people read of those in the errors.
pub(super) fn with_missing(
    list: &'static str,
    left_out: &[LeftOut],
    attempts: &[Attempt],
    unlisted: &[Error],
) -> Value {
    let missing = |server: Option<&ServerName>, error: &Error| {
        LeftOut {
            server: server.map(ToString::to_string).unwrap_or_default(),
            list,
            name: None,
            reason: error.message().to_owned(),
        }
        .to_json()
    };
    let unreached = attempts.iter().filter_map(|attempt| {
        let error = attempt.result.as_ref().err()?;
        Some(missing(Some(&attempt.server), error))
    });
    let unlisted = unlisted.iter().map(|error| missing(error.server(), error));
    let left_out = left_out.iter().map(LeftOut::to_json);
    left_out.chain(unreached).chain(unlisted).collect()
}

/// Names them on standard error.
pub(super) fn tell(left_out: &[LeftOut]) {
    for entry in left_out.iter().take(NAMED) {
        out::tell(&text!("{}: {}\n", entry.server, entry.to_text()));
    }
    let more = left_out.len().saturating_sub(NAMED);
    if more > 0 {
        out::tell(&text!("… and {} more; `--json` has all\n", more));
    }
}
