//! Whether the agent answers, and which one it is.

use async_trait::async_trait;
use peerpods_proto::{agent as api, agent_ttrpc::Health};
use ttrpc::asynchronous::TtrpcContext;

use super::service::Service;

#[async_trait]
impl Health for Service {
    async fn check(&self, _: &TtrpcContext, _: api::CheckRequest) -> ttrpc::Result<api::HealthCheckResponse> {
        let mut response = api::HealthCheckResponse::new();
        response.status = api::health_check_response::ServingStatus::SERVING.into();
        Ok(response)
    }

    async fn version(
        &self,
        _: &TtrpcContext,
        _: api::CheckRequest,
    ) -> ttrpc::Result<api::VersionCheckResponse> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(api::VersionCheckResponse {
            agent_version: version,
            ..Default::default()
        })
    }
}
