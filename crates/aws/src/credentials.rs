//! Credentials as long as they last.

use std::time::SystemTime;

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    AwsError,
    limits::{CREDENTIALS_MARGIN, DISCOVERY_LIMIT},
};

/// The current credentials, replaced before they end. One caller replaces them, the others wait for that.
#[derive(Debug)]
pub(crate) struct CredentialsCache {
    provider: Option<SharedCredentialsProvider>,
    current: Mutex<Option<Credentials>>,
}

impl CredentialsCache {
    pub(crate) fn new(provider: Option<SharedCredentialsProvider>) -> Self {
        Self {
            provider,
            current: Mutex::new(None),
        }
    }

    /// Credentials that last for a while.
    pub(crate) async fn get(&self, action: &'static str) -> Result<Credentials, AwsError> {
        let mut current = self.current.lock().await;
        if let Some(credentials) = current.as_ref().filter(|credentials| is_fresh(credentials)) {
            return Ok(credentials.clone());
        }
        let missing = |source| AwsError::NoCredentials { action, source };
        let provider = self
            .provider
            .as_ref()
            .ok_or_else(|| missing("nothing provides any".into()))?;
        let credentials = timeout(DISCOVERY_LIMIT, provider.provide_credentials())
            .await
            .map_err(|elapsed| missing(elapsed.into()))?
            .map_err(|error| missing(error.into()))?;
        Ok(current.insert(credentials).clone())
    }

    /// Forgets credentials that AWS does not accept any more; the next call gets others.
    pub(crate) async fn forget(&self, refused: &Credentials) {
        let mut current = self.current.lock().await;
        if current.as_ref() == Some(refused) {
            *current = None;
        }
    }
}

fn is_fresh(credentials: &Credentials) -> bool {
    credentials
        .expiry()
        .is_none_or(|end| end > SystemTime::now() + CREDENTIALS_MARGIN)
}
