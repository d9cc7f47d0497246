//! What can go wrong between this program and AWS.

use std::time::Duration;

use crate::{InvalidRegion, Refusal, RefusalKind};

/// Whatever a library says the cause is.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A call that did not succeed, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// Nothing names a region.
    #[error(
        "no AWS region is set, and no instance metadata tells one: set AWS_REGION in the ConfigMap peer-pods-cm"
    )]
    NoRegion,
    /// What names a region is none.
    #[error("the AWS region is wrong")]
    Region(#[source] InvalidRegion),
    /// No credentials were found, or their source failed.
    #[error(
        "no AWS credentials for {action}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret peer-pods-secret, \
         or give the pod or the node a role"
    )]
    NoCredentials {
        /// The call that needs them.
        action: &'static str,
        /// What was tried.
        #[source]
        source: Cause,
    },
    /// A request that cannot be written or signed: an endpoint that is no URL, for example.
    #[error("cannot write the request {action} to {endpoint}")]
    Request {
        /// The call.
        action: &'static str,
        /// Where it would go.
        endpoint: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The call, or an attempt of it, took too long; whether it took effect is not known.
    #[error("{action} did not answer in {limit:?}")]
    TimedOut {
        /// The call.
        action: &'static str,
        /// The time that it had.
        limit: Duration,
    },
    /// The connection failed; whether the call took effect is not known.
    #[error("cannot reach AWS for {action}")]
    Transport {
        /// The call.
        action: &'static str,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// AWS said no.
    #[error("AWS refuses {action}: {refusal}")]
    Refused {
        /// The call.
        action: &'static str,
        /// What AWS said.
        refusal: Refusal,
        /// The status of the answer.
        status: u16,
        /// How many attempts before this one got no answer, or that of a failure: any of them may have taken effect.
        doubtful_attempts: u32,
    },
    /// An answer that this program does not understand.
    #[error("AWS answered {action} with something else")]
    Unreadable {
        /// The call.
        action: &'static str,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// A list that has no end.
    #[error("{action} has more than {limit} pages")]
    TooManyPages {
        /// The call.
        action: &'static str,
        /// How many were read.
        limit: usize,
    },
    /// The instance metadata service failed, or is not there.
    #[error("cannot read {path} of the instance metadata")]
    Metadata {
        /// What was read.
        path: String,
        /// The cause.
        #[source]
        source: Cause,
    },
}

impl AwsError {
    /// What kind of refusal this is, if it is one.
    pub fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.kind),
            _ => None,
        }
    }

    /// Whether the call may have taken effect all the same.
    pub fn is_doubtful(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Transport { .. } | Self::Unreadable { .. } => true,
            Self::Refused {
                status,
                doubtful_attempts,
                refusal,
                ..
            } => {
                // That it had no time or no room says that it did nothing.
                let is_clear = matches!(refusal.kind, RefusalKind::Throttled | RefusalKind::Capacity);
                *doubtful_attempts > 0 || (*status >= 500 && !is_clear)
            }
            Self::NoRegion
            | Self::Region(_)
            | Self::NoCredentials { .. }
            | Self::Request { .. }
            | Self::TooManyPages { .. }
            | Self::Metadata { .. } => false,
        }
    }

    /// Whether the same call may succeed a moment later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Transport { .. } | Self::Unreadable { .. } => true,
            Self::Refused { refusal, status, .. } => {
                refusal.kind.retryable() || (refusal.kind == RefusalKind::Unclassified && *status >= 500)
            }
            // The instance metadata service is retried by its client.
            Self::NoRegion
            | Self::Region(_)
            | Self::NoCredentials { .. }
            | Self::Request { .. }
            | Self::TooManyPages { .. }
            | Self::Metadata { .. } => false,
        }
    }
}
