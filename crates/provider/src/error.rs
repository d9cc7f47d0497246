//! What can go wrong at a provider.

use crate::InstanceId;

/// A provider's refusal or failure; each variant says what failed and whether trying again can help.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The request can never succeed as it stands (unknown image, impossible size, bad setting).
    #[error("cannot launch the VM: {0}")]
    InvalidRequest(String),
    /// No room now: capacity, addresses, quota.
    #[error("no capacity for the VM: {0}")]
    Capacity(String),
    /// The provider asks for fewer requests.
    #[error("the provider throttles {action}")]
    Throttled {
        /// The call that was refused.
        action: &'static str,
    },
    /// Credentials are missing, expired or not sufficient.
    #[error("not permitted to {action}: {message}")]
    Denied {
        /// The call that was refused.
        action: &'static str,
        /// The provider's words.
        message: String,
    },
    /// A call failed on the way; whether it took effect is not known.
    #[error("{action} failed for {subject}")]
    Failed {
        /// The call.
        action: &'static str,
        /// The instance or token it was about.
        subject: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A warm instance is another pod's already.
    #[error("instance {instance} was claimed by sandbox {sandbox}")]
    ClaimedByAnother {
        /// The instance.
        instance: InstanceId,
        /// The sandbox of the pod that has it.
        sandbox: String,
    },
    /// An instance that does not live cannot be claimed.
    #[error("instance {0} has ended")]
    Ended(InstanceId),
    /// The instance did not end in the time allowed.
    #[error("instance {0} has not ended yet")]
    StillAlive(InstanceId),
}

impl ProviderError {
    /// For use with `map_err`: the call that failed, and for what.
    pub fn during<E: std::error::Error + Send + Sync + 'static>(
        action: &'static str,
        subject: impl std::fmt::Display,
    ) -> impl Fn(E) -> Self {
        move |source| Self::Failed {
            action,
            subject: subject.to_string(),
            source: Box::new(source),
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::InvalidRequest(_)
            | Self::Denied { .. }
            | Self::ClaimedByAnother { .. }
            | Self::Ended(_) => false,
            Self::Capacity(_) | Self::Throttled { .. } | Self::Failed { .. } | Self::StillAlive(_) => true,
        }
    }
}
