//! What every command needs: the flags, the servers of the config, and the one manager that is
//! closed at the end whatever happens.

mod select;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use mcpool::{
    ClientFactory as _, ConnectOptions, ConnectionManager, Error, ErrorKind, Requester as _,
    ServerName, ServerRequestHandler, ServerSpec, StandardFactory, TransportKind,
    auth::OAuth,
    config::{Loaded, Problem, Watcher},
    stdio::{GuardianProgram, StdioConnector},
};
use tokio_util::sync::CancellationToken;

pub(crate) use select::Found;

#[cfg(all(unix, feature = "gateway"))]
use mcpool::gateway::Fleet;
#[cfg(feature = "nats")]
use mcpool::nats::kv::KvTokenStore;

#[cfg(all(unix, feature = "gateway"))]
use crate::pool;
use crate::{
    config_files, credentials,
    exit::{Exit, Failure},
    global::Global,
    invocation::program,
    off_thread::off_thread,
    questions::{Asking, Questions},
    render::{out, progress::Connecting},
    targets::Target,
    text,
    verdict::{self, Access},
    wire::Wire,
};

/// How long the servers together may take to end. Each has its own bound below this.
const SHUTDOWN: Duration = Duration::from_secs(8);

/// The program's state.
pub(crate) struct App {
    /// The flags that every command has.
    pub(crate) global: Global,
    guardian: GuardianProgram,
    /// The servers that have a guardian of their own.
    guarded_apart: OnceLock<HashMap<ServerName, GuardianProgram>>,
    /// The server that the command line describes, instead of those of a config.
    target: Option<Target>,
    /// What sees every message, with `-vvv` or `--trace`.
    wire: Option<Arc<Wire>>,
    /// Which questions of servers a person is there to answer.
    asking: Option<Asking>,
    /// What Ctrl-C ends in place of the program.
    interrupt: Mutex<Option<CancellationToken>>,
    /// What the first signal cancels, where the command ends by itself.
    end: OnceLock<CancellationToken>,
    manager: OnceLock<ConnectionManager>,
    oauth: OnceLock<OAuth>,
    /// The tokens of logins, where the machines of a pool share them.
    #[cfg(feature = "nats")]
    shared_tokens: OnceLock<KvTokenStore>,
    handler: OnceLock<Arc<dyn ServerRequestHandler>>,
    /// The servers at which a person can log in.
    for_people: OnceLock<HashSet<ServerName>>,
    /// What is to say of the config that was loaded.
    problems: OnceLock<Vec<Problem>>,
    /// The command line or the URL of each server, secrets overwritten.
    reached_by: OnceLock<HashMap<ServerName, String>>,
    config_broken: AtomicBool,
    /// Whether Ctrl-C ended the waiting for servers.
    gave_up: AtomicBool,
    /// Whether the connections of a gateway that runs are used.
    #[cfg(all(unix, feature = "gateway"))]
    borrows: bool,
    /// What that gateway says of the servers whose connections are used.
    #[cfg(all(unix, feature = "gateway"))]
    lent: OnceLock<HashMap<String, pool::Seen>>,
    /// The workers of the pool, as that gateway knows them.
    #[cfg(all(unix, feature = "gateway"))]
    fleet: OnceLock<Fleet>,
}

/// How long a server that is given up may hold up what is shown of the others.
const GIVEN_UP_TIMEOUT: Duration = Duration::from_millis(250);

/// How the connect of one server went.
pub(crate) struct Attempt {
    /// The server.
    pub(crate) server: ServerName,
    /// What came of it.
    pub(crate) result: Result<(), Error>,
}

impl App {
    /// With these flags and nothing connected.
    pub(crate) fn new(global: Global, target: Option<Target>, guardian: GuardianProgram) -> Self {
        Self {
            global,
            guardian,
            guarded_apart: OnceLock::new(),
            target,
            wire: None,
            asking: None,
            interrupt: Mutex::default(),
            end: OnceLock::new(),
            manager: OnceLock::new(),
            oauth: OnceLock::new(),
            #[cfg(feature = "nats")]
            shared_tokens: OnceLock::new(),
            handler: OnceLock::new(),
            for_people: OnceLock::new(),
            problems: OnceLock::new(),
            reached_by: OnceLock::new(),
            config_broken: AtomicBool::new(false),
            gave_up: AtomicBool::new(false),
            #[cfg(all(unix, feature = "gateway"))]
            borrows: false,
            #[cfg(all(unix, feature = "gateway"))]
            lent: OnceLock::new(),
            #[cfg(all(unix, feature = "gateway"))]
            fleet: OnceLock::new(),
        }
    }

