//! The addresses at which a gateway serves HTTP now: for programs that look for one that does.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The addresses, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<Vec<SocketAddr>>);

impl Addresses {
    /// One more, for as long as what is given back lives.
    pub(crate) fn add(&self, address: SocketAddr) -> Served<'_> {
        self.list().push(address);
        Served {
            addresses: self,
            address,
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<SocketAddr> {
        self.list().clone()
    }

    fn list(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address that is served.
pub(crate) struct Served<'a> {
    addresses: &'a Addresses,
    address: SocketAddr,
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let mut list = self.addresses.list();
        if let Some(at) = list.iter().position(|address| *address == self.address) {
            list.remove(at);
        }
    }
}
