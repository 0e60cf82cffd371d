//! Every way to log in to NATS, through a worker and a gateway, and what is said when it fails.

use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcpool_testkit::nats::NatsServer;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa};
use serde_json::{Value, json};

use crate::{
    machines::{Machine, POOL, call},
    support::{Place, good, until},
};

/// A worker and a gateway that log in with these flags, and a call through both.
fn works(url: &str, worker: &[&str], gateway: &[&str]) {
    let place = Place::with(json!({ "calc": good() }));
    let mut args = vec!["worker"];
    args.extend_from_slice(worker);
    let _worker = Machine::start_at(&place, url, "w1", &args);
    let at = Place::empty();
    let mut args = vec!["serve", "--listen", "127.0.0.1:0"];
    args.extend_from_slice(gateway);
    let gateway = Machine::start_at(&at, url, "g1", &args);
    let address = gateway.address();
    let run = until("a call is answered", || {
        let run = call(&at, &address, "calc__add");
        (run.code() == 0).then_some(run)
    });
    assert_eq!(run.stdout().trim(), "42");
}

/// A worker and a gateway that are not let in, and say what to do.
fn fails(url: &str, flags: &[&str], wanted: &[&str]) {
    let place = Place::with(json!({ "calc": good() }));
    for command in ["worker", "serve", "status"] {
        let mut args = vec![command, "--nats", url, "--pool", POOL];
        args.extend_from_slice(flags);
        let run = place.run(&args);
        let said = run.stderr();
        assert_eq!(run.code(), 4, "{command}: {said}");
        for wanted in wanted {
            assert!(
                said.contains(wanted),
                "{command}: {wanted} is missing in {said}"
            );
        }
    }
}

fn written(place: &Place, name: &str, text: &str) -> String {
    let path = place.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// The configuration that the page gives, as it stands there.
fn config_of_the_page() -> &'static str {
    let page = include_str!("../../../../docs/fleet.md");
    let (_, after) = page.split_once("```nats\n").unwrap();
    after.split_once("```").unwrap().0
}

#[tokio::test]
async fn users_with_the_permissions_of_the_page_and_no_others() {
    // They are for a pool of another name.
    let permissions = config_of_the_page().replace("tools", POOL);
    let config =
        format!("WORKER_PASSWORD: w\nGATEWAY_PASSWORD: g\nPERSON_PASSWORD: p\n{permissions}");
    let Some(nats) = NatsServer::start_with(&config).await else {
        return;
    };
    let files = Place::empty();
    let worker = written(&files, "worker", "w1:w\n");
    let gateway = written(&files, "gateway", "g1:g\n");
    let one = ["--nats-user", &worker, "--one", "calc", "--lease", "5s"];
    works(&nats.url(), &one, &["--nats-user", &gateway]);
    let log = nats.log();
    assert!(!log.contains("Violation"), "{log}");

    let wrong = written(&files, "wrong", "w1:guess\n");
    let hint = ["does not let this process in", &wrong];
    fails(&nats.url(), &["--nats-user", &wrong], &hint);
    let hint = ["does not let this process in", "no login (--nats-creds"];
    fails(&nats.url(), &[], &hint);
    let with_password = nats.url().replace("//", "//w1:sesame-open@");
    let place = Place::with(json!({ "calc": good() }));
    let run = place.run(&["worker", "-v", "--nats", &with_password, "--pool", POOL]);
    assert_eq!(run.code(), 2);
    assert!(
        run.stderr().contains("--nats-user FILE"),
        "{}",
        run.stderr()
    );
    assert!(!run.stderr().contains("sesame-open"), "{}", run.stderr());
}

#[tokio::test]
async fn an_nkey() {
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let config = format!(
        "authorization {{ users: [{{ nkey: {} }}] }}",
        user.public_key()
    );
    let Some(nats) = NatsServer::start_with(&config).await else {
        return;
    };
    let files = Place::empty();
    let seed = written(&files, "seed", &format!("{}\n", user.seed().unwrap()));
    let flags = ["--nats-nkey", &seed];
    works(&nats.url(), &flags, &flags);
    let unknown = written(&files, "unknown", &other.seed().unwrap());
    let hint = ["does not let this process in", "the nkey of", &unknown];
    fails(&nats.url(), &["--nats-nkey", &unknown], &hint);
    let broken = written(&files, "broken", "SUNOKEY");
    fails(
        &nats.url(),
        &["--nats-nkey", &broken],
        &["look at the seed", &broken],
    );
}