    /// Uses the connections of a gateway that runs, or not.
    #[cfg(all(unix, feature = "gateway"))]
    pub(crate) fn with_borrowing(mut self, borrows: bool) -> Self {
        self.borrows = borrows && !self.global.direct && self.target.is_none();
        self
    }

    /// What a gateway that runs says of this server, whose connection is used.
    #[cfg(all(unix, feature = "gateway"))]
    pub(crate) fn lent(&self, server: &str) -> Option<&pool::Seen> {
        self.lent.get()?.get(server)
    }

    /// The workers of the pool, as a gateway that runs knows them.
    #[cfg(all(unix, feature = "gateway"))]
    pub(crate) fn fleet(&self) -> Option<&Fleet> {
        self.fleet.get()
    }

    /// With the questions of servers that a person is there to answer.
    pub(crate) fn with_asking(mut self, asking: Option<Asking>) -> Self {
        self.asking = asking;
        self
    }

    /// Lets every message of every connection be seen.
    pub(crate) fn with_wire(mut self, wire: Option<Arc<Wire>>) -> Self {
        self.wire = wire;
        self
    }

    /// Whether the command line describes its server, instead of a config.
    pub(crate) fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// The words that name a server on the command line.
    pub(crate) fn words_of(&self, server: &ServerName) -> Vec<String> {
        match &self.target {
            Some(target) => target.words(),
            None => vec![server.to_string()],
        }
    }

    /// From now on the first Ctrl-C cancels this instead of ending the program, once.
    pub(crate) fn on_interrupt(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        *self.interrupt() = Some(stop.clone());
        stop
    }

    /// A Ctrl-C came: whether something else than the program ends by it.
    pub(crate) fn take_interrupt(&self) -> bool {
        match self.interrupt().take() {
            Some(stop) => {
                stop.cancel();
                true
            }
            None => false,
        }
    }

    /// From now on the first signal cancels this instead of ending the program, which then ends by
    /// itself.
    #[cfg(feature = "gateway")]
    pub(crate) fn on_end(&self) -> &CancellationToken {
        self.end.get_or_init(CancellationToken::new)
    }

    /// A signal came: whether the program ends by itself now. The second one ends it.
    pub(crate) fn take_end(&self) -> bool {
        let end = self.end.get().filter(|end| !end.is_cancelled());
        end.inspect(|end| end.cancel()).is_some()
    }

    fn interrupt(&self) -> MutexGuard<'_, Option<CancellationToken>> {
        self.interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers of the config. Its connect budget becomes the manager's.
    pub(crate) async fn load(&self) -> Result<Vec<ServerSpec>, Failure> {
        let loaded = match &self.target {
            Some(target) => config_files::load_target(target).await?,
            None => config_files::load(&self.global).await?,
        };
        self.prepare(&loaded).await?;
        #[cfg(all(unix, feature = "gateway"))]
        let loaded = self.borrow_from_pool(loaded).await;
        Ok(loaded.servers)
    }

    /// Puts the connections of a gateway that runs in the place of the servers that it has.
    #[cfg(all(unix, feature = "gateway"))]
    async fn borrow_from_pool(&self, mut loaded: Loaded) -> Loaded {
        if self.borrows
            && let Some(mut pool) = pool::find(&self.global).await
        {
            if let Some(fleet) = pool.fleet.take() {
                self.fleet.get_or_init(|| fleet);
            }
            let lent = pool.lend(&mut loaded.servers);
            tracing::info!(
                pid = pool.pid,
                servers = lent.len(),
                "the connections of a gateway are used"
            );
            self.lent.get_or_init(|| lent);
        }
        loaded
    }

    /// Whether there is a config, or the command line describes a server.
    pub(crate) fn has_config(&self) -> bool {
        self.target.is_some() || config_files::find(&self.global).is_ok()
    }

