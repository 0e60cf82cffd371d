//! Where in NATS what is said: `docs/fleet-wire.md`, "Subjects". Pure.

use std::fmt::Write as _;

use mcpool_core::ServerName;

use crate::identity::{Identity, PoolName};

/// The queue group of the workers that have a server.
pub(crate) const QUEUE_GROUP: &str = "mcpool";

/// Where all workers of a pool listen.
pub(crate) fn pool(pool: &PoolName) -> String {
    format!("mcpool.{pool}")
}

/// Where the workers that have a server listen, as a queue group.
pub(crate) fn server(pool: &PoolName, server: &ServerName) -> String {
    format!("mcpool.{pool}.{}", token(server))
}

/// Where the one worker that has this instance listens.
pub(crate) fn instance(pool: &PoolName, server: &ServerName, instance: &Identity) -> String {
    format!("mcpool.{pool}.{}.{instance}", token(server))
}

/// Below which all inboxes of a process are.
pub(crate) fn inbox_prefix(pool: &PoolName, identity: &Identity) -> String {
    format!("mcpool-inbox.{pool}.{identity}")
}

/// A server's name as a token of a subject: each byte that is not `A-Z a-z 0-9 _ -` is `=XX`. It
/// can be a key of a KV bucket as well.
#[must_use]
pub fn token(server: &ServerName) -> String {
    let mut token = String::with_capacity(server.as_str().len());
    for byte in server.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            token.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(token, "={byte:02X}");
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_are_one_token_and_stay_apart() {
        let token = |name: &str| token(&ServerName::new(name).unwrap());
        assert_eq!(token("files-1_a"), "files-1_a");
        assert_eq!(token("a.b/c d"), "a=2Eb=2Fc=20d");
        assert_eq!(token("*"), "=2A");
        assert_eq!(token("日"), "=E6=97=A5");
        assert_eq!(token("a=2Eb"), "a=3D2Eb");
    }

    #[test]
    fn subjects_are_those_of_the_page() {
        let (p, i) = (PoolName::new("p").unwrap(), Identity::new("w1").unwrap());
        let s = ServerName::new("a.b").unwrap();
        assert_eq!(pool(&p), "mcpool.p");
        assert_eq!(server(&p, &s), "mcpool.p.a=2Eb");
        assert_eq!(instance(&p, &s, &i), "mcpool.p.a=2Eb.w1");
        assert_eq!(inbox_prefix(&p, &i), "mcpool-inbox.p.w1");
    }
}
