//! The HTTP client of one OAuth flow.

use std::{sync::Arc, time::Duration};

use mcpool_core::{HttpSpec, Result};
use mcpool_http_pool::ClientSettings;
use url::Url;

use crate::{
    address::{AddressPolicy, GuardedResolver},
    http::build_client,
};

/// From the request to the end of the answer. rmcp counts on a bound as well.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a client with the server's TLS and proxy settings, and the guard on addresses. Made
/// anew for each flow: flows are rare, and nothing that is kept is bound to a runtime.
pub(crate) async fn build(
    http: &HttpSpec,
    server: &Url,
    policy: &AddressPolicy,
) -> Result<reqwest::Client> {
    let settings = ClientSettings::new(http, server);
    let builder = settings.builder().await?;
    build_client(
        builder
            .dns_resolver(Arc::new(GuardedResolver(policy.clone())))
            .timeout(TIMEOUT),
    )
}