/// A JWT of NATS (version 2), signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = part(&json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
        "sub": subject.public_key(), "nats": nats,
    }));
    let signed = format!("{head}.{claims}");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn a_jwt() {
    let operator = KeyPair::new_operator();
    let (account, system) = (KeyPair::new_account(), KeyPair::new_account());
    let unlimited = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1,
        "streams": -1, "consumer": -1});
    let mut of_system = unlimited.clone();
    // Its account has no JetStream.
    for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
        of_system.as_object_mut().unwrap().remove(limit);
    }
    let preload = |pair: &KeyPair, name: &str, limits: &Value| {
        let nats = json!({"limits": limits, "type": "account", "version": 2});
        format!(
            "{}: {}\n",
            pair.public_key(),
            jwt(&operator, pair, name, &nats)
        )
    };
    let config = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}{}}}\n",
        jwt(
            &operator,
            &operator,
            "O",
            &json!({"type": "operator", "version": 2})
        ),
        system.public_key(),
        preload(&account, "A", &unlimited),
        preload(&system, "SYS", &of_system),
    );
    let Some(nats) = NatsServer::start_with(&config).await else {
        return;
    };
    let files = Place::empty();
    let credentials = |name: &str, issuer: &KeyPair| {
        let user = KeyPair::new_user();
        let nats = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
            "type": "user", "version": 2});
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(issuer, &user, name, &nats),
            user.seed().unwrap()
        );
        written(&files, name, &text)
    };
    let (worker, gateway) = (credentials("w1", &account), credentials("g1", &account));
    works(
        &nats.url(),
        &["--nats-creds", &worker],
        &["--nats-creds", &gateway],
    );
    let foreign = credentials("foreign", &KeyPair::new_account());
    let hint = ["does not let this process in", "the JWT of", &foreign];
    fails(&nats.url(), &["--nats-creds", &foreign], &hint);
    // What is no such file is wrong before NATS is asked.
    let broken = written(&files, "broken", "no JWT");
    let place = Place::with(json!({ "calc": good() }));
    let url = nats.url();
    let args = [
        "worker",
        "--nats",
        &url,
        "--pool",
        POOL,
        "--nats-creds",
        &broken,
    ];
    let run = place.run(&args);
    assert_eq!(run.code(), 2, "{}", run.stderr());
    assert!(
        run.stderr().contains("hold no JWT and key"),
        "{}",
        run.stderr()
    );
}

/// A certificate authority, and what it signs, as files.
struct Authority {
    issuer: CertifiedIssuer<'static, rcgen::KeyPair>,
    files: PathBuf,
}

impl Authority {
    fn new(files: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let authority = Self {
            issuer,
            files: files.to_owned(),
        };
        authority.write(name, &authority.issuer.pem());
        authority
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.files.join(name), text).unwrap();
    }

    /// Signs a certificate for this name, in the files `NAME.pem` and `NAME.key`.
    fn sign(&self, name: &str, host: &str) {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }
}

#[tokio::test]
async fn tls_with_an_authority_and_a_certificate_of_the_process() {
    let files = Place::empty();
    let authority = Authority::new(files.path(), "ca.pem");
    authority.sign("server", "127.0.0.1");
    authority.sign("client", "worker.example");
    let other = Authority::new(files.path(), "other-ca.pem");
    other.sign("stranger", "worker.example");
    let file = |name: &str| files.path().join(name).to_string_lossy().into_owned();
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let Some(nats) = NatsServer::start_with(&config).await else {
        return;
    };
    let url = nats.url().replace("nats://", "tls://");
    let (ca, other_ca) = (file("ca.pem"), file("other-ca.pem"));
    let (cert, key) = (file("client.pem"), file("client.key"));
    let flags = ["--nats-ca", &ca, "--nats-cert", &cert, "--nats-key", &key];
    works(&url, &flags, &flags);

    // Another authority than the server's.
    let flags = [
        "--nats-ca",
        &other_ca,
        "--nats-cert",
        &cert,
        "--nats-key",
        &key,
    ];
    fails(&url, &flags, &["TLS", &other_ca]);
    // No certificate, and one that the server does not trust.
    fails(&url, &["--nats-ca", &ca], &["certificate of this process"]);
    let (cert, key) = (file("stranger.pem"), file("stranger.key"));
    let flags = ["--nats-ca", &ca, "--nats-cert", &cert, "--nats-key", &key];
    fails(&url, &flags, &["certificate of this process"]);
    // A file that is not there is named.
    let place = Place::with(json!({ "calc": good() }));
    let run = place.run(&[
        "worker",
        "--nats",
        &url,
        "--pool",
        POOL,
        "--nats-ca",
        "no.pem",
    ]);
    assert_eq!(run.code(), 2, "{}", run.stderr());
    assert!(run.stderr().contains("no.pem"), "{}", run.stderr());
}
