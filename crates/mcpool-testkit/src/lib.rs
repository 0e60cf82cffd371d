//! mcpool-testkit.
