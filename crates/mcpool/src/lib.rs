//! mcpool.
