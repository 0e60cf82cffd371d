//! The file of `mcpool serve --audit`.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use mcpool::gateway::AuditEntry;

use crate::{
    exit::Failure,
    render::{out, text::Text},
    text,
};

/// The file, and how writing to it goes.
pub(super) struct Audit<W = File> {
    name: String,
    file: Mutex<State<W>>,
}

struct State<W> {
    file: W,
    /// Entries that were not written since it last worked.
    lost: u64,
    /// Whether the last one was written in part.
    is_torn: bool,
}

/// Opens the file, the user's alone when it is made.
pub(super) fn open(path: &Path) -> Result<Arc<Audit>, Failure> {
    let file = super::files::private(path)?;
    Ok(Arc::new(Audit::new(path.display().to_string(), file)))
}

impl<W: Write> Audit<W> {
    fn new(name: String, file: W) -> Self {
        Self {
            name,
            file: Mutex::new(State {
                file,
                lost: 0,
                is_torn: false,
            }),
        }
    }

    /// Writes an entry as one line. A line of the system's cache does not block.
    pub(super) fn write(&self, entry: &AuditEntry) {
        let Ok(line) = serde_json::to_string(entry) else {
            return;
        };
        if let Some(said) = self.write_line(&line) {
            out::tell(&said);
        }
    }

    /// Writes a line; what is to be said of it, where that is new.
    fn write_line(&self, line: &str) -> Option<Text> {
        let mut state = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // What is left of a line that was cut does not spoil the next one.
        let before = if state.is_torn { "\n" } else { "" };
        let text = format!("{before}{line}\n");
        let (written, failed) = put(&mut state.file, text.as_bytes());
        if written > 0 {
            state.is_torn = failed.is_some();
        }
        let Some(error) = failed else {
            let lost = std::mem::take(&mut state.lost);
            return (lost > 0).then(|| {
                text!(
                    "warning: {}: the audit is written again; lost: {}\n",
                    self.name,
                    lost
                )
            });
        };
        state.lost = state.lost.saturating_add(1);
        (state.lost == 1).then(|| {
            text!(
                "warning: {}: the audit cannot be written: {}; requests are answered, and their \
                 entries are lost until it can be written again\n",
                self.name,
                error.to_string()
            )
        })
    }
}

/// Writes all of it, or as much as can be.
fn put(file: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.text.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_reported_once_and_what_was_lost_when_it_is_over() {
        let disk = Disk {
            room: 8,
            text: Vec::new(),
        };
        let audit = Audit::new("audit.jsonl".to_owned(), disk);
        let said = |line: &str| audit.write_line(line).map(|said| said.as_str().to_owned());
        assert_eq!(said("one"), None);
        let full = said("second").unwrap();
        assert!(
            full.contains("audit.jsonl: the audit cannot be written"),
            "{full}"
        );
        assert_eq!(said("third"), None);
        audit.file.lock().unwrap().file.room = 100;
        let again = said("fourth").unwrap();
        assert!(again.contains("lost: 2"), "{again}");
        assert_eq!(said("fifth"), None);
        let text = audit.file.lock().unwrap().file.text.clone();
        assert_eq!(String::from_utf8_lossy(&text), "one\nseco\nfourth\nfifth\n");
    }
}
