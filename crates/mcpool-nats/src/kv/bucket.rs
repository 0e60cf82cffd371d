//! A KV bucket, and what is known after a write to it.

use std::{error::Error as StdError, time::Duration};

#[cfg(feature = "auth")]
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{
    self, ErrorCode,
    context::{
        AccountError, AccountErrorKind, CreateKeyValueError, CreateKeyValueErrorKind,
        CreateStreamError, CreateStreamErrorKind,
    },
    kv::{Config, Operation, Store, UpdateError, UpdateErrorKind},
};
use bytes::Bytes;
use mcpool_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::carrier::Carrier;

/// How long an answer of JetStream is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the creation of a bucket is tried: a cluster may be starting, or in an election, and then
/// what it is asked is lost.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two tries.
const CREATE_PAUSE: Duration = Duration::from_millis(250);

/// How a bucket is kept, when it is created. One that is there already stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Storage {
    replicas: usize,
    max_bytes: u32,
}

/// The most replicas that JetStream keeps.
const MAX_REPLICAS: usize = 5;

/// Bytes of one bucket on each node's disk, by default.
const MAX_BUCKET_BYTES: u32 = 256 << 20;

impl Default for Storage {
    fn default() -> Self {
        Self {
            replicas: 1,
            max_bytes: MAX_BUCKET_BYTES,
        }
    }
}

impl Storage {
    /// Sets on how many nodes it is kept, 1 to 5. Default 1, for a single `nats-server`; 3 in a
    /// cluster, or the death of one node takes the leases along.
    pub fn with_replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas.clamp(1, MAX_REPLICAS);
        self
    }

    /// Sets how many bytes it may have on disk. Default 256 MiB; writes fail beyond.
    pub fn with_max_bytes(mut self, bytes: u32) -> Self {
        self.max_bytes = bytes;
        self
    }
}

/// One bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket(Store);

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The revision; 0 where nothing was ever written.
    pub(crate) revision: u64,
    /// The value; `None` where there is none, or where it was deleted.
    pub(crate) value: Option<Bytes>,
}

/// What is known after a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is there, with this revision.
    At(u64),
    /// It is not there: the key had another revision than expected.
    Conflict,
    /// It may be there, or may come to be there later.
    Unknown(String),
}

impl Bucket {
    /// The pool's bucket for `what`, which is created if it is not there. Keys that are older than
    /// `max_age` go; zero: none.
    pub(crate) async fn open(
        carrier: &Carrier,
        what: &str,
        storage: Storage,
        max_age: Duration,
    ) -> Result<Self> {
        let mut context = jetstream::new(carrier.client().clone());
        let bucket = format!("mcpool-{}-{what}", carrier.pool());
        context.set_timeout(ANSWER_TIMEOUT);
        if let Ok(store) = context.get_key_value(bucket.as_str()).await {
            return Ok(Self(store));
        }
        let config = Config {
            bucket: bucket.clone(),
            history: 1,
            max_age,
            max_bytes: i64::from(storage.max_bytes),
            num_replicas: storage.replicas,
            ..Config::default()
        };
        let until = Instant::now() + CREATE_TIMEOUT;
        loop {
            let created = context.create_key_value(config.clone()).await;
            // Whatever it says: another process may have created it meanwhile.
            let found = context.get_key_value(bucket.as_str()).await;
            let why = match (found, created) {
                (Ok(store), _) => return Ok(Self(store)),
                (Err(_), Ok(_)) => "it cannot be read".to_owned(),
                (Err(_), Err(error)) => match obstacle(&error) {
                    Obstacle::ForNow => error.to_string(),
                    Obstacle::NoJetStream(what) => {
                        return Err(Error::new(ErrorKind::Connect, what));
                    }
                    Obstacle::Other => return Err(unreachable(&bucket, error.to_string())),
                },
            };
            if Instant::now() >= until {
                return Err(unreachable(&bucket, why));
            }
            tracing::debug!(bucket, why, "not created yet");
            tokio::time::sleep(CREATE_PAUSE).await;
        }
    }

    /// The pool's bucket for `what`, which must be there.
    pub(crate) async fn find(carrier: &Carrier, what: &str) -> Result<Self> {
        let mut context = jetstream::new(carrier.client().clone());
        let bucket = format!("mcpool-{}-{what}", carrier.pool());
        context.set_timeout(ANSWER_TIMEOUT);
        let found = context.get_key_value(bucket.as_str()).await;
        found
            .map(Self)
            .map_err(|error| unreachable(&bucket, error.to_string()))
    }

    /// What a key holds. It may be what the key held a while ago: a replica answers.
    pub(crate) async fn read(&self, key: &str) -> Result<Held> {
        let entry = self.0.entry(key).await;
        let entry = entry.map_err(|error| unreachable(&self.0.name, error.to_string()))?;
        Ok(entry.map_or(
            Held {
                revision: 0,
                value: None,
            },
            |entry| Held {
                revision: entry.revision,
                value: (entry.operation == Operation::Put).then_some(entry.value),
            },
        ))
    }

