//! What every command needs: the flags, the servers of the config, and the one manager that is
//! closed at the end whatever happens.

use std::{
    collections::HashSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use mcpool::{
    ConnectionManager, Error, ReconnectPolicy, Refresh, ServerName, ServerSpec, StandardFactory,
    StartMode,
    auth::OAuth,
    config::{Loaded, Watcher},
    stdio::{GuardianProgram, StdioConnector},
};

use crate::{
    args::Global,
    config_files::{self, off_thread},
    credentials,
    exit::{Exit, Failure},
    named::{self, Named},
    render::{out, progress::Connecting, text::Text},
    text,
};

/// How long the servers together may take to end. Each has its own bound below this.
const SHUTDOWN: Duration = Duration::from_secs(8);

/// The program's state.
pub(crate) struct App {
    /// The flags that every command has.
    pub(crate) global: Global,
    guardian: GuardianProgram,
    manager: OnceLock<ConnectionManager>,
    oauth: OnceLock<OAuth>,
    /// The servers at which a person can log in.
    for_people: OnceLock<HashSet<ServerName>>,
    config_broken: AtomicBool,
}

/// How the connect of one server went.
pub(crate) struct Attempt {
    /// The server.
    pub(crate) server: ServerName,
    /// What came of it.
    pub(crate) result: Result<(), Error>,
}

impl App {
    /// With these flags and nothing connected.
    pub(crate) fn new(global: Global, guardian: GuardianProgram) -> Self {
        Self {
            global,
            guardian,
            manager: OnceLock::new(),
            oauth: OnceLock::new(),
            for_people: OnceLock::new(),
            config_broken: AtomicBool::new(false),
        }
    }

    /// The manager with the servers of the config, or with one of them, none connected yet. A
    /// server that cannot be connected is not tried again: the command wants to know how it is.
    pub(crate) async fn configured(
        &self,
        only: Option<&str>,
    ) -> Result<&ConnectionManager, Failure> {
        let mut specs = self.select(only).await?;
        for spec in &mut specs {
            spec.policy.reconnect = ReconnectPolicy::never();
        }
        self.managed(specs).await
    }

    /// The servers of the config, or one of them; connected when the command says so.
    pub(crate) async fn select(&self, only: Option<&str>) -> Result<Vec<ServerSpec>, Failure> {
        narrowed(self.load().await?, only)
    }

    /// The one server that these words name, alone or with one of its tools.
    async fn select_named(
        &self,
        first: &str,
        second: Option<&str>,
    ) -> Result<(Vec<ServerSpec>, Named), Failure> {
        let specs = self.load().await?;
        let names: Vec<ServerName> = specs.iter().map(|spec| spec.name.clone()).collect();
        let named = named::read(first, second, &names);
        Ok((narrowed(specs, Some(&named.server))?, named))
    }

    /// As [`configured`](Self::configured), for the one server that these words name, alone or
    /// with one of its tools.
    pub(crate) async fn configured_named(
        &self,
        first: &str,
        second: Option<&str>,
    ) -> Result<(&ConnectionManager, Named), Failure> {
        let (mut specs, named) = self.select_named(first, second).await?;
        for spec in &mut specs {
            spec.policy.reconnect = ReconnectPolicy::never();
        }
        Ok((self.managed(specs).await?, named))
    }

    /// The manager with the one server that these words name, connected, and what they name. The
    /// tool is then by the server's own name for it.
    pub(crate) async fn connected_named(
        &self,
        first: &str,
        second: Option<&str>,
    ) -> Result<(&ConnectionManager, Named), Failure> {
        let (specs, mut named) = self.select_named(first, second).await?;
        let manager = self.connect_one(specs).await?;
        // A qualified name with a hash says its tool only beside the list.
        if let Some(tool) = named.tool.as_deref().filter(|tool| *tool == first)
            && let Ok(listed) = manager.server(&named.server)?.tools(Refresh::IfStale).await
            && let Some(own) = listed
                .items
                .iter()
                .find(|known| named::is_named(tool, &named.server, &known.name))
        {
            named.tool = Some(own.name.to_string());
        }
        Ok((manager, named))
    }

    /// The servers of the config. Its connect budget becomes the manager's.
    pub(crate) async fn load(&self) -> Result<Vec<ServerSpec>, Failure> {
        let loaded = config_files::load(&self.global).await?;
        self.prepare(&loaded).await?;
        Ok(loaded.servers)
    }

    /// As [`load`](Self::load), and watches the config from then on, where the system can.
    pub(crate) async fn load_watched(&self) -> Result<(Vec<ServerSpec>, Option<Watcher>), Failure> {
        let (loaded, watcher) = config_files::watched(&self.global).await?;
        self.prepare(&loaded).await?;
        Ok((loaded.servers, watcher))
    }

    async fn prepare(&self, loaded: &Loaded) -> Result<(), Failure> {
        let broken = loaded.problems.iter().any(|problem| problem.is_error());
        self.config_broken.store(broken, Ordering::Relaxed);
        let people = loaded
            .servers
            .iter()
            .filter(|spec| OAuth::is_for_people(spec));
        let names = people.map(|spec| spec.name.clone()).collect();
        self.for_people.get_or_init(|| names);
        // The user's own file may have to be read for it.
        let of_config = loaded.clone();
        let oauth = off_thread(move || credentials::oauth(&of_config)).await??;
        let oauth = self.oauth.get_or_init(|| oauth).clone();
        let factory = self.factory().with_authenticators(Arc::new(oauth));
        let mut builder = ConnectionManager::builder(Arc::new(factory));
        if let Some(budget) = loaded.budget() {
            builder = builder.with_budget(budget);
        }
        self.manager.get_or_init(|| builder.build());
        Ok(())
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
        // What did not connect is told by the command, in its own words.
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
        StandardFactory::new().with_connector(Arc::new(stdio))
    }

    /// Leaves what the shutdown of the stdio servers takes to the guardian: their graces go on
    /// when the program has ended.
    pub(crate) fn leave_servers(&self) {
        self.guardian.hand_over();
    }

    /// Connects every server that is not disabled, each once, and waits for all of them.
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
        while let Some(attempt) = pending.next().await {
            progress.done(&attempt.server, attempt.result.is_ok());
            attempts.push(attempt);
        }
        attempts.sort_by(|a, b| a.server.cmp(&b.server));
        attempts
    }

    /// The manager with this server alone, connected; or says why not.
    pub(crate) async fn connected(&self, server: &str) -> Result<&ConnectionManager, Failure> {
        self.connect_one(self.select(Some(server)).await?).await
    }

    /// The manager with the one server that was selected, connected.
    async fn connect_one(&self, specs: Vec<ServerSpec>) -> Result<&ConnectionManager, Failure> {
        let manager = self.managed(specs).await?;
        let names = manager.names();
        let progress = Connecting::start(&names);
        for name in &names {
            manager.server(name.as_str())?.connect_retrying(0).await?;
        }
        drop(progress);
        Ok(manager)
    }

    /// Closes every connection, bounded in time.
    pub(crate) async fn shutdown(&self) {
        if let Some(manager) = self.manager.get() {
            manager.shutdown(SHUTDOWN).await;
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
        let server = failure.wants_login();
        if let Some(server) = server.filter(|server| self.login_helps(server)) {
            text.push(&text!("\n  log in with `mcpool login {}`", server));
        }
        text.push(&text!("\n"));
        out::tell(&text);
    }

    /// Whether a person can log in at a server.
    pub(crate) fn login_helps(&self, server: &ServerName) -> bool {
        let people = self.for_people.get();
        people.is_some_and(|people| people.contains(server))
    }

    /// Names the servers that could not be connected on standard error, and gives the exit code
    /// that they stand for.
    pub(crate) fn report_attempts(&self, attempts: &[Attempt]) -> Exit {
        let failed = || attempts.iter().filter_map(|a| a.result.as_ref().err());
        for error in failed() {
            self.say(&Failure::from(error.clone()));
        }
        self.overall(Exit::of_all(failed().map(Error::kind)))
    }
}

/// One server of them, or all; connected when the command says so.
fn narrowed(mut specs: Vec<ServerSpec>, only: Option<&str>) -> Result<Vec<ServerSpec>, Failure> {
    if let Some(name) = only {
        let known = specs.iter().map(|spec| text!("{}", spec.name)).collect();
        specs.retain(|spec| spec.name.as_str() == name);
        if specs.is_empty() {
            return Err(unknown_server(name, known));
        }
    }
    for spec in &mut specs {
        spec.start = StartMode::Lazy(None);
    }
    Ok(specs)
}

fn unknown_server(name: &str, known: Vec<Text>) -> Failure {
    Failure::usage(if known.is_empty() {
        text!("no server is called {}: the config has none", name)
    } else {
        let known = Text::join(known, ", ");
        text!("no server is called {}; there are: {}", name, known)
    })
}
