//! The HTTP client of one OAuth flow.

use std::{sync::Arc, time::Duration};

use mcpool_core::{Error, ErrorKind, HttpSpec, Result};
use mcpool_http_pool::{ClientSettings, Proxies};
use reqwest::dns::Resolve;
use url::Url;

use crate::address::AddressPolicy;

/// From the request to the end of the answer. rmcp counts on a bound as well.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client, and what it takes to check where it goes.
pub(crate) struct GuardedClient {
    pub(crate) client: reqwest::Client,
    pub(crate) policy: AddressPolicy,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) proxies: Proxies,
}

/// Makes a client with the server's TLS and proxy settings, and the guard on addresses: no
/// redirects, and only addresses that the policy allows. Made for each flow: flows are rare, and
/// nothing that is kept is bound to a runtime.
pub(crate) async fn build(
    http: &HttpSpec,
    server: &Url,
    policy: &AddressPolicy,
) -> Result<GuardedClient> {
    let resolver: Arc<dyn Resolve> = Arc::new(policy.resolver());
    let settings = ClientSettings::new(http, server);
    let client = settings
        .builder()
        .await?
        .dns_resolver(Arc::clone(&resolver))
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::InvalidSpec, "no HTTP client could be made")
                .with_source(error.without_url())
        })?;
    Ok(GuardedClient {
        client,
        policy: policy.clone(),
        resolver,
        proxies: settings.proxies(),
    })
}

/// The hosts of the proxies that these settings lead through.
pub(crate) fn proxy_hosts(http: &HttpSpec, server: &Url) -> Vec<String> {
    let proxies = ClientSettings::new(http, server).proxies();
    // A host that no exception names.
    ["https://mcpool.invalid/", "http://mcpool.invalid/"]
        .iter()
        .filter_map(|url| proxies.of(&Url::parse(url).ok()?))
        .collect()
}