    /// What a key holds now: the leader of the bucket answers.
    #[cfg(feature = "auth")]
    pub(crate) async fn read_newest(&self, key: &str) -> Result<Held> {
        let Store { prefix, stream, .. } = &self.0;
        let subject = format!("{prefix}{key}");
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => {
                // A put has no such header.
                let put = message.headers.get("KV-Operation").is_none();
                Ok(Held {
                    revision: message.sequence,
                    value: put.then_some(message.payload),
                })
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(Held {
                revision: 0,
                value: None,
            }),
            Err(error) => Err(unreachable(&self.0.name, error.to_string())),
        }
    }

    /// Writes a key whose revision is `expected`, 0 for one that was never written.
    ///
    /// When the future is dropped it may be written or not, or later.
    pub(crate) async fn write(&self, key: &str, value: Bytes, expected: u64) -> Written {
        match self.0.update(key, value, expected).await {
            Ok(revision) => Written::At(revision),
            Err(error) if is_conflict(&error) => Written::Conflict,
            Err(error) => Written::Unknown(error.to_string()),
        }
    }

    /// Writes a key, whatever it holds.
    pub(crate) async fn put(&self, key: &str, value: Bytes) -> Result<u64> {
        let put = self.0.put(key, value).await;
        put.map_err(|error| unreachable(&self.0.name, error.to_string()))
    }

    /// Deletes a key, if it is there.
    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let deleted = self.0.delete(key).await;
        deleted.map_err(|error| unreachable(&self.0.name, error.to_string()))
    }

    /// What the keys that match hold, first all as they are and then as they change.
    pub(crate) async fn watch_many(&self, keys: &[&str]) -> Result<jetstream::kv::Watch> {
        let watch = self.0.watch_many_with_history(keys).await;
        watch.map_err(|error| unreachable(&self.0.name, error.to_string()))
    }
}

/// Whether a write was refused for its revision. A cluster that has another write of the key under
/// way says so with a code of its own, which the client's library does not know.
fn is_conflict(error: &UpdateError) -> bool {
    if error.kind() == UpdateErrorKind::WrongLastRevision {
        return true;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(answer) = error.downcast_ref::<jetstream::Error>() {
            return answer.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT;
        }
        cause = error.source();
    }
    false
}

/// Why a bucket cannot be created.
enum Obstacle {
    /// It may be a little later: nobody leads the cluster, or nodes of it are not there yet.
    ForNow,
    /// There is no JetStream, in these words.
    NoJetStream(&'static str),
    Other,
}

impl Obstacle {
    const OF_SERVER: Self = Self::NoJetStream(
        "NATS runs without JetStream, in which the pool keeps its data: start nats-server with \
         `-js`, or write `jetstream {}` into its configuration",
    );

    fn of(answer: &jetstream::Error) -> Self {
        match answer.error_code() {
            ErrorCode::CLUSTER_NO_PEERS
            | ErrorCode::CLUSTER_NOT_ACTIVE
            | ErrorCode::CLUSTER_NOT_AVAILABLE
            | ErrorCode::CLUSTER_NOT_LEADER => Self::ForNow,
            ErrorCode::JETSTREAM_NOT_ENABLED => Self::OF_SERVER,
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => Self::NoJetStream(
                "this login's account at NATS has no JetStream, in which the pool keeps its data: \
                 write `jetstream: enabled` into the account in the configuration of nats-server",
            ),
            _ => Self::Other,
        }
    }
}

fn obstacle(error: &CreateKeyValueError) -> Obstacle {
    let cause = error.source();
    if let Some(error) = cause.and_then(|cause| cause.downcast_ref::<AccountError>()) {
        return match error.kind() {
            AccountErrorKind::TimedOut => Obstacle::ForNow,
            AccountErrorKind::JetStreamUnavailable => Obstacle::OF_SERVER,
            AccountErrorKind::JetStream(answer) => Obstacle::of(&answer),
            AccountErrorKind::Other => Obstacle::Other,
        };
    }
    if let Some(error) = cause.and_then(|cause| cause.downcast_ref::<CreateStreamError>()) {
        return match error.kind() {
            CreateStreamErrorKind::TimedOut => Obstacle::ForNow,
            CreateStreamErrorKind::JetStream(answer) => Obstacle::of(&answer),
            _ => Obstacle::Other,
        };
    }
    match error.kind() {
        CreateKeyValueErrorKind::TimedOut => Obstacle::ForNow,
        _ => Obstacle::Other,
    }
}

fn unreachable(bucket: &str, source: String) -> Error {
    let message = format!("the bucket {bucket} in JetStream cannot be used");
    Error::new(ErrorKind::Connect, message).with_source(source)
}
