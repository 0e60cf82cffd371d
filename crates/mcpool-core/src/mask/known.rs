//! The values that are known, and where they stand in a text.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    ops::Range,
};

use super::{Masker, Sensitivity, decode, forms};
use crate::Secret;

/// A text that ends within a secret, as a cut line does, is recognised from so many bytes on.
const MIN_CUT_BYTES: usize = 8;

/// How much of a text is looked at in one piece: what it takes to undo escapes is a multiple of
/// this, however long the text is.
const WINDOW_BYTES: usize = 256 * 1024;

/// By how much windows overlap: by the longest form, each byte of it escaped as often as is undone.
const OVERLAP_BYTES: usize = 64 * forms::MAX_BYTES;

/// At how many places with `…` in a window a cut secret is looked for.
const MAX_CUTS: usize = 16;

#[derive(Default)]
pub(super) struct Known {
    forms: HashMap<u64, Form>,
    /// Forms by the hash of their text.
    by_text: HashMap<u64, Vec<u64>>,
    hashing: RandomState,
    /// Forms by their last four bytes: beginnings (`eyJh`, `ghp_`) are shared by many secrets, and
    /// would be compared at each place that holds one.
    by_end: HashMap<[u8; 4], Vec<u64>>,
    /// Forms by their first four bytes, for texts that are cut.
    by_start: HashMap<[u8; 4], Vec<u64>>,
    /// One bit for each pair of bytes that some form ends with: most places of a text are done
    /// with then.
    ends: Vec<u64>,
    values: HashMap<u64, KnownSecret>,
    next: u64,
}

/// A text to look for.
struct Form {
    text: Secret,
    sensitivity: Sensitivity,
    /// The values that it is a form of.
    owners: Vec<u64>,
    /// The value that it is.
    value: Option<u64>,
}

struct KnownSecret {
    forms: Vec<u64>,
    added: u64,
}

impl Known {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn add(&mut self, value: &str, sensitivity: Sensitivity) {
        self.next += 1;
        let now = self.next;
        if let Some(id) = self.value(value) {
            self.refresh(id, sensitivity, now);
            return;
        }
        if self.values.len() >= Masker::MAX_VALUES {
            self.forget_oldest();
        }
        let mut ids: Vec<u64> = Vec::new();
        for text in forms::of(value) {
            let id = self.form(text, sensitivity, now);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        // The first form is the value, or its first piece.
        if let Some(form) = ids.first().and_then(|id| self.forms.get_mut(id)) {
            form.value.get_or_insert(now);
        }
        self.values.insert(
            now,
            KnownSecret {
                forms: ids,
                added: now,
            },
        );
    }

    /// The id of a value that is known.
    fn value(&self, value: &str) -> Option<u64> {
        let id = self.find_form(value)?;
        self.forms.get(&id)?.value
    }

    fn find_form(&self, text: &str) -> Option<u64> {
        let ids = self.by_text.get(&self.hashing.hash_one(text))?;
        let same = |id: &&u64| {
            self.forms
                .get(id)
                .is_some_and(|form| form.text.expose() == text)
        };
        ids.iter().find(same).copied()
    }

    /// The form of this text, made if there is none, with one more owner.
    fn form(&mut self, text: String, sensitivity: Sensitivity, owner: u64) -> u64 {
        if let Some(id) = self.find_form(&text) {
            if let Some(form) = self.forms.get_mut(&id) {
                form.sensitivity = form.sensitivity.max(sensitivity);
                form.owners.push(owner);
            }
            return id;
        }
        self.next += 1;
        let id = self.next;
        let hash = self.hashing.hash_one(text.as_str());
        self.by_text.entry(hash).or_default().push(id);
        if let (Some(start), Some(end)) = edges(&text) {
            self.by_start.entry(start).or_default().push(id);
            self.by_end.entry(end).or_default().push(id);
            self.note_end(end[2], end[3]);
        }
        let form = Form {
            text: Secret::new(text),
            sensitivity,
            owners: vec![owner],
            value: None,
        };
        self.forms.insert(id, form);
        id
    }

