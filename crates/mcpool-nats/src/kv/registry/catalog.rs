//! Catalogs by the hash of their content, in parts that fit the payload of a message.

use bytes::Bytes;
use mcpool_core::{Error, ErrorKind, Listing, Raw, Reply, Result, model::Tool};
use serde::{Deserialize, Serialize};
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

/// A catalog of these tools: their text as it came, in a JSON array.
pub(super) fn of_tools<'a>(tools: impl Iterator<Item = &'a Reply<Tool>>) -> Result<Bytes> {
    let tools: Vec<&Raw> = tools.map(Reply::raw).collect();
    Ok(Raw::of(&tools)?.get().to_owned().into())
}

/// The tools of a catalog. What is no tool is left out.
pub(super) fn read_tools(catalog: &[u8]) -> Result<Listing<Tool>> {
    let tools: Vec<Raw> = serde_json::from_slice(catalog).map_err(|_| {
        Error::new(
            ErrorKind::Protocol,
            "the catalog in the registry is no list of tools",
        )
    })?;
    let tools = tools.into_iter().filter_map(|raw| {
        let tool = raw.parse::<Tool>().ok()?;
        Some(Reply::new(tool, raw))
    });
    Ok(Listing::new(tools.collect()))
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
    fn tools_are_kept_as_they_came() {
        let text = r#"[{"name":"a","inputSchema":{"type":"object"},"x":1.0e400},{"no":"tool"}]"#;
        let read = read_tools(text.as_bytes()).unwrap();
        assert_eq!(read.items.len(), 1);
        let kept = of_tools(read.items.iter()).unwrap();
        let first = r#"[{"name":"a","inputSchema":{"type":"object"},"x":1.0e400}]"#;
        assert_eq!(kept, first.as_bytes());
        assert!(read_tools(b"{}").is_err());
    }
}
