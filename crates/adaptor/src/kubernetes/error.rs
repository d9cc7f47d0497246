//! Why the API server did not help.

use std::time::Duration;

/// A request that was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubernetesError {
    #[error("the adaptor has no access to the API server: set KUBECONFIG, or run it in a pod")]
    NotConfigured,
    #[error("the adaptor's access to the API server cannot be used: {0}")]
    Unusable(String),
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the API server did not answer within {0:?}")]
    Silent(Duration),
    #[error("it does not exist")]
    NotFound,
    #[error("the adaptor's account may not do it: {0}")]
    Forbidden(String),
    #[error("the API server refuses: {0}")]
    Refused(String),
    /// What was answered stays out of the message.
    #[error("the API server's answer cannot be read: line {line}, column {column}")]
    Malformed { line: usize, column: usize },
}

const NOT_FOUND: u16 = 404;
const FORBIDDEN: u16 = 403;

impl From<kube::Error> for KubernetesError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                NOT_FOUND => Self::NotFound,
                FORBIDDEN => Self::Forbidden(status.message),
                _ => Self::Refused(status.message),
            },
            other => Self::Unreachable(peerpods_error::chain(&other)),
        }
    }
}

impl KubernetesError {
    pub(super) fn malformed(error: &serde_json::Error) -> Self {
        Self::Malformed {
            line: error.line(),
            column: error.column(),
        }
    }
}
