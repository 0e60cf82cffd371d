//! Catalogs by the hash of their content, in parts that fit the payload of a message.

use bytes::Bytes;
use mcpool_core::{Error, ErrorKind, Listing, Raw, Reply, Result};
use mcpool_manager::KnownLists;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::Bucket;
use crate::outgoing::hex;

/// The largest catalog, in bytes.
const MAX_CATALOG: usize = 64 << 20;

/// What the key of a catalog holds; its parts lie beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    parts: usize,
    bytes: usize,
}

/// Whether this is the hash of a catalog, which is a token of a key.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hash(catalog: &[u8]) -> String {
    hex(Sha256::new_with_prefix(catalog))
}

/// The lists of a server that are known: each item is its text as it came.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Catalog {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tools: Option<Vec<Raw>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prompts: Option<Vec<Raw>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resources: Option<Vec<Raw>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) templates: Option<Vec<Raw>>,
}

impl Catalog {
    pub(super) fn write(&self) -> Result<Bytes> {
        Ok(Raw::of(self)?.get().to_owned().into())
    }

    pub(super) fn read(catalog: &[u8]) -> Result<Self> {
        serde_json::from_slice(catalog).map_err(|_| {
            Error::new(
                ErrorKind::VersionMismatch,
                "the catalog in the registry is of another version",
            )
        })
    }

    /// The lists. What is no item of its list is left out.
    pub(super) fn lists(self) -> KnownLists {
        let mut lists = KnownLists::default();
        lists.tools = self.tools.map(listing);
        lists.prompts = self.prompts.map(listing);
        lists.resources = self.resources.map(listing);
        lists.templates = self.templates.map(listing);
        lists
    }
}

/// The texts of a list's items.
pub(super) fn texts<T>(items: &[Reply<T>]) -> Vec<Raw> {
    items.iter().map(|item| item.raw().clone()).collect()
}

fn listing<T: DeserializeOwned>(items: Vec<Raw>) -> Listing<T> {
    let items = items.into_iter().filter_map(|raw| {
        let item = raw.parse::<T>().ok()?;
        Some(Reply::new(item, raw))
    });
    Listing::new(items.collect())
}

/// Stores a catalog in parts of at most so many bytes, and gives its hash.
pub(super) async fn store(bucket: &Bucket, catalog: &Bytes, part: usize) -> Result<String> {
    if catalog.len() > MAX_CATALOG {
        let message = format!("a catalog has at most {MAX_CATALOG} bytes");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let hash = hash(catalog);
    let mut parts = 0;
    for (number, part) in catalog.chunks(part.max(1)).enumerate() {
        let key = format!("catalog.{hash}.{number}");
        bucket.put(&key, catalog.slice_ref(part)).await?;
        parts = number + 1;
    }
    // Last: who finds it finds the parts.
    let index = Index {
        parts,
        bytes: catalog.len(),
    };
    let index = serde_json::to_vec(&index).unwrap_or_default();
    bucket.put(&format!("catalog.{hash}"), index.into()).await?;
    Ok(hash)
}

/// The catalog of a hash, checked against it.
pub(super) async fn load(bucket: &Bucket, wanted: &str) -> Result<Bytes> {
    if !is_hash(wanted) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "this is no hash of a catalog",
        ));
    }
    let damaged = || {
        Error::new(
            ErrorKind::Protocol,
            "the catalog in the registry is damaged",
        )
    };
    let index = bucket.read(&format!("catalog.{wanted}")).await?;
    let index = index.value.ok_or_else(damaged)?;
    let index: Index = serde_json::from_slice(&index).map_err(|_| damaged())?;
    if index.bytes > MAX_CATALOG || index.parts > index.bytes {
        return Err(damaged());
    }
    let mut catalog = Vec::with_capacity(index.bytes);
    for number in 0..index.parts {
        let part = bucket.read(&format!("catalog.{wanted}.{number}")).await?;
        catalog.extend_from_slice(&part.value.ok_or_else(damaged)?);
        if catalog.len() > index.bytes {
            return Err(damaged());
        }
    }
    if hash(&catalog) != wanted {
        return Err(damaged());
    }
    Ok(catalog.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_kept_as_they_came() {
        let text = r#"{"tools":[{"name":"a","inputSchema":{"type":"object"},"x":1.0e400},{"no":"tool"}],"prompts":[{"name":"p","y":1}],"later":[]}"#;
        let lists = Catalog::read(text.as_bytes()).unwrap().lists();
        let tools = lists.tools.unwrap().items;
        assert_eq!(tools.len(), 1);
        assert!(lists.resources.is_none() && lists.templates.is_none());
        let kept = Catalog {
            tools: Some(texts(&tools)),
            prompts: lists.prompts.map(|prompts| texts(&prompts.items)),
            ..Catalog::default()
        };
        let first = r#"{"tools":[{"name":"a","inputSchema":{"type":"object"},"x":1.0e400}],"prompts":[{"name":"p","y":1}]}"#;
        assert_eq!(kept.write().unwrap(), first.as_bytes());
        assert!(Catalog::read(b"[{}]").is_err());
    }
}