    /// Reads the config, for [`prepare`](Self::prepare), and watches it from then on, where the system
    /// can. Where the servers may all be at workers, a config that is not there has none.
    pub(crate) async fn read_watched(
        &self,
        needs_config: bool,
    ) -> Result<(Loaded, Option<Watcher>), Failure> {
        if !needs_config && !self.has_config() {
            return Ok((config_files::nothing().await?, None));
        }
        if let Some(target) = &self.target {
            return Ok((config_files::load_target(target).await?, None));
        }
        let (loaded, watcher) = config_files::watched(&self.global).await?;
        config_files::report(&self.global, &loaded.problems, None);
        self.problems.get_or_init(|| loaded.problems.clone());
        Ok((loaded, watcher))
    }

    /// Makes the manager of what was read, with its logins. What answers servers, and where tokens
    /// are kept, is settled by then.
    pub(crate) async fn prepare(&self, loaded: &Loaded) -> Result<(), Failure> {
        self.problems.get_or_init(|| loaded.problems.clone());
        let people = loaded
            .servers
            .iter()
            .filter(|spec| OAuth::needs_person(spec));
        let names = people.map(|spec| spec.name.clone()).collect();
        self.for_people.get_or_init(|| names);
        let shown = loaded.to_json(false);
        let reached = loaded.servers.iter().map(|spec| {
            let server = &shown["servers"][spec.name.as_str()];
            (spec.name.clone(), config_files::reached_by(server))
        });
        self.reached_by.get_or_init(|| reached.collect());
        let oauth = self.logins(loaded).await?;
        let oauth = self.oauth.get_or_init(|| oauth).clone();
        let factory = self.factory().with_authenticators(Arc::new(oauth));
        let mut builder = ConnectionManager::builder(Arc::new(factory));
        if let Some(budget) = loaded.budget() {
            builder = builder.with_budget(budget);
        }
        self.manager.get_or_init(|| builder.build());
        Ok(())
    }

    /// Logins, with their tokens where they are kept.
    async fn logins(&self, loaded: &Loaded) -> Result<OAuth, Failure> {
        #[cfg(feature = "nats")]
        if let Some(tokens) = self.shared_tokens.get() {
            return Ok(OAuth::new(Arc::new(tokens.clone())));
        }
        // The user's own file may have to be read for it.
        let of_config = loaded.clone();
        off_thread(move || credentials::oauth(&of_config)).await?
    }

    /// Keeps the tokens of logins there, in place of this machine: before a config is prepared.
    #[cfg(feature = "nats")]
    pub(crate) fn keep_tokens(&self, tokens: KvTokenStore) {
        self.shared_tokens.get_or_init(|| tokens);
    }

    /// Whether Ctrl-C ended the waiting for servers, and the command went on to show the others.
    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// The exit code of a command that is about all servers: an entry of the config that could
    /// not be used counts, unless something else is wrong.
    pub(crate) fn overall(&self, exit: Exit) -> Exit {
        match exit {
            Exit::Good if self.config_broken.load(Ordering::Relaxed) => Exit::Usage,
            exit => exit,
        }
    }

    /// A manager of these servers, started as their specs say.
    pub(crate) async fn managed(
        &self,
        mut specs: Vec<ServerSpec>,
    ) -> Result<&ConnectionManager, Failure> {
        self.global.set_connect_timeout(&mut specs);
        let manager = self.manager();
        // What did not connect is reported by the command, in its own words.
        let _report = manager.start(specs).await?;
        Ok(manager)
    }

    /// The logins of the servers that were loaded.
    pub(crate) fn oauth(&self) -> Result<&OAuth, Failure> {
        self.oauth
            .get()
            .ok_or_else(|| Failure::internal(text!("no config was loaded")))
    }

    /// The manager, made when it is first asked for.
    pub(crate) fn manager(&self) -> &ConnectionManager {
        self.manager
            .get_or_init(|| ConnectionManager::new(Arc::new(self.factory())))
    }

