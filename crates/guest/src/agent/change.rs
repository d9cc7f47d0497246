//! Telling a worker that a container's figures have changed, so that it need not ask for those of one that rests.

use std::time::Duration;

use async_trait::async_trait;
use peerpods_proto::{
    statistics::{AwaitChangeRequest, AwaitChangeResponse},
    statistics_ttrpc::Statistics,
};
use tokio::time::{Instant, sleep};
use ttrpc::asynchronous::TtrpcContext;

use super::service::Service;
use crate::error::GuestError;

/// How often to look: as often as a container runtime asks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest that a worker is left without an answer, after which it asks for the figures again.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

#[async_trait]
impl Statistics for Service {
    async fn await_change(
        &self,
        _: &TtrpcContext,
        request: AwaitChangeRequest,
    ) -> ttrpc::Result<AwaitChangeResponse> {
        let missing = || GuestError::Invalid {
            field: "known",
            problem: "it is missing".to_owned(),
        };
        let known = request.known.as_ref().ok_or_else(missing)?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        while self.figures(&request.container_id)? == *known && Instant::now() < deadline {
            sleep(LOOK_INTERVAL).await;
        }
        Ok(AwaitChangeResponse::new())
    }
}
