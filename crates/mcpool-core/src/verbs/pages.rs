//! Walks the pages of a list, entry by entry, and stops a server that never ends it.

use std::{collections::HashSet, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::Instant;

use super::{Listing, Reply};
use crate::{
    Delivery, Error, ErrorKind, Limits, ParamHeaders, Raw, RawObject, RejectedItem, Request,
    RequestOptions, Requester, Result, RpcError, ServerCapabilities, TransportKind, raw::elements,
};

/// The most that a whole walk takes, whatever the number of pages.
const WALK_TOTAL: Duration = Duration::from_secs(600);

/// One of the lists of the protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    method: &'static str,
    member: &'static str,
    offered: fn(&ServerCapabilities) -> bool,
}

impl List {
    pub(super) const TOOLS: Self = Self {
        method: "tools/list",
        member: "tools",
        offered: |capabilities| capabilities.tools,
    };
    pub(super) const PROMPTS: Self = Self {
        method: "prompts/list",
        member: "prompts",
        offered: |capabilities| capabilities.prompts,
    };
    pub(super) const RESOURCES: Self = Self {
        method: "resources/list",
        member: "resources",
        offered: |capabilities| capabilities.resources,
    };
    pub(super) const TEMPLATES: Self = Self {
        method: "resources/templates/list",
        member: "resourceTemplates",
        offered: |capabilities| capabilities.resources,
    };
}

/// Fetches all pages. `name` is what an entry is known by: of two the first is kept.
pub(super) async fn walk<R: Requester + ?Sized, T: DeserializeOwned>(
    requester: &R,
    list: List,
    name: fn(&T) -> &str,
) -> Result<Listing<T>> {
    let offered = requester
        .info()
        .is_none_or(|info| (list.offered)(&info.peer.capabilities));
    // Some servers have tools and do not declare them. Of the rest nobody asks what is not there.
    if !offered && list.method != List::TOOLS.method {
        return Ok(Listing::default());
    }
    let finish = |error: Error| {
        error
            .with_server(requester.server())
            .with_operation(list.method)
    };
    let mut walk = Walk::new(list, requester.limits());
    walk.headers = list.method == List::TOOLS.method
        && requester.info().is_some_and(|info| {
            info.transport == TransportKind::Http && !info.protocol.has_initialize()
        });
    let began = Instant::now();
    let mut cursor: Option<String> = None;
    loop {
        let request = Request::new(list.method);
        let request = match &cursor {
            Some(cursor) => request.with_params(&json!({ "cursor": cursor }))?,
            None => request,
        };
        let left = WALK_TOTAL.saturating_sub(began.elapsed());
        let options = RequestOptions::new().with_max_total(left);
        let answer = match requester.request(&request, &options).await {
            Ok(answer) => answer,
            Err(error) if walk.is_end(&error, offered) => return Ok(walk.listing),
            Err(error) => return Err(finish(error)),
        };
        match walk.page(&answer, name).map_err(finish)? {
            Some(next) => cursor = Some(next),
            None => return Ok(walk.listing),
        }
    }
}

/// How far a walk has come. No I/O.
struct Walk<T> {
    list: List,
    limits: Limits,
    listing: Listing<T>,
    names: HashSet<String>,
    cursors: HashSet<String>,
    /// The entries of the first page, by which a server is recognised that begins again.
    first: Option<Vec<Raw>>,
    pages: usize,
    entries: usize,
    bytes: usize,
    /// Whether the page that is asked for now was asked for with an empty cursor.
    by_empty_cursor: bool,
    /// Whether arguments travel as headers, so that a tool whose `x-mcp-header` breaks a rule must
    /// be left out (MCP 2026-07-28, "Custom Headers from Tool Parameters").
    headers: bool,
}

impl<T: DeserializeOwned> Walk<T> {
    fn new(list: List, limits: Limits) -> Self {
        Self {
            list,
            limits,
            listing: Listing::default(),
            names: HashSet::new(),
            cursors: HashSet::new(),
            first: None,
            pages: 0,
            entries: 0,
            bytes: 0,
            by_empty_cursor: false,
            headers: false,
        }
    }

    /// Whether an error only says that there is nothing (more) to list.
    fn is_end(&self, error: &Error, offered: bool) -> bool {
        let Some(rpc) = error.rpc() else {
            return false;
        };
        if self.pages == 0 {
            return !offered && rpc.code == RpcError::METHOD_NOT_FOUND;
        }
        // A server that says "no more" with an empty cursor may not know the cursor itself.
        self.by_empty_cursor
    }