    fn factory(&self) -> StandardFactory {
        let stdio = StdioConnector::new().with_guardian(self.guardian.clone());
        let apart = self.guarded_apart.get().into_iter().flatten();
        let stdio = apart.fold(stdio, |stdio, (server, guardian)| {
            stdio.with_guardian_of(server.clone(), guardian.clone())
        });
        let factory = StandardFactory::new().with_connector(Arc::new(stdio));
        let factory = match &self.wire {
            Some(wire) => factory.with_tap(Arc::<Wire>::clone(wire)),
            None => factory,
        };
        match (self.handler.get(), self.asking) {
            (Some(handler), _) => factory.with_handler(Arc::clone(handler)),
            (None, Some(asking)) => factory.with_handler(Arc::new(Questions::new(asking))),
            (None, None) => factory,
        }
    }

    /// Sets who answers what servers ask, before a config is loaded. Without it they are refused,
    /// or a person is asked.
    #[cfg(feature = "gateway")]
    pub(crate) fn answer_with(&self, handler: Arc<dyn ServerRequestHandler>) {
        self.handler.get_or_init(|| handler);
    }

    /// Gives each of these servers a guardian that no other has, before a config is loaded.
    #[cfg(feature = "nats")]
    pub(crate) fn guard_apart(&self, servers: impl Iterator<Item = ServerName>) {
        let apart = servers.map(|server| (server, self.guardian.another()));
        self.guarded_apart.get_or_init(|| apart.collect());
    }

    /// The guardian that this server alone has.
    #[cfg(feature = "nats")]
    pub(crate) fn guardian_of(&self, server: &ServerName) -> Option<GuardianProgram> {
        self.guarded_apart.get()?.get(server).cloned()
    }

    /// Leaves what the shutdown of the stdio servers takes to the guardian: their graces go on
    /// when the program has ended.
    pub(crate) fn leave_servers(&self) {
        self.guardian.hand_over();
    }

    /// Connects every server that is not disabled, each once, and waits for all of them. Ctrl-C ends
    /// the waiting: then those that have not answered count as cancelled, and what is known of the
    /// others can be shown.
    pub(crate) async fn connect_all(&self, manager: &ConnectionManager) -> Vec<Attempt> {
        let names: Vec<ServerName> = manager
            .status_all()
            .into_iter()
            .filter(|status| status.enabled)
            .map(|status| status.name)
            .collect();
        let progress = Connecting::start(&names);
        let mut pending: FuturesUnordered<_> = names
            .iter()
            .map(|name| async move {
                // No retries: a person who waits wants to know what is wrong now.
                let result = match manager.server(name.as_str()) {
                    Ok(server) => server.connect_retrying(0).await,
                    Err(error) => Err(error),
                };
                Attempt {
                    server: name.clone(),
                    result,
                }
            })
            .collect();
        let mut attempts = Vec::with_capacity(names.len());
        let stop = self.on_interrupt();
        loop {
            tokio::select! {
                biased;
                attempt = pending.next() => match attempt {
                    Some(attempt) => {
                        progress.done(&attempt.server, attempt.result.is_ok());
                        attempts.push(attempt);
                    }
                    None => break,
                },
                () = stop.cancelled() => break,
            }
        }
        drop(pending);
        let is_interrupted = stop.is_cancelled();
        self.take_interrupt();
        if is_interrupted {
            self.gave_up.store(true, Ordering::Relaxed);
            drop(progress);
            let slow = names
                .iter()
                .filter(|name| !attempts.iter().any(|attempt| attempt.server == **name));
            let given_up = slow.map(|name| given_up(manager, name));
            attempts.extend(futures::future::join_all(given_up).await);
        }
        attempts.sort_by(|a, b| a.server.cmp(&b.server));
        attempts
    }

    /// The manager with this server alone, connected; or says why not.
    pub(crate) async fn connected(&self, server: &str) -> Result<&ConnectionManager, Failure> {
        self.connect_each(self.select(Some(server)).await?).await
    }

    /// The manager with the servers that were selected, each connected.
    async fn connect_each(&self, specs: Vec<ServerSpec>) -> Result<&ConnectionManager, Failure> {
        let manager = self.managed(specs.clone()).await?;
        let progress = Connecting::start(&manager.names());
        for spec in &specs {
            let connected = manager
                .server(spec.name.as_str())?
                .connect_retrying(0)
                .await;
            connected.map_err(|error| self.unreached(spec, error))?;
        }
        drop(progress);
        Ok(manager)
    }

