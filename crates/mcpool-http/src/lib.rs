//! mcpool-http.
