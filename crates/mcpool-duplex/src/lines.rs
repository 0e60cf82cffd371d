//! Messages that are lines on a stream of bytes (MCP, "Transports", stdio): pipes, sockets, serial
//! lines.
//!
//! [`LineReader`] holds at most one line, of at most a limit; the rest of a longer one is scanned
//! for its id as it streams past and fails the request that it answers. It holds no buffer while
//! it waits, but for a second after a large message. [`LineWriter`] lets the caller write, in one
//! system call, when nobody waits before it; what does not fit is queued and written as the server
//! reads.

mod decoder;
mod reader;
mod writer;

pub use reader::LineReader;
pub use writer::LineWriter;
