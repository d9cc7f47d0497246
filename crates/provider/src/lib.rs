//! The provider contract: what launches, describes and ends peer pod VMs.
//!
//! Guarantees that every provider gives, and that [`conformance`] checks:
//! - [`Provider::launch`] is idempotent by [`LaunchToken`]: however often, however interrupted, at most
//!   one instance ever exists for one token.
//! - [`Provider::launch_together`] is, too: a token makes one batch, and no further instance joins that.
//! - Ownership is recorded with the instance itself, atomically with its creation, so that
//!   [`Provider::list`] finds every instance after any crash.
//! - An instance launched as [`Assignment::Warm`] becomes one pod's by [`Provider::claim`], and nobody else's ever after.
//! - [`Provider::terminate`] answers success only when the instance is gone, and for an instance that
//!   is not there.

mod address_pool;
pub mod conformance;
mod error;
pub mod fake;
pub mod local;
mod switch;
mod types;

pub use address_pool::{AddressPool, InvalidPool};
pub use error::ProviderError;
pub use switch::parse_switch;
pub use types::*;

use async_trait::async_trait;

/// What launches, describes and ends peer pod VMs in one place (a cloud region, this machine).
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Launches the instance of `request.token`, or finds the one launched for it before.
    ///
    /// Returns once the instance exists and its addresses are known, which is before it has booted.
    /// Cancelling the future leaves nothing that [`Provider::find`] would not show.
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, ProviderError>;

    /// The most instances that one [`Provider::launch_together`] makes. Where it is 1 there is nothing to be gained by it.
    fn batch_limit(&self) -> usize {
        1
    }

    /// Launches up to `count` instances of [`Assignment::Warm`] with one call, or finds those launched for the token before.
    /// All have the same payload; there are fewer than asked for where there is room for fewer, and never none.
    async fn launch_together(
        &self,
        request: &LaunchRequest,
        _count: usize,
    ) -> Result<Vec<Instance>, ProviderError> {
        Ok(vec![self.launch(request).await?])
    }

    /// What kind of instance `shape` gets now.
    ///
    /// # Errors
    /// [`ProviderError::InvalidRequest`] where it would get none.
    fn kind(&self, shape: &Shape) -> Result<InstanceKind, ProviderError>;

    /// Makes a warm instance `pod`'s, durably, and calls it `name` where people see names. Repeating it succeeds.
    ///
    /// # Errors
    /// [`ProviderError::ClaimedByAnother`], [`ProviderError::Ended`]: it is not to be had.
    async fn claim(&self, id: &InstanceId, pod: &PodIdentity, name: &str) -> Result<(), ProviderError>;

    /// The living instance that was launched for `token`, if any.
    async fn find(&self, token: &LaunchToken) -> Result<Option<Instance>, ProviderError>;

    /// All living instances that were launched for `token`: none is missing.
    async fn find_all(&self, token: &LaunchToken) -> Result<Vec<Instance>, ProviderError> {
        Ok(self.find(token).await?.into_iter().collect())
    }

    /// Whether the instance still lives.
    async fn describe(&self, id: &InstanceId) -> Result<InstanceStatus, ProviderError>;

    /// Returns once the instance has ended, where the provider learns of that by itself, and never where it does not.
    /// [`Provider::describe`] tells the cause; a caller asks that from time to time all the same.
    async fn ended(&self, _id: &InstanceId) {
        std::future::pending().await
    }

    /// Returns once the provider has announced that it will soon take the instance back, with its words for a person; never
    /// where it announces no such thing. Asking again gives the same: who tells others of it sees that it does so once.
    async fn interruption(&self, _id: &InstanceId) -> String {
        std::future::pending().await
    }

    /// Ends the instance; success means that it is gone, or never was.
    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError>;

    /// All living instances whose owner is this cluster and, where given, this node.
    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError>;

    /// The last lines that the instance wrote on its console: the cause of a failed boot, for a person.
    async fn console_tail(&self, id: &InstanceId) -> Option<String>;
}

/// What ends VMs that nobody else ended. Every provider can; one that can do nothing else needs less than a provider does.
#[async_trait]
pub trait Reaper: Send + Sync + 'static {
    /// As [`Provider::terminate`].
    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError>;

    /// As [`Provider::list`].
    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError>;
}

#[async_trait]
impl<P: Provider> Reaper for P {
    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        Provider::terminate(self, id).await
    }

    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        Provider::list(self, scope).await
    }
}
