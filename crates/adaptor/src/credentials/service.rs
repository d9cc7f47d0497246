//! What our shim asks before an image is pulled. Stock shims never do.

use std::sync::Arc;

use async_trait::async_trait;
use peerpods_proto::{
    registry::Repository,
    registry_ttrpc::RegistryCredentials,
    registry_wire::{FindRequest, ImageAccess},
};
use tracing::Instrument;
use ttrpc::{Code, asynchronous::TtrpcContext, get_status};

use super::Credentials;
use crate::{request::sandbox_id, sandbox::Sandboxes};

/// Answers for the pods of this node and no others.
pub(crate) struct CredentialsService {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) sandboxes: Sandboxes,
}

fn refusal(code: Code, message: impl ToString) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(get_status(code, message))
}

#[async_trait]
impl RegistryCredentials for CredentialsService {
    async fn find(&self, _: &TtrpcContext, request: FindRequest) -> ttrpc::Result<ImageAccess> {
        let invalid = |error: &dyn std::error::Error| refusal(Code::INVALID_ARGUMENT, error.to_string());
        let sandbox = sandbox_id(&request.sandbox).map_err(|error| invalid(&error))?;
        let repository = Repository::of_image(&request.image).map_err(|error| invalid(&error))?;
        let unknown = || refusal(Code::NOT_FOUND, format!("sandbox {sandbox} is not known"));
        let plan = self.sandboxes.plan(&sandbox).ok_or_else(unknown)?;
        self.credentials
            .keep(|sandbox| self.sandboxes.plan(sandbox).is_some());
        let look_up = async {
            let access = self.credentials.find(&plan, repository).await;
            let found = access.credentials.len();
            tracing::info!(repository = %access.repository, found, "registry credentials looked up");
            access.into_wire()
        };
        Ok(look_up.instrument(plan.span()).await)
    }
}
