//! Takes known secrets out of text before it is shown or logged.

mod decode;
mod forms;

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::{Map, Value};

use crate::Secret;

/// What stands where a secret was.
const REDACTED: &str = "[redacted]";

/// A text that ends within a secret, as a cut line does, is recognised from so many bytes on.
const MIN_CUT_BYTES: usize = 8;

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
/// A clone is a handle to the same values: whoever expands a placeholder or receives a token
/// [adds](Masker::add) it, and whoever shows or logs text [masks](Masker::mask) it.
///
/// A value is found wherever it stands in a text: as it is, line by line when it has several
/// lines, in base64, and escaped once or twice as JSON, as `%41` or as [`Untrusted`] shows it.
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

#[derive(Default)]
struct Known {
    /// Every form of every value, by its first four bytes.
    forms: HashMap<[u8; 4], Vec<Form>>,
    /// One bit for each pair of bytes that some form begins with: most places of a text end here.
    starts: Vec<u64>,
    values: HashMap<u64, Entry>,
    next: u64,
}

struct Form {
    text: Secret,
    whole_word: bool,
    sensitivity: Sensitivity,
    value: u64,
}

struct Entry {
    /// Where its forms are.
    keys: Vec<[u8; 4]>,
    added: u64,
}

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
        known.values.is_empty()
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

impl Known {
    fn add(&mut self, value: &str, sensitivity: Sensitivity) {
        self.next += 1;
        let now = self.next;
        if let Some(id) = self.id_of(value) {
            self.refresh(id, sensitivity, now);
            return;
        }
        if self.values.len() >= Masker::MAX_VALUES {
            self.forget_oldest();
        }
        let mut keys = Vec::new();
        for text in forms::of(value) {
            let Some(key) = text.as_bytes().first_chunk::<4>().copied() else {
                continue;
            };
            self.note_start(&key);
            keys.push(key);
            self.forms.entry(key).or_default().push(Form {
                whole_word: text.len() < forms::MIN_ANYWHERE_BYTES,
                text: Secret::new(text),
                sensitivity,
                value: now,
            });
        }
        self.values.insert(now, Entry { keys, added: now });
    }

    /// The first form of a value is the value itself.
    fn id_of(&self, value: &str) -> Option<u64> {
        let forms = self.forms.get(value.as_bytes().first_chunk::<4>()?)?;
        let same = |form: &&Form| form.text.expose() == value;
        forms.iter().find(same).map(|form| form.value)
    }

    fn refresh(&mut self, id: u64, sensitivity: Sensitivity, now: u64) {
        let Some(entry) = self.values.get_mut(&id) else {
            return;
        };
        entry.added = now;
        for key in &entry.keys {
            let forms = self.forms.get_mut(key).into_iter().flatten();
            for form in forms.filter(|form| form.value == id) {
                form.sensitivity = form.sensitivity.max(sensitivity);
            }
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.values.iter().min_by_key(|(_, entry)| entry.added);
        let Some(id) = oldest.map(|(id, _)| *id) else {
            return;
        };
        for key in self
            .values
            .remove(&id)
            .map(|entry| entry.keys)
            .unwrap_or_default()
        {
            if let Some(forms) = self.forms.get_mut(&key) {
                forms.retain(|form| form.value != id);
                if forms.is_empty() {
                    self.forms.remove(&key);
                }
            }
        }
    }

    fn note_start(&mut self, key: &[u8; 4]) {
        if self.starts.is_empty() {
            self.starts = vec![0; (1 << 16) / 64];
        }
        let (word, bit) = start_bit(key[0], key[1]);
        self.starts[word] |= bit;
    }

    /// Where known values stand in a text: apart, in order, on character boundaries.
    fn find(&self, text: &str, least: Sensitivity) -> Vec<Range<usize>> {
        if self.values.is_empty() {
            return Vec::new();
        }
        let mut ranges = self.scan(text.as_bytes(), least);
        decode::each_layer(text, |layer| {
            let found = self.scan(layer.bytes(), least);
            ranges.extend(found.into_iter().map(|range| layer.place(range)));
        });
        merge(text, ranges)
    }

    fn scan(&self, text: &[u8], least: Sensitivity) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for at in 0..text.len().saturating_sub(3) {
            let (word, bit) = start_bit(text[at], text[at + 1]);
            if self.starts[word] & bit == 0 {
                continue;
            }
            let forms = text[at..]
                .first_chunk::<4>()
                .and_then(|key| self.forms.get(key));
            let longest = forms
                .into_iter()
                .flatten()
                .filter(|form| form.sensitivity >= least)
                .filter_map(|form| form.length_at(text, at))
                .max();
            let Some(length) = longest else { continue };
            let end = at + length;
            match ranges.last_mut() {
                Some(last) if at <= last.end => last.end = last.end.max(end),
                _ => ranges.push(at..end),
            }
        }
        ranges
    }
}

fn start_bit(first: u8, second: u8) -> (usize, u64) {
    let pair = usize::from(first) << 8 | usize::from(second);
    (pair / 64, 1 << (pair % 64))
}

impl Form {
    /// How much of the text from here on is this form.
    fn length_at(&self, text: &[u8], at: usize) -> Option<usize> {
        let (form, rest) = (self.text.expose().as_bytes(), &text[at..]);
        let common = form.iter().zip(rest).take_while(|(a, b)| a == b).count();
        let after = &rest[common..];
        let is_cut = after.is_empty() || after.starts_with("…".as_bytes());
        let is_whole = common == form.len();
        if !(is_whole || is_cut && common >= MIN_CUT_BYTES) {
            return None;
        }
        let joins =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let is_part = joins(at.checked_sub(1).and_then(|at| text.get(at))) || joins(after.first());
        (!(self.whole_word && is_part)).then_some(common)
    }
}

/// Ranges in order, joined where they touch, and grown to whole characters.
fn merge(text: &str, mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for Range { mut start, mut end } in ranges {
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        while !text.is_char_boundary(end) {
            end += 1;
        }
        match merged.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => merged.push(start..end),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
