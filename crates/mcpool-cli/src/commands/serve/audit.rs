//! The file of `mcpool serve --audit`.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use mcpool::gateway::AuditEntry;

use crate::exit::Failure;

/// Opens the file, the user's alone when it is made.
pub(super) fn open(path: &Path) -> Result<Arc<Mutex<std::fs::File>>, Failure> {
    Ok(Arc::new(Mutex::new(super::files::private(path)?)))
}

/// Writes an entry as one line. A line of the system's cache does not block.
pub(super) fn write(file: &Mutex<std::fs::File>, entry: &AuditEntry) {
    use std::io::Write as _;
    let Ok(line) = serde_json::to_string(entry) else {
        return;
    };
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
        tracing::error!(%error, "an entry of the audit was not written");
    }
}
