//! mcpool-auth.
