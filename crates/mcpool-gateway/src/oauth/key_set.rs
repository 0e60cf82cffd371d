//! The keys of an authorization server (RFC 7517), fetched when they are needed.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse},
};
use mcpool_core::{Error, ErrorKind, Result};
use tokio::{sync::Mutex, time::Instant};

/// How long keys are used before they are fetched again: one that was withdrawn is good no longer.
const KEYS_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The shortest time between two fetches, so that tokens with made-up keys cause no more.
const FETCH_PAUSE: Duration = Duration::from_secs(10);

/// Where the keys of an issuer come from.
pub(super) trait Source: Send + Sync {
    /// The keys as they are published now.
    fn fetch(&self) -> impl Future<Output = Result<JwkSet>> + Send;
}

/// The keys of one issuer.
pub(super) struct KeySet<S> {
    source: S,
    keys: ArcSwapOption<Keys>,
    /// When a fetch last ended. Who holds it fetches.
    tried: Mutex<Option<Instant>>,
}

struct Keys {
    keys: JwkSet,
    fetched: Instant,
}

impl<S: Source> KeySet<S> {
    pub(super) fn new(source: S) -> Self {
        Self {
            source,
            keys: ArcSwapOption::empty(),
            tried: Mutex::default(),
        }
    }

    /// The key that a token names, if the issuer has it. One that is not known may be new: then
    /// the keys are fetched once more.
    ///
    /// # Errors
    /// When there are no keys, and none can be fetched.
    pub(super) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>> {
        // A key that is known waits for no fetch: made-up tokens hold up none that are good.
        if let Some(known) = self.known(id, algorithm) {
            return Ok(Some(known));
        }
        // Held while they are fetched: anybody who comes meanwhile waits for the same keys.
        let mut tried = self.tried.lock().await;
        if let Some(known) = self.known(id, algorithm) {
            return Ok(Some(known));
        }
        let is_fresh = self.fresh().is_some();
        if tried.is_some_and(|at| at.elapsed() < FETCH_PAUSE) {
            return match is_fresh {
                true => Ok(None),
                false => Err(Error::new(
                    ErrorKind::NotConnected,
                    "they were not had just now",
                )),
            };
        }
        let fetched = self.source.fetch().await;
        // From its end on: a fetch may take longer than the pause.
        *tried = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                let found = find(&keys, id, algorithm);
                self.keys.store(Some(Arc::new(Keys {
                    keys,
                    fetched: Instant::now(),
                })));
                Ok(found)
            }
            // What is known of fresh keys is still true.
            Err(_) if is_fresh => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The keys, unless they are too old.
    fn fresh(&self) -> Option<Arc<Keys>> {
        let keys = self.keys.load_full();
        keys.filter(|keys| keys.fetched.elapsed() < KEYS_LIFETIME)
    }

    fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        find(&self.fresh()?.keys, id, algorithm)
    }
}

/// The key of this name for this algorithm. Without a name there must be one alone that fits.
fn find(keys: &JwkSet, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let mut fitting = keys.keys.iter().filter(|key| fits(key, algorithm));
    let key = match id {
        Some(id) => fitting.find(|key| key.common.key_id.as_deref() == Some(id)),
        None => match (fitting.next(), fitting.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        },
    };
    DecodingKey::from_jwk(key?).ok()
}

fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let is_kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(
            algorithm,
            Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
        ),
        AlgorithmParameters::EllipticCurve(_) => {
            matches!(algorithm, Algorithm::ES256 | Algorithm::ES384)
        }
        AlgorithmParameters::OctetKeyPair(_) => algorithm == Algorithm::EdDSA,
        // A secret that is published is none.
        AlgorithmParameters::OctetKey(_) => false,
    };
    let signs = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    is_kind && signs
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::time::advance;

    use super::*;

    /// Publishes one key under this name, or nothing.
    struct Published {
        key: std::sync::Mutex<Option<&'static str>>,
        fetches: AtomicUsize,
    }

    impl Source for Published {
        async fn fetch(&self) -> Result<JwkSet> {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            let away = || Error::new(ErrorKind::NotConnected, "it is away");
            let key = self.key.lock().unwrap().ok_or_else(away)?;
            // Any point will do: nothing is verified here.
            let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": key, "use": "sig",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
            Ok(serde_json::from_value(keys).unwrap())
        }
    }

    impl KeySet<Published> {
        fn of(key: &'static str) -> Self {
            Self::new(Published {
                key: std::sync::Mutex::new(Some(key)),
                fetches: AtomicUsize::new(0),
            })
        }

        fn publish(&self, key: Option<&'static str>) {
            *self.source.key.lock().unwrap() = key;
        }

        fn fetches(&self) -> usize {
            self.source.fetches.load(Ordering::SeqCst)
        }

        /// Whether a key is there; `None` when that cannot be said.
        async fn has(&self, id: &str) -> Option<bool> {
            let key = self.key(Some(id), Algorithm::EdDSA).await;
            key.ok().map(|key| key.is_some())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_fetched_when_they_are_old_and_not_before() {
        let keys = KeySet::of("one");
        for _ in 0..3 {
            assert_eq!(keys.has("one").await, Some(true));
        }
        assert_eq!(keys.fetches(), 1);
        advance(KEYS_LIFETIME - Duration::from_millis(1)).await;
        assert_eq!(keys.has("one").await, Some(true));
        assert_eq!(keys.fetches(), 1);
        // What was withdrawn meanwhile is good no longer.
        keys.publish(Some("two"));
        advance(Duration::from_millis(1)).await;
        assert_eq!(keys.has("one").await, Some(false));
        assert_eq!(keys.fetches(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_keys_cause_one_fetch_in_each_pause() {
        let keys = KeySet::of("one");
        assert_eq!(keys.has("two").await, Some(false));
        keys.publish(Some("two"));
        advance(FETCH_PAUSE - Duration::from_millis(1)).await;
        assert_eq!(keys.has("two").await, Some(false));
        assert_eq!(keys.fetches(), 1);
        advance(Duration::from_millis(1)).await;
        assert_eq!(keys.has("two").await, Some(true));
        assert_eq!(keys.fetches(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_takes_nothing_from_keys_that_are_fresh() {
        let keys = KeySet::of("one");
        assert_eq!(keys.has("one").await, Some(true));
        keys.publish(None);
        advance(FETCH_PAUSE).await;
        assert_eq!(keys.has("two").await, Some(false));
        assert_eq!(keys.has("one").await, Some(true));
        advance(KEYS_LIFETIME).await;
        assert_eq!(keys.has("one").await, None);
        let fetches = keys.fetches();
        assert_eq!(keys.has("one").await, None);
        assert_eq!(keys.fetches(), fetches);
        keys.publish(Some("one"));
        advance(FETCH_PAUSE).await;
        assert_eq!(keys.has("one").await, Some(true));
    }
}
