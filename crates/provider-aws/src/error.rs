//! AWS's errors as the contract's.

use peerpods_aws::{AwsError, RefusalKind};
use peerpods_error::chain;
use peerpods_provider::ProviderError;

/// For use with `map_err`: the call that failed, and for what.
pub(crate) fn during(
    action: &'static str,
    subject: impl std::fmt::Display,
) -> impl FnOnce(AwsError) -> ProviderError {
    move |error| {
        let message = chain(&error);
        let AwsError::Refused { refusal, .. } = &error else {
            return match error {
                AwsError::NoRegion | AwsError::Region(_) => ProviderError::InvalidRequest(message),
                AwsError::NoCredentials { .. } => ProviderError::Denied { action, message },
                AwsError::Request { .. }
                | AwsError::TimedOut { .. }
                | AwsError::Transport { .. }
                | AwsError::Refused { .. }
                | AwsError::Unreadable { .. }
                | AwsError::TooManyPages { .. }
                | AwsError::Metadata { .. } => ProviderError::during(action, subject)(error),
            };
        };
        match refusal.kind {
            RefusalKind::Throttled => ProviderError::Throttled { action },
            RefusalKind::Capacity | RefusalKind::Quota => ProviderError::Capacity(message),
            RefusalKind::Denied | RefusalKind::Expired => ProviderError::Denied { action, message },
            RefusalKind::Invalid | RefusalKind::NotFound => ProviderError::InvalidRequest(message),
            RefusalKind::IdempotencyMismatch
            | RefusalKind::TokenSpent
            | RefusalKind::WrongState
            | RefusalKind::Internal
            | RefusalKind::Unclassified => ProviderError::during(action, subject)(error),
        }
    }
}
