//! mcpool-config.
