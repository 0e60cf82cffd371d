//! mcpool-core.