    fn refresh(&mut self, id: u64, sensitivity: Sensitivity, now: u64) {
        let Some(entry) = self.values.get_mut(&id) else {
            return;
        };
        entry.added = now;
        for id in &entry.forms {
            if let Some(form) = self.forms.get_mut(id) {
                form.sensitivity = form.sensitivity.max(sensitivity);
            }
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.values.iter().min_by_key(|(_, entry)| entry.added);
        let Some(value) = oldest.map(|(id, _)| *id) else {
            return;
        };
        let forms = self.values.remove(&value).map(|entry| entry.forms);
        for id in forms.unwrap_or_default() {
            let Some(form) = self.forms.get_mut(&id) else {
                continue;
            };
            form.owners.retain(|owner| *owner != value);
            form.value = form.value.filter(|of| *of != value);
            if !form.owners.is_empty() {
                continue;
            }
            let hash = self.hashing.hash_one(form.text.expose());
            forget(&mut self.by_text, hash, id);
            if let (Some(start), Some(end)) = edges(form.text.expose()) {
                forget(&mut self.by_start, start, id);
                forget(&mut self.by_end, end, id);
            }
            self.forms.remove(&id);
        }
    }

    fn note_end(&mut self, first: u8, second: u8) {
        if self.ends.is_empty() {
            self.ends = vec![0; (1 << 16) / 64];
        }
        let (word, bit) = pair(first, second);
        self.ends[word] |= bit;
    }

    /// Where known values stand in a text: apart, in order, on character boundaries.
    pub(super) fn find(&self, text: &str, least: Sensitivity) -> Vec<Range<usize>> {
        if self.values.is_empty() {
            return Vec::new();
        }
        let mut ranges = Vec::new();
        let mut start = 0;
        loop {
            let end = boundary(text, start + WINDOW_BYTES);
            let window = &text[start..end];
            let is_last = end == text.len();
            let mut found = self.scan(window.as_bytes(), least, is_last);
            decode::each_layer(window, |layer| {
                let below = self.scan(layer.bytes(), least, is_last);
                found.extend(below.into_iter().map(|range| layer.place(range)));
            });
            ranges.extend(
                found
                    .into_iter()
                    .map(|range| range.start + start..range.end + start),
            );
            if is_last {
                return merge(text, ranges);
            }
            start = boundary(text, end - OVERLAP_BYTES);
        }
    }

    fn scan(&self, text: &[u8], least: Sensitivity, is_end: bool) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for end in 4..=text.len() {
            let (word, bit) = pair(text[end - 2], text[end - 1]);
            if self.ends[word] & bit == 0 {
                continue;
            }
            let ids = text[..end]
                .last_chunk::<4>()
                .and_then(|key| self.by_end.get(key));
            let lengths = self
                .of(ids, least)
                .filter_map(|form| form.length_before(text, end));
            let Some(length) = lengths.max() else {
                continue;
            };
            let start = end - length;
            match ranges.last_mut() {
                Some(last) if start <= last.end => {
                    last.start = last.start.min(start);
                    last.end = end;
                }
                _ => ranges.push(start..end),
            }
        }
        let cuts = ellipses(text)
            .take(MAX_CUTS)
            .chain(is_end.then_some(text.len()));
        ranges.extend(cuts.filter_map(|cut| self.cut(text, cut, least)));
        ranges
    }

    /// The secret that a text breaks off in, at this place.
    fn cut(&self, text: &[u8], cut: usize, least: Sensitivity) -> Option<Range<usize>> {
        let first = cut.saturating_sub(forms::MAX_BYTES);
        (first..=cut.checked_sub(MIN_CUT_BYTES)?).find_map(|start| {
            let rest = &text[start..cut];
            let ids = rest
                .first_chunk::<4>()
                .and_then(|key| self.by_start.get(key));
            let mut forms = self.of(ids, least);
            let is_cut = forms.any(|form| form.text.expose().as_bytes().starts_with(rest));
            is_cut.then_some(start..cut)
        })
    }

    fn of<'k>(
        &'k self,
        ids: Option<&'k Vec<u64>>,
        least: Sensitivity,
    ) -> impl Iterator<Item = &'k Form> {
        let forms = ids
            .into_iter()
            .flatten()
            .filter_map(|id| self.forms.get(id));
        forms.filter(move |form| form.sensitivity >= least)
    }
}

impl Form {
    /// How long it is, when the text before a place ends with it.
    fn length_before(&self, text: &[u8], end: usize) -> Option<usize> {
        let form = self.text.expose().as_bytes();
        let before = text[..end].strip_suffix(form)?;
        if form.len() < forms::MIN_ANYWHERE_BYTES {
            let joins =
                |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
            if joins(before.last()) || joins(text.get(end)) {
                return None;
            }
        }
        Some(form.len())
    }
}

/// The first and the last four bytes.
fn edges(text: &str) -> (Option<[u8; 4]>, Option<[u8; 4]>) {
    let bytes = text.as_bytes();
    (bytes.first_chunk().copied(), bytes.last_chunk().copied())
}

fn forget<K: Eq + Hash>(index: &mut HashMap<K, Vec<u64>>, key: K, id: u64) {
    if let Some(ids) = index.get_mut(&key) {
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            index.remove(&key);
        }
    }
}

fn pair(first: u8, second: u8) -> (usize, u64) {
    let pair = usize::from(first) << 8 | usize::from(second);
    (pair / 64, 1 << (pair % 64))
}

/// Where a text is cut.
fn ellipses(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let ellipsis = "…".as_bytes();
    text.windows(ellipsis.len())
        .enumerate()
        .filter(move |(_, window)| *window == ellipsis)
        .map(|(at, _)| at)
}

/// The nearest character boundary at or before an offset.
fn boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Ranges in order, joined where they touch, and grown to whole characters.
fn merge(text: &str, mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        let start = boundary(text, range.start);
        let mut end = range.end;
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
