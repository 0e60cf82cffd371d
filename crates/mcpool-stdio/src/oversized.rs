//! Finds out whose answer a line is that is too long to be kept, while it streams past.
//!
//! Many servers write the id last (`{"result":…,"jsonrpc":"2.0","id":7}`), so a look at the
//! beginning is not enough: the whole line goes through a small JSON scanner that keeps nothing
//! but the members `id`, `method`, `result` and `error` of the top level. Pure.

use mcpool_core::model::RequestId;

use crate::framing::{Frame, Skip};

/// The longest key or id that is looked at.
const MAX_TOKEN: usize = 1024;
/// A line that is this many times over the limit, and has not said its id, is given up.
const PATIENCE: usize = 16;

/// One line over the limit.
pub(crate) struct Oversized {
    scanner: Scanner,
    seen: usize,
    give_up_at: usize,
    reported: bool,
    given_up: bool,
}

impl Oversized {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            scanner: Scanner::default(),
            seen: 0,
            give_up_at: limit.saturating_mul(PATIENCE),
            reported: false,
            given_up: false,
        }
    }

    /// The next bytes of the line.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.seen = self.seen.saturating_add(bytes.len());
        self.scanner.feed(bytes);
    }

    /// What is known before the end of the line; every id comes once.
    pub(crate) fn known(&mut self) -> Option<Frame> {
        if let Some(frame) = self.take_found() {
            return Some(frame);
        }
        if self.seen > self.give_up_at && !self.reported && !self.given_up {
            self.given_up = true;
            return Some(Frame::Lost);
        }
        None
    }

    /// What the end of the line adds.
    pub(crate) fn end(&mut self) -> Option<Frame> {
        self.scanner.finish_member();
        if let Some(frame) = self.take_found() {
            return Some(frame);
        }
        if self.reported || self.given_up {
            None
        } else if self.scanner.only_notifications() {
            Some(Frame::Skipped(Skip::OversizedNotification))
        } else {
            Some(Frame::Lost)
        }
    }

    fn take_found(&mut self) -> Option<Frame> {
        self.scanner.note_current();
        let answers = std::mem::take(&mut self.scanner.answers);
        let requests = std::mem::take(&mut self.scanner.requests);
        if answers.is_empty() && requests.is_empty() {
            return None;
        }
        self.reported = true;
        Some(Frame::Oversized { answers, requests })
    }
}

/// What the scanner collects the bytes of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Capture {
    Nothing,
    Key,
    Id,
}

/// A JSON scanner that looks only at the members of the top-level object, or of the objects in
/// a top-level array (a batch).
struct Scanner {
    depth: u32,
    /// The depth inside a message: 1, or 2 in a batch; 0 before the first byte.
    base: u32,
    broken: bool,
    in_string: bool,
    escaped: bool,
    /// Whether the next string at the base depth is a key.
    expect_key: bool,
    /// Whether the scan is inside a message.
    open: bool,
    capture: Capture,
    token: Vec<u8>,
    key_is_id: bool,
    id: Option<RequestId>,
    has_method: bool,
    has_answer: bool,
    noted: bool,
    notifications: usize,
    unknown: usize,
    answers: Vec<RequestId>,
    requests: Vec<RequestId>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            depth: 0,
            base: 0,
            broken: false,
            in_string: false,
            escaped: false,
            expect_key: false,
            open: false,
            capture: Capture::Nothing,
            token: Vec::new(),
            key_is_id: false,
            id: None,
            has_method: false,
            has_answer: false,
            noted: false,
            notifications: 0,
            unknown: 0,
            answers: Vec::new(),
            requests: Vec::new(),
        }
    }
}

