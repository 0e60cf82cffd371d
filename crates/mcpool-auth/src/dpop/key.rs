//! The key, and a fresh proof of it for every request.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mcpool_core::{Error, ErrorKind, Result, Secret};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use super::ALGORITHM;
use crate::jws;

/// No nonce is longer; a longer one is not taken.
const MAX_NONCE: usize = 1024;

/// A P-256 key and the nonces that servers gave for it.
pub(crate) struct DpopKey {
    pair: EcdsaKeyPair,
    pkcs8: Secret,
    random: SystemRandom,
    /// By origin, of which there are two: a nonce is good at the server that gave it (RFC 9449,
    /// section 8.2).
    nonces: Mutex<HashMap<String, String>>,
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DpopKey")
    }
}

impl DpopKey {
    /// A new key.
    pub(crate) fn generate() -> Result<Self> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| broken("no DPoP key could be made"))?;
        Self::from_pkcs8(&Secret::new(URL_SAFE_NO_PAD.encode(document.as_ref())))
    }

    /// The key that a grant was bound to.
    pub(crate) fn from_pkcs8(pkcs8: &Secret) -> Result<Self> {
        let random = SystemRandom::new();
        let document = URL_SAFE_NO_PAD
            .decode(pkcs8.expose())
            .map_err(|_| broken("the stored DPoP key is damaged"))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, &random)
            .map_err(|_| broken("the stored DPoP key is damaged"))?;
        Ok(Self {
            pair,
            pkcs8: pkcs8.clone(),
            random,
            nonces: Mutex::default(),
        })
    }

    /// The private key, to be stored with the grant.
    pub(crate) fn pkcs8(&self) -> &Secret {
        &self.pkcs8
    }

    /// The nonce to use at the origin of this URL from now on. Whether it is a new one.
    pub(crate) fn set_nonce(&self, url: &Url, nonce: &str) -> bool {
        if nonce.len() > MAX_NONCE {
            return false;
        }
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = url.origin().ascii_serialization();
        nonces.insert(origin, nonce.to_owned()).as_deref() != Some(nonce)
    }

    /// A proof for one request, with the access token that goes with it, if one does.
    pub(crate) fn proof(&self, method: &str, url: &Url, token: Option<&str>) -> Result<String> {
        let mut target = url.clone();
        target.set_query(None);
        target.set_fragment(None);
        let mut id = [0_u8; 16];
        self.random
            .fill(&mut id)
            .map_err(|_| broken("the system gives no random numbers"))?;
        let mut claims = json!({
            "jti": URL_SAFE_NO_PAD.encode(id),
            "htm": method,
            "htu": target.as_str(),
            "iat": crate::grant::now(),
        });
        if let Some(token) = token {
            claims["ath"] = URL_SAFE_NO_PAD.encode(Sha256::digest(token)).into();
        }
        let origin = url.origin().ascii_serialization();
        let nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nonce) = nonces.get(&origin) {
            claims["nonce"] = nonce.as_str().into();
        }
        drop(nonces);
        self.sign(&claims)
    }

    fn sign(&self, claims: &serde_json::Value) -> Result<String> {
        // An uncompressed point: 0x04, then x and y of 32 bytes each.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .map(|rest| rest.split_at(rest.len() / 2))
            .ok_or_else(|| broken("the DPoP key has no public point"))?;
        let header = json!({
            "typ": "dpop+jwt",
            "alg": ALGORITHM,
            "jwk": {
                "kty": "EC",
                "crv": "P-256",
                "x": URL_SAFE_NO_PAD.encode(x),
                "y": URL_SAFE_NO_PAD.encode(y),
            },
        });
        jws::compact(&header, claims, |input| {
            let signature = self
                .pair
                .sign(&self.random, input)
                .map_err(|_| broken("the DPoP proof could not be signed"))?;
            Ok(signature.as_ref().to_vec())
        })
    }
}

fn broken(message: &str) -> Error {
    Error::new(ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn part(proof: &str, index: usize) -> Vec<u8> {
        URL_SAFE_NO_PAD
            .decode(proof.split('.').nth(index).unwrap())
            .unwrap()
    }

    #[test]
    fn a_proof_verifies_with_the_key_inside_it_and_names_its_request() {
        let key = DpopKey::generate().unwrap();
        let url: Url = "https://mcp.example/mcp?session=1#x".parse().unwrap();
        assert!(key.set_nonce(&url, "n-1"));
        assert!(!key.set_nonce(&url, "n-1"));
        assert!(!key.set_nonce(&url, &"n".repeat(MAX_NONCE + 1)));
        let proof = key.proof("POST", &url, Some("token")).unwrap();

        let header: Value = serde_json::from_slice(&part(&proof, 0)).unwrap();
        let claims: Value = serde_json::from_slice(&part(&proof, 1)).unwrap();
        let coordinate = |name: &str| {
            URL_SAFE_NO_PAD
                .decode(header["jwk"][name].as_str().unwrap())
                .unwrap()
        };
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let signed = proof.rsplit_once('.').unwrap().0;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &part(&proof, 2))
            .unwrap();

        assert_eq!(header["typ"], "dpop+jwt");
        assert!(header["jwk"].get("d").is_none());
        assert_eq!(claims["htm"], "POST");
        assert_eq!(claims["htu"], "https://mcp.example/mcp");
        assert_eq!(claims["nonce"], "n-1");
        // The vector: base64url(SHA-256("token")).
        assert_eq!(claims["ath"], "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
    }

    #[test]
    fn nonces_stay_at_their_origin_and_ids_are_fresh() {
        let key = DpopKey::generate().unwrap();
        let server: Url = "https://mcp.example/mcp".parse().unwrap();
        let other: Url = "https://as.example/token".parse().unwrap();
        key.set_nonce(&server, "n-1");
        let first: Value =
            serde_json::from_slice(&part(&key.proof("POST", &other, None).unwrap(), 1)).unwrap();
        let second: Value =
            serde_json::from_slice(&part(&key.proof("POST", &other, None).unwrap(), 1)).unwrap();
        assert!(first.get("nonce").is_none());
        assert!(first.get("ath").is_none());
        assert_ne!(first["jti"], second["jti"]);
    }

    #[test]
    fn a_stored_key_is_the_same_key() {
        let key = DpopKey::generate().unwrap();
        let again = DpopKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(
            key.pair.public_key().as_ref(),
            again.pair.public_key().as_ref()
        );
        assert!(DpopKey::from_pkcs8(&Secret::new("!")).is_err());
    }
}
