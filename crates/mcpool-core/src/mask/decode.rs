//! Undoes the escapes under which a value may hide, and keeps where each byte came from.

use std::ops::Range;

/// Layers of escapes that are undone: JSON within JSON, an escaped URL within JSON.
const MAX_LAYERS: usize = 3;

/// A text with its escapes undone.
pub(super) struct Layer {
    bytes: Vec<u8>,
    /// For each byte where it begins in the first text; one more for the end.
    starts: Vec<usize>,
}

impl Layer {
    fn of(text: &str) -> Self {
        Self {
            bytes: text.as_bytes().to_vec(),
            starts: (0..=text.len()).collect(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A range of this layer as one of the first text.
    pub(super) fn place(&self, range: Range<usize>) -> Range<usize> {
        self.starts[range.start]..self.starts[range.end]
    }

    /// The layer below; `None` when there is no escape that this undoes.
    fn below(&self, undo: Undo) -> Option<Self> {
        let mut below = Self {
            bytes: Vec::with_capacity(self.bytes.len()),
            starts: Vec::with_capacity(self.starts.len()),
        };
        let mut at = 0;
        let mut undone = false;
        while at < self.bytes.len() {
            let rest = &self.bytes[at..];
            let (bytes, length) = match undo(rest) {
                Some((bytes, length)) => {
                    undone = true;
                    (bytes, length)
                }
                None => (Escape::Byte(rest[0]), 1),
            };
            let start = self.starts[at];
            bytes.write(&mut below.bytes);
            below.starts.resize(below.bytes.len(), start);
            at += length;
        }
        below.starts.push(self.starts[self.bytes.len()]);
        undone.then_some(below)
    }
}

/// Calls back with every layer below a text.
pub(super) fn each_layer(text: &str, mut found: impl FnMut(&Layer)) {
    // Looking is cheap, and most texts hold no escape at all.
    for (mark, undo) in [
        ('%', percent as Undo),
        ('+', form as Undo),
        ('\\', backslash as Undo),
    ] {
        if !text.contains(mark) {
            continue;
        }
        let mut layer = Layer::of(text).below(undo);
        for _ in 0..MAX_LAYERS {
            let Some(this) = layer else { break };
            found(&this);
            // What was escaped may hold escapes of either kind.
            layer = this.below(backslash).or_else(|| this.below(percent));
        }
    }
}

/// A text with its `%41` undone, when it has any and is text then.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let layer = Layer::of(text).below(percent)?;
    String::from_utf8(layer.bytes).ok()
}

/// What one escape stands for.
enum Escape {
    Byte(u8),
    Char(char),
}

impl Escape {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Byte(byte) => out.push(byte),
            Self::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Undoes the escape that a text begins with, and says how long it is.
type Undo = fn(&[u8]) -> Option<(Escape, usize)>;

/// `%41` (RFC 3986, section 2.1).
fn percent(text: &[u8]) -> Option<(Escape, usize)> {
    let digits = text.strip_prefix(b"%")?;
    Some((Escape::Byte(hex(digits, 2)?.try_into().ok()?), 3))
}

/// As [`percent`], and `+` for a space (`application/x-www-form-urlencoded`).
fn form(text: &[u8]) -> Option<(Escape, usize)> {
    match text.first()? {
        b'+' => Some((Escape::Byte(b' '), 1)),
        _ => percent(text),
    }
}

/// The escapes of JSON (RFC 8259, section 7), and those of Rust that `Untrusted` writes.
fn backslash(text: &[u8]) -> Option<(Escape, usize)> {
    let [b'\\', kind, rest @ ..] = text else {
        return None;
    };
    let byte = match kind {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'f' => 0x0c,
        b'0' => 0,
        b'"' | b'\\' | b'/' | b'\'' => *kind,
        b'x' => return Some((Escape::Byte(hex(rest, 2)?.try_into().ok()?), 4)),
        b'u' if rest.first() == Some(&b'{') => {
            let digits = rest.iter().position(|byte| *byte == b'}')?.checked_sub(1)?;
            let code = hex(rest.get(1..)?, digits)?;
            return Some((Escape::Char(char::from_u32(code)?), digits + 4));
        }
        b'u' => return utf16(rest),
        _ => return None,
    };
    Some((Escape::Byte(byte), 2))
}

/// The digits of `\u0041`, or of a pair of surrogates.
fn utf16(digits: &[u8]) -> Option<(Escape, usize)> {
    let first = u16::try_from(hex(digits, 4)?).ok()?;
    if let Some(c) = char::from_u32(first.into()) {
        return Some((Escape::Char(c), 6));
    }
    let second = digits.get(4..)?.strip_prefix(b"\\u")?;
    let second = u16::try_from(hex(second, 4)?).ok()?;
    let c = char::decode_utf16([first, second]).next()?.ok()?;
    Some((Escape::Char(c), 12))
}

/// The number that so many hexadecimal digits stand for.
fn hex(text: &[u8], digits: usize) -> Option<u32> {
    let digits = std::str::from_utf8(text.get(..digits)?).ok()?;
    // `from_str_radix` takes a sign too.
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| all)
}
