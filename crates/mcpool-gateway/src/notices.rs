//! The notices of one server, for as long as its manager has it.

use std::{ops::ControlFlow, time::Duration};

use mcpool_core::{Requester as _, ServerNotice};
use mcpool_manager::ServerHandle;

/// The pause before a server that was replaced is heard again.
const RESUBSCRIBE: Duration = Duration::from_millis(100);

/// Gives each notice, until that breaks it off or the server is removed.
pub(crate) async fn each(
    handle: ServerHandle,
    mut heard: impl FnMut(ServerNotice) -> ControlFlow<()>,
) {
    // A server that is replaced has another stream of notices.
    while handle.spec().is_ok() {
        let mut notices = handle.notices();
        while let Some(notice) = notices.next().await {
            if heard(notice).is_break() {
                return;
            }
        }
        tokio::time::sleep(RESUBSCRIBE).await;
    }
}
