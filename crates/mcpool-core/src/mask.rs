//! Takes known secrets out of text before it is shown or logged.

mod decode;
mod forms;
mod known;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::{Map, Value};

use known::Known;

/// What stands where a secret was.
const REDACTED: &str = "[redacted]";

/// How sure it is that a value must not be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sensitivity {
    /// A value that was configured or filled in and may be anything: a region, a URL, a password.
    /// It is masked in errors, logs and stderr, and not in results that somebody asked for.
    Value,
    /// A secret, by its name, its source or its form. It is masked everywhere.
    Secret,
}

/// The values that are known and must not be shown, and the one who masks them.
///
/// A clone is a handle to the same values: anybody who expands a placeholder or receives a token
/// [adds](Masker::add) it, and anybody who shows or logs text [masks](Masker::mask) it.
///
/// A value is found wherever it stands in a text: as it is, line by line when it has several
/// lines, in base64 (up to 1 KiB of it), and escaped once or twice as JSON, as `%41` or as [`Untrusted`] shows it.
/// Where values overlap, all of them go. A text that ends, or is cut with `…`, within a value is
/// masked from 8 bytes of it on.
///
/// Not masked are values of less than [`MIN_BYTES`](Masker::MIN_BYTES), numbers of up to five
/// digits, and plain words such as `true`, `debug` or `production`: they are no secrets, and are
/// missed where they stand by chance. Values of less than 8 bytes are masked as whole words only.
/// At most [`MAX_VALUES`](Masker::MAX_VALUES) are kept, of each the first
/// [`MAX_VALUE_BYTES`](Masker::MAX_VALUE_BYTES); the one that was not added for the longest time
/// is forgotten first. The memory is wiped when the last handle goes.
///
/// [`Untrusted`]: crate::Untrusted
///
/// ```
/// use mcpool_core::{Masker, Sensitivity};
///
/// let masker = Masker::new();
/// masker.add("hunter2-hunter2", Sensitivity::Secret);
/// let line = "login failed: /?key=hunter2%2Dhunter2";
/// assert_eq!(masker.mask(line, Sensitivity::Value), "login failed: /?key=[redacted]");
/// ```
#[derive(Clone, Default)]
pub struct Masker(Arc<RwLock<Known>>);

impl Masker {
    /// The shortest value that is masked, in bytes.
    pub const MIN_BYTES: usize = 4;

    /// How many values are known at most.
    pub const MAX_VALUES: usize = 16 * 1024;

    /// How much of one value is known, in bytes.
    pub const MAX_VALUE_BYTES: usize = 64 * 1024;

    /// Knows no value yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Masks this value from now on. White space around it does not count. Adding it again
    /// makes it more sensitive, never less.
    pub fn add(&self, value: &str, sensitivity: Sensitivity) {
        let value = forms::core(value);
        if !forms::is_masked(value) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.add(value, sensitivity);
    }

    /// As [`add`](Self::add), unless the variable of this name says where something is or how the
    /// system is set up: `HOME`, `PATH`, `LANG`, a `DATA_DIR` that holds a path. Masked, such values
    /// would only make holes in every path of an error.
    pub fn add_variable(&self, name: &str, value: &str, sensitivity: Sensitivity) {
        if !forms::names_a_place(name, value) {
            self.add(value, sensitivity);
        }
    }

    /// Whether no value is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.is_empty()
    }

    /// The text with every known value that is at least so sensitive replaced by `[redacted]`.
    #[must_use]
    pub fn mask<'t>(&self, text: &'t str, least: Sensitivity) -> Cow<'t, str> {
        let ranges = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            known.find(text, least)
        };
        if ranges.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut shown = 0;
        for range in ranges {
            out.push_str(&text[shown..range.start]);
            out.push_str(REDACTED);
            shown = range.end;
        }
        out.push_str(&text[shown..]);
        Cow::Owned(out)
    }

    /// As [`mask`](Self::mask), in every text and every key of a JSON value. Numbers stay.
    pub fn mask_json(&self, value: &mut Value, least: Sensitivity) {
        if !self.is_empty() {
            self.mask_value(value, least);
        }
    }

    fn mask_value(&self, value: &mut Value, least: Sensitivity) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(masked) = self.mask(text, least) {
                    *text = masked;
                }
            }
            Value::Array(values) => {
                for value in values {
                    self.mask_value(value, least);
                }
            }
            Value::Object(object) => {
                let mut masked = Map::new();
                for (key, mut value) in std::mem::take(object) {
                    self.mask_value(&mut value, least);
                    let key = self.mask(&key, least).into_owned();
                    masked.insert(free(&masked, key), value);
                }
                *object = masked;
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The key, or the key with a number when masking has made it equal to another.
fn free(object: &Map<String, Value>, key: String) -> String {
    if !object.contains_key(&key) {
        return key;
    }
    (2..)
        .map(|number: u64| format!("{key} {number}"))
        .find(|key| !object.contains_key(key))
        .unwrap_or(key)
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masker")
    }
}

#[cfg(test)]
mod tests;
