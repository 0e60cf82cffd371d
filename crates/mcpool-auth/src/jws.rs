//! Signed objects of JSON (RFC 7515).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mcpool_core::Result;
use serde_json::Value;

/// Puts header and claims together as a JWS does (RFC 7515, section 7.1).
pub(crate) fn compact(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<String> {
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = sign(input.as_bytes())?;
    Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
