//! mcpool-client.
