//! Signed assertions by which a client proves itself (RFC 7523, `private_key_jwt`).
//!
//! rmcp can do this as well, but the future of its exchange is not `Send` (rmcp 3.9 keeps a
//! `form_urlencoded::Serializer` across an await), and it brings a second cryptography library.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mcpool_core::{Error, ErrorKind, Result, Secret};
use ring::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding,
    },
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;

use crate::jws;

/// How long an assertion is good: for one request, and some difference of the clocks.
const LIFETIME: u64 = 300;

/// `client_assertion_type` of such assertions.
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

enum Algorithm {
    Ecdsa(&'static EcdsaSigningAlgorithm),
    Rsa(&'static dyn RsaEncoding),
}

/// An assertion that this client is who it is, for this authorization server.
pub(crate) fn client_assertion(
    client_id: &str,
    issuer: &str,
    pem: &Secret,
    algorithm: Option<&str>,
) -> Result<String> {
    let name = algorithm.unwrap_or("ES256");
    let algorithm = match name {
        "ES256" => Algorithm::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
        "ES384" => Algorithm::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
        "RS256" => Algorithm::Rsa(&RSA_PKCS1_SHA256),
        "RS384" => Algorithm::Rsa(&RSA_PKCS1_SHA384),
        "RS512" => Algorithm::Rsa(&RSA_PKCS1_SHA512),
        other => {
            return Err(invalid(format!(
                "the signing algorithm {other:?} is not supported: use ES256, ES384, RS256, \
                 RS384 or RS512"
            )));
        }
    };
    let random = SystemRandom::new();
    let mut id = [0_u8; 16];
    ring::rand::SecureRandom::fill(&random, &mut id)
        .map_err(|_| Error::new(ErrorKind::Internal, "the system gives no random numbers"))?;
    let now = crate::grant::now();
    let header = json!({ "typ": "client-authentication+jwt", "alg": name });
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": issuer,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": URL_SAFE_NO_PAD.encode(id),
    });
    // No error of a parser is shown: it could quote the key.
    let key = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
        .map_err(|_| invalid("the private key is not PEM".to_owned()))?;
    let unusable = || invalid(format!("the private key cannot sign {name}"));
    jws::compact(&header, &claims, |input| match (&algorithm, &key) {
        (Algorithm::Ecdsa(algorithm), PrivateKeyDer::Pkcs8(key)) => {
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_pkcs8_der(), &random)
                .map_err(|_| unusable())?;
            let signature = pair.sign(&random, input).map_err(|_| unusable())?;
            Ok(signature.as_ref().to_vec())
        }
        (Algorithm::Rsa(encoding), PrivateKeyDer::Pkcs8(_) | PrivateKeyDer::Pkcs1(_)) => {
            let pair = match &key {
                PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
                _ => RsaKeyPair::from_pkcs8(key.secret_der()),
            }
            .map_err(|_| unusable())?;
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(*encoding, &random, input, &mut signature)
                .map_err(|_| unusable())?;
            Ok(signature)
        }
        _ => Err(invalid(format!(
            "the private key is not one for {name}: write it as PKCS#8 (BEGIN PRIVATE KEY)"
        ))),
    })
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidSpec, message)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn pem(der: &[u8]) -> Secret {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        Secret::new(format!(
            "-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"
        ))
    }

    #[test]
    fn an_assertion_verifies_and_names_its_audience() {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random)
                .unwrap();
        let jwt = client_assertion("me", "https://as.example", &pem(der.as_ref()), None).unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
            .verify(
                signed.as_bytes(),
                &URL_SAFE_NO_PAD.decode(signature).unwrap(),
            )
            .unwrap();
        let claims = URL_SAFE_NO_PAD
            .decode(signed.split('.').nth(1).unwrap())
            .unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], "https://as.example");
        assert_eq!(claims["sub"], "me");
    }

    #[test]
    fn a_key_that_does_not_fit_is_said_and_not_shown() {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        for (key, algorithm) in [
            (pem(der.as_ref()), Some("RS256")),
            (pem(der.as_ref()), Some("ES384")),
            (pem(b"canary"), None),
            (Secret::new("canary"), None),
            (pem(der.as_ref()), Some("none")),
        ] {
            let error = client_assertion("me", "https://as.example", &key, algorithm).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSpec);
            assert!(!format!("{error:?}").contains("canary"));
        }
    }
}
