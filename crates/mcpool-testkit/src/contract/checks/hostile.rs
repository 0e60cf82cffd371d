//! Servers that do not keep to the protocol harm nothing but what they answer.

use std::time::Duration;

use mcpool_core::{Delivery, ErrorKind};
use serde_json::json;

use crate::{
    Behavior,
    contract::{
        ContractTarget, Verdict,
        drive::{AT_ONCE, Drive, text, violated},
    },
};

/// Answers that nobody asked for, answers that come twice and ids that come back as texts harm
/// nobody.
///
/// # Errors
/// The violation.
pub async fn an_answer_to_nobody_harms_nobody(target: &dyn ContractTarget) -> Verdict {
    let check = "an_answer_to_nobody_harms_nobody";
    for behavior in [
        Behavior::new(),
        Behavior::new().with(|behavior| behavior.answer_twice = true),
        Behavior::new().with(|behavior| behavior.string_ids = true),
    ] {
        let fixture = target.start(behavior).await;
        let drive = Drive::connect_to(check, target, fixture).await?;
        for number in 0..3 {
            let (stray, echo) = tokio::join!(
                drive.call("stray", json!({})),
                drive.call("echo", json!({"message": format!("own {number}")})),
            );
            let (stray, echo) = (stray?, echo?);
            if text(&stray) != "said" || text(&echo) != format!("own {number}") {
                return violated(check, format!("they got {stray} and {echo}"));
            }
        }
    }
    Ok(())
}

/// An answer that is JSON-RPC and cannot be read fails its request at once: it may have run. The
/// connection and the others live on.
///
/// # Errors
/// The violation.
pub async fn an_answer_that_cannot_be_read_fails_its_request(
    target: &dyn ContractTarget,
) -> Verdict {
    let check = "an_answer_that_cannot_be_read_fails_its_request";
    let drive = Drive::connect(check, target).await?;
    for how in ["nan", "control", "cut"] {
        let params = json!({"name": "garble", "arguments": {"how": how}});
        let error = drive.failure("tools/call", params, AT_ONCE).await?;
        if (error.kind(), error.delivery()) != (ErrorKind::Protocol, Delivery::Unknown) {
            return violated(check, format!("{how}: {error:?}"));
        }
        let echo = drive.call("echo", json!({"message": how})).await?;
        if text(&echo) != how {
            return violated(check, format!("after {how}: {echo}"));
        }
    }
    drive.close(AT_ONCE + Duration::from_secs(2)).await
}
