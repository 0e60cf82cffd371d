//! Scripted clients.
