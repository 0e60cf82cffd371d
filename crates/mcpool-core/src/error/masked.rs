//! An error whose text is clean and without known secrets.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

use super::Error;
use crate::{Masker, Raw, Sensitivity};

impl Error {
    /// The error with every [known secret](Masker) taken out of its message, its causes, its
    /// stderr lines, its challenge and the JSON-RPC error that the server sent.
    ///
    /// A chain of causes that holds none stays as it is. One that does is replaced by its texts,
    /// so nothing in it can be downcast any more.
    #[must_use]
    pub fn masked(self, masker: &Masker) -> Self {
        let mask = |text: &str| masker.mask(text, Sensitivity::Value).into_owned();
        self.edit(|inner| {
            inner.message = mask(&inner.message);
            inner.challenge = inner.challenge.as_deref().map(mask);
            for line in &mut inner.stderr_tail {
                line.text = mask(&line.text);
            }
            if let Some(rpc) = &mut inner.rpc {
                rpc.message = mask(&rpc.message);
                rpc.data = rpc.data.take().and_then(|data| masked_json(data, masker));
            }
            inner.raw = inner.raw.take().and_then(|raw| masked_json(raw, masker));
            if let Some(causes) = inner
                .source
                .as_deref()
                .and_then(|cause| causes(cause, &mask))
            {
                inner.source = Some(Arc::new(causes));
            }
        })
    }
}

/// A payload without the known secrets; untouched when it holds none, `None` when it cannot be
/// written without them.
fn masked_json(raw: Raw, masker: &Masker) -> Option<Raw> {
    match raw.read::<serde_json::Value>() {
        Ok(before) => {
            let mut after = before.clone();
            masker.mask_json(&mut after, Sensitivity::Value);
            if after == before {
                return Some(raw);
            }
            Raw::write(&after).ok()
        }
        // It holds a number that is no `Value`: by its text.
        Err(_) => match masker.mask(raw.get(), Sensitivity::Value) {
            Cow::Borrowed(_) => Some(raw),
            Cow::Owned(text) => Raw::read_text(text).ok(),
        },
    }
}

/// The texts of a chain of causes, masked; `None` when nothing had to be masked.
fn causes(first: &(dyn StdError + 'static), mask: &impl Fn(&str) -> String) -> Option<Cause> {
    let chain: Vec<String> = std::iter::successors(Some(first), |&cause| cause.source())
        .map(ToString::to_string)
        .collect();
    let masked: Vec<String> = chain.iter().map(|text| mask(text)).collect();
    if masked == chain {
        return None;
    }
    masked.into_iter().rev().fold(None, |below, text| {
        let source = below.map(Box::new);
        Some(Cause { text, source })
    })
}

/// The text of a cause that held a secret.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}