impl Scanner {
    fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() && !self.broken {
            if self.in_string {
                at = self.string(bytes, at);
            } else {
                self.outside(bytes[at]);
                at += 1;
            }
        }
    }

    /// Goes on inside a string; gives where to go on after.
    fn string(&mut self, bytes: &[u8], mut at: usize) -> usize {
        if self.capture == Capture::Nothing && !self.escaped {
            // Most of a long line is one string that nobody looks at.
            match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                Some(skipped) => at += skipped,
                None => return bytes.len(),
            }
        }
        let byte = bytes[at];
        if self.escaped {
            self.escaped = false;
            self.collect(byte);
        } else if byte == b'\\' {
            self.escaped = true;
            self.collect(byte);
        } else if byte == b'"' {
            self.in_string = false;
            self.collect(byte);
            self.string_ended();
        } else {
            self.collect(byte);
        }
        at + 1
    }

    fn collect(&mut self, byte: u8) {
        if self.capture != Capture::Nothing {
            if self.token.len() < MAX_TOKEN {
                self.token.push(byte);
            } else {
                self.capture = Capture::Nothing;
            }
        }
    }

    fn string_ended(&mut self) {
        match self.capture {
            Capture::Key => {
                let key = serde_json::from_slice::<String>(&self.token).unwrap_or_default();
                self.key_is_id = key == "id";
                self.has_method |= key == "method";
                self.has_answer |= key == "result" || key == "error";
            }
            Capture::Id => self.id = serde_json::from_slice(&self.token).ok(),
            Capture::Nothing => {}
        }
        if self.depth == self.base {
            self.expect_key = false;
        }
        self.capture = Capture::Nothing;
    }

    fn outside(&mut self, byte: u8) {
        let at_base = self.base > 0 && self.depth == self.base;
        if self.capture == Capture::Id
            && !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
        {
            self.id = serde_json::from_slice(&self.token).ok();
            self.capture = Capture::Nothing;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b':' => {}
            b'{' | b'[' => {
                if self.base == 0 {
                    self.base = if byte == b'{' { 1 } else { 2 };
                }
                self.depth += 1;
                if self.depth == self.base && byte == b'{' {
                    self.open = true;
                    self.expect_key = true;
                }
            }
            b'}' | b']' => {
                if at_base {
                    self.finish_member();
                }
                match self.depth.checked_sub(1) {
                    Some(depth) => self.depth = depth,
                    None => self.broken = true,
                }
            }
            b',' if at_base => self.expect_key = true,
            b'"' => {
                if self.base == 0 {
                    self.broken = true;
                }
                self.in_string = true;
                if at_base && self.expect_key {
                    self.start(Capture::Key, byte);
                } else if at_base && self.key_is_id {
                    self.start(Capture::Id, byte);
                }
            }
            b'0'..=b'9' | b'-' if at_base && !self.expect_key && self.key_is_id => {
                if self.capture == Capture::Id {
                    self.collect(byte);
                } else if self.id.is_none() {
                    self.start(Capture::Id, byte);
                }
            }
            _ if self.base == 0 => self.broken = true,
            _ => self.collect(byte),
        }
    }

    fn start(&mut self, capture: Capture, first: u8) {
        self.capture = capture;
        self.token.clear();
        self.token.push(first);
    }

    /// Notes the message that is being scanned, as soon as enough of it is known.
    fn note_current(&mut self) {
        if self.noted || !(self.has_method || self.has_answer) {
            return;
        }
        if let Some(id) = self.id.take() {
            self.noted = true;
            if self.has_method {
                self.requests.push(id);
            } else {
                self.answers.push(id);
            }
        }
    }

    /// Ends the message that is being scanned and makes ready for the next of a batch.
    fn finish_member(&mut self) {
        if !self.open {
            return;
        }
        self.open = false;
        self.note_current();
        if !self.noted {
            match (self.id.take(), self.has_method) {
                (Some(id), _) => self.answers.push(id),
                (None, true) => self.notifications += 1,
                (None, false) => self.unknown += 1,
            }
        }
        self.noted = false;
        self.has_method = false;
        self.has_answer = false;
        self.key_is_id = false;
        self.expect_key = false;
        self.capture = Capture::Nothing;
    }

    fn only_notifications(&self) -> bool {
        !self.broken && self.notifications > 0 && self.unknown == 0
    }
}