    /// Why a server could not be connected, and what to try.
    fn unreached(&self, spec: &ServerSpec, error: Error) -> Failure {
        let tries = verdict::on(spec, &error, self.access(&spec.name)).tries;
        let nothing = tries.is_empty() && self.target.is_none() && Exit::of(&error) != Exit::Usage;
        let steps = nothing.then(|| text!("`{} doctor {}` shows each step", program(), spec.name));
        Failure::from(error).with_tries(tries).with_hints(steps)
    }

    /// Closes every connection, bounded in time.
    pub(crate) async fn shutdown(&self) {
        if let Some(manager) = self.manager.get() {
            manager.shutdown(SHUTDOWN).await;
        }
        #[cfg(feature = "nats")]
        if let Some(tokens) = self.shared_tokens.get() {
            tokens.unlocked().await;
        }
    }

    /// Says why a command failed: to people on standard error, to programs on standard output
    /// as well.
    pub(crate) fn report(&self, failure: &Failure) {
        if self.global.json {
            // Standard error still says what happened when standard output is closed.
            let _ = out::document(&failure.to_json());
        }
        self.say(failure);
    }

    /// Says on standard error what failed, and what to do where a login helps.
    pub(crate) fn say(&self, failure: &Failure) {
        let mut text = failure.to_text();
        let server = failure.wants_login().filter(|_| !failure.has_hints());
        if let Some(server) = server.and_then(|server| self.access(server).login) {
            text.push(&text!("\n  log in with `{} login {}`", program(), server));
        }
        text.push(&text!("\n"));
        out::tell(&text);
    }

    /// The command line or the URL of a server, secrets overwritten; empty when it is not known.
    pub(crate) fn reached_by(&self, server: &ServerName) -> &str {
        let reached = self.reached_by.get().and_then(|all| all.get(server));
        reached.map_or("", String::as_str)
    }

    /// Connects to a server once, with no login, beside the manager; gives the transport that it
    /// answered over. The connection is closed again.
    pub(crate) async fn try_once(&self, spec: &ServerSpec) -> Result<TransportKind, Error> {
        let client = self.factory().connect(spec, &ConnectOptions::new()).await?;
        let transport = client
            .info()
            .map_or(TransportKind::Http, |info| info.transport);
        client.close().await;
        Ok(transport)
    }

    /// How a person reaches a server.
    pub(crate) fn access<'a>(&'a self, server: &'a ServerName) -> Access<'a> {
        let people = self.for_people.get();
        let helps = people.is_some_and(|people| people.contains(server));
        let target = self.target.as_ref();
        let named = target.and_then(Target::url).unwrap_or(server.as_str());
        Access {
            login: helps.then_some(named),
            is_configured: target.is_none(),
        }
    }

    fn problems(&self) -> &[Problem] {
        self.problems.get().map_or(&[], Vec::as_slice)
    }

    /// Names the servers that could not be connected on standard error, and gives the exit code
    /// that they stand for.
    pub(crate) fn report_attempts(&self, attempts: &[Attempt]) -> Exit {
        let failed = || attempts.iter().filter_map(|a| a.result.as_ref().err());
        for attempt in attempts {
            let Err(error) = &attempt.result else {
                continue;
            };
            let server = self.manager().server(attempt.server.as_str());
            self.say(&match server.and_then(|server| server.spec()) {
                Ok(spec) => self.unreached(&spec, error.clone()),
                Err(_) => Failure::from(error.clone()),
            });
        }
        self.overall(Exit::of_all(failed().map(Error::kind)))
    }
}

/// What became of a server that a person did not want to wait for.
async fn given_up(manager: &ConnectionManager, name: &ServerName) -> Attempt {
    if let Ok(server) = manager.server(name.as_str()) {
        // It goes on to close without anybody who waits for it.
        let _ = tokio::time::timeout(GIVEN_UP_TIMEOUT, server.disconnect()).await;
    }
    let why = "it had not answered when Ctrl-C was pressed";
    Attempt {
        server: name.clone(),
        result: Err(Error::new(ErrorKind::Cancelled, why).with_server(name)),
    }
}
