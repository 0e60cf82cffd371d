//! Results of servers that keep to the protocol almost: what does not fit the type is left out of
//! it and named, and the text keeps it.

use rmcp::model::{
    CallToolResult, CompleteResult, ContentBlock, GetPromptResult, PromptMessage,
    ReadResourceResult, ResourceContents, ResultType,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, value::RawValue};

use super::Reply;
use crate::{Delivery, Error, ErrorKind, Raw, RawObject, Result, raw::elements};

/// Misfits of one list that are named; further ones are counted.
const MAX_NAMED: usize = 20;

/// Entries of one list that are read one by one: each takes far more time and room than its text.
const MAX_ENTRIES: usize = 65_536;

/// A result that a verb gives.
pub(super) trait Payload: DeserializeOwned + Send {
    /// What it says that it is; nothing means complete.
    fn kind(&self) -> Option<&ResultType>;

    /// Takes out what does not fit, and names it.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) for a list of more than [`MAX_ENTRIES`].
    fn soften(members: &mut RawObject, odd: &mut Vec<String>) -> Result<()>;
}

/// Reads a result.
pub(super) fn read<T: Payload>(raw: Raw) -> Result<Reply<T>> {
    // Nearly every answer: it is parsed once. The type refuses what is there twice, so that what
    // it says of its kind holds.
    if raw.get().starts_with('{')
        && let Ok(value) = raw.parse::<T>()
        && value.kind().is_none_or(ResultType::is_complete)
    {
        return Ok(Reply::new(value, raw));
    }
    let mut members = RawObject::parse(&raw).map_err(|error| unreadable(&raw, &error))?;
    // Absent means complete; what is not known is invalid (MCP 2026-07-28, "Results").
    if let Some(kind) = members.get("resultType").filter(|kind| !kind.is_null())
        && kind.get() != "\"complete\""
    {
        return Err(answered(
            &raw,
            format!(
                "the server answered with a result of the type {}, which cannot be used here",
                kind.get()
            ),
        ));
    }
    if let Ok(value) = raw.parse::<T>() {
        return Ok(Reply::new(value, raw));
    }
    let mut odd = Vec::new();
    T::soften(&mut members, &mut odd).map_err(|error| error.with_raw(raw.clone()))?;
    let value = members.to_raw()?.parse::<T>();
    match value {
        Ok(value) => Ok(Reply::new(value, raw).with_odd(odd)),
        Err(error) => Err(unreadable(&raw, &error)),
    }
}

fn unreadable(raw: &Raw, error: &Error) -> Error {
    answered(
        raw,
        format!("the answer cannot be read: {}", error.message()),
    )
}

/// The error of a request that was answered in a way that cannot be used.
fn answered(raw: &Raw, message: String) -> Error {
    Error::new(ErrorKind::Protocol, message)
        .with_delivery(Delivery::Answered)
        .with_raw(raw.clone())
}

impl Payload for CallToolResult {
    fn kind(&self) -> Option<&ResultType> {
        self.result_type.as_ref()
    }

    fn soften(members: &mut RawObject, odd: &mut Vec<String>) -> Result<()> {
        keep_readable::<ContentBlock>(members, "content", "content block", odd)?;
        // Numbers that no `Value` can hold, and members of another type.
        drop_unless::<Value>(members, "structuredContent", odd);
        drop_unless::<Option<bool>>(members, "isError", odd);
        drop_unless::<Option<serde_json::Map<String, Value>>>(members, "_meta", odd);
        Ok(())
    }
}

impl Payload for GetPromptResult {
    fn kind(&self) -> Option<&ResultType> {
        self.result_type.as_ref()
    }

    fn soften(members: &mut RawObject, odd: &mut Vec<String>) -> Result<()> {
        keep_readable::<PromptMessage>(members, "messages", "message", odd)?;
        drop_unless::<Option<String>>(members, "description", odd);
        drop_unless::<Option<serde_json::Map<String, Value>>>(members, "_meta", odd);
        Ok(())
    }
}

impl Payload for ReadResourceResult {
    fn kind(&self) -> Option<&ResultType> {
        self.result_type.as_ref()
    }

    fn soften(members: &mut RawObject, odd: &mut Vec<String>) -> Result<()> {
        keep_readable::<ResourceContents>(members, "contents", "content", odd)?;
        drop_unless::<Option<serde_json::Map<String, Value>>>(members, "_meta", odd);
        Ok(())
    }
}

impl Payload for CompleteResult {
    fn kind(&self) -> Option<&ResultType> {
        self.result_type.as_ref()
    }

    fn soften(members: &mut RawObject, odd: &mut Vec<String>) -> Result<()> {
        drop_unless::<Option<serde_json::Map<String, Value>>>(members, "_meta", odd);
        Ok(())
    }
}

/// Makes a member a list of those entries that can be read. A single entry is a list of one,
/// nothing an empty list.
fn keep_readable<E: DeserializeOwned>(
    members: &mut RawObject,
    name: &'static str,
    what: &str,
    odd: &mut Vec<String>,
) -> Result<()> {
    let mut good = Vec::new();
    let mut misfits = 0_usize;
    let mut keep = |entry: &RawValue, at: usize| {
        let entry = Raw::copied(entry);
        match entry.parse::<E>() {
            Ok(_) => return good.push(entry),
            Err(error) if misfits < MAX_NAMED => {
                odd.push(format!("{what} {at}: {}", error.message()));
            }
            Err(_) => {}
        }
        misfits += 1;
    };
    if let Some(member) = members.get(name).filter(|member| !member.is_null()) {
        match elements(member.get(), MAX_ENTRIES) {
            Ok(Some(entries)) => {
                let entries = entries.into_iter().zip(1..);
                entries.for_each(|(entry, at)| keep(entry, at));
            }
            Ok(None) => {
                let message = format!(
                    "the answer does not fit its type, and `{name}` has more than {MAX_ENTRIES} \
                     entries, too many to read one by one"
                );
                return Err(
                    Error::new(ErrorKind::TooLarge, message).with_delivery(Delivery::Answered)
                );
            }
            Err(_) => {
                keep(member.as_raw_value(), 1);
                odd.push(format!("`{name}` is no list"));
            }
        }
    }
    if misfits > MAX_NAMED {
        odd.push(format!("and {} more", misfits - MAX_NAMED));
    }
    if let Ok(list) = Raw::of(&good) {
        members.insert(name, list);
    }
    Ok(())
}

/// Takes a member out that does not read as a type.
fn drop_unless<E: DeserializeOwned>(
    members: &mut RawObject,
    name: &'static str,
    odd: &mut Vec<String>,
) {
    let Some(member) = members.get(name) else {
        return;
    };
    if member.parse::<E>().is_err() && member.parse::<IgnoredAny>().is_ok() {
        odd.push(format!("`{name}` does not fit its type"));
        members.remove(name);
    }
}