    /// Takes a page; gives the cursor of the next one.
    fn page(&mut self, answer: &Raw, name: fn(&T) -> &str) -> Result<Option<String>> {
        self.pages += 1;
        self.bytes = self.bytes.saturating_add(answer.len());
        if self.bytes > self.limits.max_list_bytes {
            return Err(self.too_large("bytes", self.limits.max_list_bytes, "max_list_bytes"));
        }
        let Ok(members) = RawObject::parse(answer) else {
            return Err(Error::new(ErrorKind::Protocol, "the answer is no object")
                .with_delivery(Delivery::Answered)
                .with_raw(answer.clone()));
        };
        let entries = match members.get(self.list.member) {
            Some(entries) => elements(entries.get(), self.limits.max_list_entries).ok(),
            None => None,
        };
        let Some(entries) = entries else {
            self.incomplete(format!("an answer holds no list `{}`", self.list.member));
            return Ok(None);
        };
        let entries = entries.ok_or_else(|| self.too_many())?;
        let entries: Vec<Raw> = entries.into_iter().map(Raw::copied).collect();
        if self.by_empty_cursor && self.first.as_ref() == Some(&entries) {
            // The empty cursor meant the end, and the server began again.
            return Ok(None);
        }
        self.entries = self.entries.saturating_add(entries.len());
        if self.entries > self.limits.max_list_entries {
            return Err(self.too_many());
        }
        let next = members.get("nextCursor").and_then(cursor_text);
        if self.first.is_none() && next.is_some() {
            self.first = Some(entries.clone());
        }
        for entry in entries {
            self.entry(entry, name);
        }
        let ttl = members
            .get("ttlMs")
            .and_then(|ttl| ttl.parse::<u64>().ok())
            .map(Duration::from_millis);
        self.listing.ttl = match (self.listing.ttl, ttl) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.turn(next)
    }

    fn turn(&mut self, next: Option<String>) -> Result<Option<String>> {
        let Some(next) = next else {
            return Ok(None);
        };
        if !self.cursors.insert(next.clone()) {
            if !next.is_empty() {
                self.incomplete(format!(
                    "the server repeated a cursor after {} pages",
                    self.pages
                ));
            }
            return Ok(None);
        }
        if self.pages >= self.limits.max_pages.max(1) {
            return Err(self.too_large("pages", self.limits.max_pages, "max_pages"));
        }
        // Cursors are opaque: an empty one is a cursor too (MCP 2025-11-25, "Pagination").
        self.by_empty_cursor = next.is_empty();
        Ok(Some(next))
    }

    fn entry(&mut self, raw: Raw, name: fn(&T) -> &str) {
        let parsed = match raw.parse::<T>() {
            Ok(value) => Ok((value, Vec::new())),
            // A resource is found by its URI: without a name, that stands for it.
            Err(error) => match named_by_uri(&raw).and_then(|named| named.parse::<T>().ok()) {
                Some(value) => Ok((value, vec!["it has no name".to_owned()])),
                None => Err(error),
            },
        };
        let (value, odd) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                let place = self.listing.items.len() + self.listing.rejected.len() + 1;
                let item = RejectedItem::new(entry_name(&raw, place), error.message());
                self.listing.rejected.push(item);
                return;
            }
        };
        let known_by = name(&value);
        if self.headers
            && let Err(reason) = ParamHeaders::of_tool(&raw)
        {
            let item = RejectedItem::new(known_by, reason);
            self.listing.rejected.push(item);
        } else if known_by.is_empty() {
            let item = RejectedItem::new("", "the name is empty");
            self.listing.rejected.push(item);
        } else if self.names.insert(known_by.to_owned()) {
            let reply = Reply::new(value, raw).with_odd(odd);
            self.listing.items.push(reply);
        } else {
            let item = RejectedItem::new(known_by, "an earlier entry has the same name");
            self.listing.rejected.push(item);
        }
    }

    fn incomplete(&mut self, why: String) {
        self.listing.incomplete.get_or_insert(why);
    }

    fn too_many(&self) -> Error {
        let most = self.limits.max_list_entries;
        self.too_large("entries", most, "max_list_entries")
    }

    fn too_large(&self, what: &str, limit: usize, setting: &str) -> Error {
        Error::new(
            ErrorKind::TooLarge,
            format!("the list has more than {limit} {what} (limits.{setting})"),
        )
        .with_delivery(Delivery::Answered)
    }
}

/// A cursor as text; numbers are sent back as the text of them.
fn cursor_text(raw: &Raw) -> Option<String> {
    match raw.parse::<serde_json::Value>().ok()? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// The entry with its URI as its name, when it has one and no name.
fn named_by_uri(raw: &Raw) -> Option<Raw> {
    let mut members = RawObject::parse(raw).ok()?;
    let has_name = members.get("name").is_some_and(|name| name.get() != "null");
    if has_name {
        return None;
    }
    let uri = members
        .get("uri")
        .or_else(|| members.get("uriTemplate"))?
        .clone();
    members.insert("name", uri);
    members.to_raw().ok()
}

/// What a rejected entry is called: by its name, its URI, or its place.
fn entry_name(raw: &Raw, place: usize) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Names {
        name: serde_json::Value,
        uri: serde_json::Value,
        uri_template: serde_json::Value,
    }
    let names: Names = raw.parse().unwrap_or_default();
    [names.name, names.uri, names.uri_template]
        .iter()
        .find_map(|name| name.as_str())
        .map_or_else(|| format!("#{place}"), str::to_owned)
}
