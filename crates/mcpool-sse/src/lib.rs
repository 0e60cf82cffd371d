//! mcpool-sse.
