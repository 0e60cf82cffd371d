//! Unpacking a body piece by piece.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use mcpool_core::{Delivery, Error, ErrorKind, Result};

/// So much compressed text is unpacked at a time: it becomes at most about a thousand times as
/// much.
const STEP: usize = 1_024;

/// A body that is compressed with gzip.
pub(crate) struct Unpacker {
    decoder: MultiGzDecoder<Vec<u8>>,
    packed: Bytes,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self {
            decoder: MultiGzDecoder::new(Vec::new()),
            packed: Bytes::new(),
        }
    }
}

impl Unpacker {
    /// Takes the next piece as it came, when [`step`](Self::step) wants one.
    pub(crate) fn add(&mut self, packed: Bytes) {
        self.packed = packed;
    }

    /// The next piece unpacked; `None` when there is none before the next piece comes.
    pub(crate) fn step(&mut self) -> Result<Option<Bytes>> {
        while !self.packed.is_empty() {
            let step = self.packed.split_to(self.packed.len().min(STEP));
            self.decoder.write_all(&step).map_err(unreadable)?;
            // Without this, an event would stay inside until the next one.
            self.decoder.flush().map_err(unreadable)?;
            let piece = self.take();
            if piece.is_some() {
                return Ok(piece);
            }
        }
        Ok(None)
    }

    /// What is left at the end of the body.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>> {
        self.decoder.try_finish().map_err(unreadable)?;
        Ok(self.take())
    }

    fn take(&mut self) -> Option<Bytes> {
        let piece = std::mem::take(self.decoder.get_mut());
        (!piece.is_empty()).then(|| piece.into())
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Protocol,
        "the answer is said to be gzip and cannot be unpacked",
    )
    .with_delivery(Delivery::Unknown)
    .with_source(error)
}
