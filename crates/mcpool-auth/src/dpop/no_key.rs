//! Without the feature `dpop` there is no key: none can be made or read, so none signs.

use mcpool_core::{Result, Secret};
use url::Url;

use crate::{error::refused, features};

/// A key that cannot be.
#[derive(Debug)]
pub(crate) enum DpopKey {}

impl DpopKey {
    /// No key is made.
    pub(crate) fn generate() -> Result<Self> {
        Err(features::left_out(features::DPOP))
    }

    /// A build with the feature has stored the key of this grant; this one cannot use it.
    pub(crate) fn from_pkcs8(_pkcs8: &Secret) -> Result<Self> {
        Err(refused(
            "the stored login is bound to a key (DPoP), and this program was built without the \
             feature `dpop`: log in again",
        ))
    }

    pub(crate) fn pkcs8(&self) -> &Secret {
        match *self {}
    }

    pub(crate) fn set_nonce(&self, _url: &Url, _nonce: &str) -> bool {
        match *self {}
    }

    pub(crate) fn proof(&self, _method: &str, _url: &Url, _token: Option<&str>) -> Result<String> {
        match *self {}
    }
}
