//! What ends VMs that nobody else ended: with the account's credentials, and nothing that launches need.

use std::sync::Arc;

use async_trait::async_trait;
use peerpods_aws::{Aws, AwsSettings};
use peerpods_provider::{InstanceId, OwnedInstance, OwnerScope, ProviderError, Reaper};

use super::account::Account;
use crate::{Timing, answers::Reached, error::during};

/// Ends EC2 instances that were launched as peer pod VMs, also where the image that they were launched from is gone.
#[derive(Clone, Debug)]
pub struct AwsReaper {
    account: Arc<Account>,
}

impl AwsReaper {
    /// Finds region and credentials.
    ///
    /// # Errors
    /// [`ProviderError::InvalidRequest`]: there is no region.
    pub async fn connect(settings: &AwsSettings, timing: Timing) -> Result<Self, ProviderError> {
        let aws = Aws::connect(settings).await;
        let ec2 = aws.map_err(during("connect to", "AWS"))?.ec2();
        // Nobody connects to what is to be ended.
        let account = Arc::new(Account::new(ec2, Reached::Privately, None, timing));
        Ok(Self { account })
    }
}

#[async_trait]
impl Reaper for AwsReaper {
    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        self.account.terminate(id).await
    }

    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        self.account.list(scope).await
    }
}
