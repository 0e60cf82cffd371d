//! A file's text, or an error that says where, what, and what to do.

use std::{io, path::Path, sync::Arc};

use mcpool_core::{Error, ErrorKind, Result};

use crate::source::Source;

/// No configuration is larger; something else was named.
pub(crate) const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a regular file that was not named by the user; a missing one is `None`.
pub(crate) fn read(path: &Path) -> Result<Option<Arc<Source>>> {
    match mcpool_files::read_regular(path, MAX_BYTES) {
        Ok(bytes) => source(path, Some(path), bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &advice(&error)).with_source(error)),
    }
}

/// Reads a file that the user named, which must be there. It may be a pipe, such as
/// `/dev/stdin`, unless pipes are refused: that is read until its other side closes it, and has no
/// place of its own.
pub(crate) fn read_named(path: &Path, refuses_pipes: bool) -> Result<Arc<Source>> {
    let fail = |error: io::Error| failed(path, &advice(&error)).with_source(error);
    let metadata = std::fs::metadata(path).map_err(fail)?;
    if refuses_pipes || metadata.is_file() || metadata.is_dir() {
        let bytes = mcpool_files::read_regular(path, MAX_BYTES).map_err(fail)?;
        return source(path, Some(path), bytes);
    }
    let pipe = std::fs::File::open(path).map_err(fail)?;
    let bytes = mcpool_files::read_stream(pipe, MAX_BYTES).map_err(fail)?;
    source(path, None, bytes)
}

fn source(path: &Path, place: Option<&Path>, bytes: Vec<u8>) -> Result<Arc<Source>> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(failed(path, "it is UTF-16; save it as UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        failed(
            path,
            &format!("line {line} is not UTF-8; save the file as UTF-8"),
        )
    })?;
    Ok(Source::new(path.to_string_lossy(), place, &text))
}

fn failed(path: &Path, what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidSpec,
        format!("cannot read the configuration {}: {what}", path.display()),
    )
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; check the path, or create it with `mcpool config add --file`"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => "permission denied; check who may read it".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory; name a file in it".to_owned(),
        io::ErrorKind::FileTooLarge => format!("{error}; is it the right file?"),
        _ => format!("{error}"),
    }
}
