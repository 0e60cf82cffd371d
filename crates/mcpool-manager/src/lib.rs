//! mcpool-manager.
