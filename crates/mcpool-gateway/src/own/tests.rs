use mcpool_core::{RpcError, ServerRequest, StdioSpec};
use mcpool_testkit::{Act, FakeFactory, Op, eventually};

use super::*;

/// Generous: nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(60);

fn owner(key: &str, principal: Option<&str>) -> Owner {
    Owner {
        key: key.into(),
        principal: principal.map(Into::into),
        capabilities: RawObject::new(),
    }
}

async fn pool(servers: usize) -> (ConnectionManager, Arc<OwnServers>) {
    let pool = ConnectionManager::new(Arc::new(FakeFactory::new()));
    let specs = (0..servers).map(|n| {
        ServerSpec::stdio(format!("s{n}"), StdioSpec::new("x"))
            .unwrap()
            .with_start(StartMode::Lazy(None))
            .with_sharing(Sharing::Client)
    });
    let _report = pool.start(specs.collect()).await.unwrap();
    (pool.clone(), OwnServers::new(pool, |_, _, _| {}))
}

fn instances(own: &OwnServers) -> usize {
    own.owners().values().map(|entry| entry.servers.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_loses_its_instances_and_one_that_is_there_keeps_them() {
    let (pool, own) = pool(1).await;
    let server = pool.server("s0").unwrap();
    let (here, gone) = (owner("here", None), owner("gone", None));
    let present = own.present(&here, Way::None);
    for owner in [&here, &gone] {
        assert!(own.of(owner, &server).unwrap().is_new);
        assert!(!own.of(owner, &server).unwrap().is_new);
    }
    tokio::time::advance(IDLE_TIMEOUT).await;
    own.sweep();
    assert_eq!(instances(&own), 1);
    assert!(own.known("here", &ServerName::new("s0").unwrap()).is_some());
    drop(present);
    own.sweep();
    assert_eq!(instances(&own), 1, "the time begins when the client leaves");
    tokio::time::advance(IDLE_TIMEOUT).await;
    own.sweep();
    assert!(own.owners().is_empty());
}

#[tokio::test]
async fn a_server_that_is_shared_again_or_removed_has_no_instances_for_clients() {
    let (pool, own) = pool(2).await;
    let client = owner("ada", None);
    for name in ["s0", "s1"] {
        own.of(&client, &pool.server(name).unwrap()).unwrap();
    }
    let spec = ServerSpec::clone(&pool.server("s0").unwrap().spec().unwrap());
    pool.add(spec.with_sharing(Sharing::Pool)).unwrap();
    assert!(!own.is_for_clients(&pool.server("s0").unwrap()).unwrap());
    pool.remove("s1").await.unwrap();
    own.sweep();
    assert!(own.owners().is_empty());
}

#[tokio::test]
async fn there_are_so_many_for_one_principal_and_no_more() {
    let (pool, own) = pool(1).await;
    let server = pool.server("s0").unwrap();
    for n in 0..MAX_OF_PRINCIPAL {
        own.of(&owner(&n.to_string(), Some("ada")), &server)
            .unwrap();
    }
    let refused = own.of(&owner("one more", Some("ada")), &server);
    let refused = refused.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert_eq!(refused.delivery(), Delivery::NotSent);
    assert!(own.of(&owner("another", Some("bob")), &server).is_ok());
    own.end("0");
    assert!(own.of(&owner("one more", Some("ada")), &server).is_ok());
    own.shutdown().await;
    assert!(own.owners().is_empty());
}

#[tokio::test]
async fn a_request_that_ends_without_an_instance_leaves_nothing() {
    let (_pool, own) = pool(0).await;
    drop(own.present(&owner("ada", None), Way::None));
    assert!(own.owners().is_empty());
}

#[tokio::test]
async fn each_of_a_clients_instances_hears_of_its_changed_roots_and_no_other() {
    let factory = FakeFactory::new();
    let pool = ConnectionManager::new(Arc::new(factory.clone()));
    let spec = |name: &str| {
        let spec = ServerSpec::stdio(name, StdioSpec::new("x")).unwrap();
        let spec = spec.with_start(StartMode::Lazy(None));
        spec.with_sharing(Sharing::Client)
    };
    let specs = ["s0", "s1", "s2"].map(spec).into();
    let _report = pool.start(specs).await.unwrap();
    let own = OwnServers::new(pool.clone(), |_, _, _| {});
    for (name, of) in [("s0", "ada"), ("s1", "ada"), ("s2", "bob")] {
        let server = pool.server(name).unwrap();
        let instance = own.of(&owner(of, None), &server).unwrap();
        instance.handle.connect().await.unwrap();
    }
    let heard = |name: &str| factory.server(name).count(Op::Notify);
    own.roots_changed("bob");
    assert!(eventually(SOON, || heard("s2") == 1).await);
    own.roots_changed("nobody");
    own.roots_changed("ada");
    assert!(eventually(SOON, || heard("s0") == 1 && heard("s1") == 1).await);
    assert_eq!(heard("s2"), 1);
}

#[tokio::test]
async fn an_instance_that_is_being_connected_hears_of_changed_roots_afterwards() {
    let factory = FakeFactory::new();
    let pool = ConnectionManager::new(Arc::new(factory.clone()));
    let spec = ServerSpec::stdio("s0", StdioSpec::new("x")).unwrap();
    let spec = spec.with_start(StartMode::Lazy(None));
    let specs = vec![spec.with_sharing(Sharing::Client)];
    let _report = pool.start(specs).await.unwrap();
    let own = OwnServers::new(pool.clone(), |_, _, _| {});
    let server = factory.server("s0");
    server.next(Op::Connect, Act::Held);
    let instance = own.of(&owner("ada", None), &pool.server("s0").unwrap());
    let handle = instance.unwrap().handle;
    let connecting = tokio::spawn(async move { handle.connect().await });
    assert!(eventually(SOON, || factory.connecting().now() == 1).await);
    own.roots_changed("ada");
    tokio::task::yield_now().await;
    assert_eq!(server.count(Op::Notify), 0);
    server.release();
    connecting.await.unwrap().unwrap();
    assert!(eventually(SOON, || server.count(Op::Notify) == 1).await);
}

#[test]
fn what_cannot_be_passed_on_is_not_declared() {
    let said = Raw::from_text(
        r#"{"roots":{"listChanged":true},"tasks":{},"sampling":{"tools":{}}}"#.to_owned(),
    );
    let said = RawObject::parse(&said.unwrap()).unwrap();
    assert_eq!(
        declared(&said).get(),
        r#"{"roots":{"listChanged":true},"sampling":{"tools":{}}}"#
    );
}

/// A request that ends before its client has answered.
struct Ends(Mutex<Option<Presence>>);

#[async_trait]
impl Caller for Ends {
    async fn answer(&self, _: &ServerName, _: ServerRequest) -> std::result::Result<Raw, RpcError> {
        drop(self.0.lock().unwrap().take());
        Err(RpcError::new(RpcError::INTERNAL, "gone"))
    }
}

#[tokio::test]
async fn what_a_client_had_no_time_to_answer_it_is_asked_by_the_next_way() {
    let (_pool, own) = pool(0).await;
    let client = owner("ada", None);
    let roots = || ServerRequest::new(Raw::null(), "roots/list", None);
    let server = ServerName::new("s0").unwrap();
    let ends = |way: fn(Arc<dyn Caller>) -> Way| {
        let request = Arc::new(Ends(Mutex::default()));
        let presence = own.present(&client, way(request.clone()));
        let caller = presence.caller(request.clone());
        *request.0.lock().unwrap() = Some(presence);
        caller
    };
    let other = own.present(&client, Way::Request(Arc::new(Answers("other"))));
    let caller = ends(Way::Request);
    let answer = caller.answer(&server, roots()).await.unwrap();
    assert_eq!(answer.parse::<String>().unwrap(), "other");
    drop(other);
    let caller = ends(Way::Stream);
    let gone = caller.answer(&server, roots()).await.unwrap_err();
    assert!(gone.message.contains("no stream open"), "{}", gone.message);
    // What belongs to the request is its own client's, and is not asked twice.
    let _other = own.present(&client, Way::Request(Arc::new(Answers("other"))));
    let caller = ends(Way::Request);
    let form = ServerRequest::new(Raw::null(), "elicitation/create", None);
    assert!(caller.answer(&server, form).await.is_err());
}

struct Answers(&'static str);

#[async_trait]
impl Caller for Answers {
    async fn answer(&self, _: &ServerName, _: ServerRequest) -> std::result::Result<Raw, RpcError> {
        Ok(Raw::of(self.0).unwrap())
    }
}

#[tokio::test]
async fn what_an_instance_asks_by_itself_comes_on_a_stream_that_stays_if_there_is_one() {
    let (_pool, own) = pool(0).await;
    let client = owner("ada", None);
    let answers = |who| -> Arc<dyn Caller> { Arc::new(Answers(who)) };
    let first = own.present(&client, Way::Request(answers("first")));
    let handler = Handler::new(Raw::empty_object(), Arc::clone(&own.owners()["ada"].asked));
    let ask = async || {
        let request = ServerRequest::new(Raw::null(), "roots/list", None);
        let server = ServerName::new("s0").unwrap();
        let answer = handler.answer(&server, request).await;
        answer.map(|answer| answer.parse::<String>().unwrap())
    };
    assert_eq!(ask().await.unwrap(), "first");
    let stream = own.present(&client, Way::Stream(answers("stream")));
    let second = own.present(&client, Way::Request(answers("second")));
    assert_eq!(ask().await.unwrap(), "stream");
    drop(stream);
    assert_eq!(ask().await.unwrap(), "second");
    drop((first, second));
    assert_eq!(ask().await.unwrap_err().code, RpcError::INTERNAL);
}
