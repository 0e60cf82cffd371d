//! Names for tools that are unique across servers and that every model API takes.
//!
//! A qualified name is `server__tool`, of at most 64 characters out of `[a-zA-Z0-9_-]`. Where
//! that text is not the pair itself (a character had to be replaced, it was too long, or it could
//! be read as another pair), a hash of the pair follows. So a name depends on its own pair alone:
//! not on the order of servers and tools, and not on what else is there.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// The longest qualified name, in characters.
pub const MAX_LEN: usize = 64;
/// What stands between the server and the tool.
pub const SEPARATOR: &str = "__";
/// How many hexadecimal digits of the hash follow a name that needs one.
const HASH_DIGITS: usize = 8;

/// The qualified name of a tool.
///
/// ```
/// use mcpool_manager::naming::qualify;
///
/// assert_eq!(qualify("files", "read_file"), "files__read_file");
/// // Replaced characters, and too much text, are distinguished by a hash of the pair.
/// assert_ne!(qualify("my files", "read"), qualify("my.files", "read"));
/// assert!(qualify("files", &"x".repeat(200)).len() <= 64);
/// ```
#[must_use]
pub fn qualify(server: &str, tool: &str) -> String {
    let plain = format!("{}{SEPARATOR}{}", replaced(server), replaced(tool));
    let faithful = !server.is_empty()
        && !tool.is_empty()
        && allowed(server)
        && allowed(tool)
        // Otherwise the first separator would not be where the server's name ends.
        && !server.contains(SEPARATOR)
        && !server.ends_with('_');
    if faithful && plain.len() <= MAX_LEN {
        plain
    } else {
        hashed(&plain, server, tool, HASH_DIGITS)
    }
}

/// The server and the tool whose pair a qualified name is, unless it has a hash; `None` for what is
/// no qualified name. A name with a hash may look like a pair: of a server that there is not.
///
/// ```
/// use mcpool_manager::naming::{parts, qualify};
///
/// assert_eq!(parts("files__read_file"), Some(("files", "read_file")));
/// assert_eq!(parts("read_file"), None);
/// let hashed = qualify("my files", "read");
/// assert_eq!(parts(&hashed).map(|(server, _)| server), Some("my_files"));
/// ```
#[must_use]
pub fn parts(qualified_name: &str) -> Option<(&str, &str)> {
    let (server, tool) = qualified_name.split_once(SEPARATOR)?;
    (qualify(server, tool) == qualified_name).then_some((server, tool))
}

/// The qualified names of these pairs of server and tool, in their order, all different.
///
/// Each is [`qualify`] of its pair. Only where two pairs meet in one name nonetheless (a tool that
/// is called like another one's hashed name) do both get a longer hash; which ones does not depend
/// on the order. Equal pairs get equal names.
#[must_use]
pub fn qualify_all<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<String> {
    let mut names: Vec<String> = pairs.iter().map(|(s, t)| qualify(s, t)).collect();
    let mut digits = HASH_DIGITS;
    while digits < 32 {
        digits *= 2;
        let mut owners: HashMap<&str, (&str, &str)> = HashMap::new();
        let mut clashing: Vec<String> = Vec::new();
        for (name, pair) in names.iter().zip(pairs) {
            if *owners.entry(name).or_insert(*pair) != *pair {
                clashing.push(name.clone());
            }
        }
        if clashing.is_empty() {
            break;
        }
        for (name, (server, tool)) in names.iter_mut().zip(pairs) {
            if clashing.contains(name) {
                let plain = format!("{}{SEPARATOR}{}", replaced(server), replaced(tool));
                *name = hashed(&plain, server, tool, digits);
            }
        }
    }
    names
}

/// The text, cut to make room, with the hash of the pair behind it.
fn hashed(plain: &str, server: &str, tool: &str, digits: usize) -> String {
    let mut hash = Sha256::new();
    // The length keeps ("ab", "c") and ("a", "bc") apart.
    hash.update(
        u64::try_from(server.len())
            .unwrap_or(u64::MAX)
            .to_be_bytes(),
    );
    hash.update(server.as_bytes());
    hash.update(tool.as_bytes());
    let mut suffix: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    suffix.truncate(digits);
    let room = MAX_LEN - 1 - suffix.len();
    // `plain` is ASCII: every cut is a character's end.
    let head = plain.get(..room.min(plain.len())).unwrap_or_default();
    format!("{head}_{suffix}")
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn allowed(text: &str) -> bool {
    text.chars().all(is_allowed)
}

fn replaced(text: &str) -> String {
    text.chars()
        .map(|c| if is_allowed(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests;
