//! A file's text, or an error that says where, what, and what to do.

use std::{io, path::Path, sync::Arc};

use mcpool_core::{Error, ErrorKind, Result};

use crate::source::Source;

/// No configuration is larger; something else was named.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a file. A missing one is `None` unless it must exist.
pub(crate) fn read(path: &Path, must_exist: bool) -> Result<Option<Arc<Source>>> {
    let shown = path.display();
    let fail = |what: String| {
        Error::new(
            ErrorKind::InvalidSpec,
            format!("cannot read the configuration {shown}: {what}"),
        )
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(None),
        Err(error) => return Err(fail(advice(&error)).with_source(error)),
    };
    if metadata.is_dir() {
        return Err(fail("it is a directory; name a file in it".to_owned()));
    }
    if metadata.len() > MAX_BYTES {
        return Err(fail(
            "it is larger than 64 MiB; is it the right file?".to_owned(),
        ));
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(None),
        Err(error) => return Err(fail(advice(&error)).with_source(error)),
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(fail("it is UTF-16; save it as UTF-8".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        fail(format!("line {line} is not UTF-8; save the file as UTF-8"))
    })?;
    Ok(Some(Source::new(path.to_string_lossy(), Some(path), &text)))
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; check the path, or create it with `mcpool config add`"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => "permission denied; check who may read it".to_owned(),
        _ => format!("{error}"),
    }
}
