//! The cluster's API, as far as this daemon uses it: single objects, by name.
//!
//! There are no watches and no caches of objects: the daemon runs on every node, and asks for little.

mod error;
mod event;
mod name;
mod pod;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    core::Request,
};
use serde::de::DeserializeOwned;
use tokio::{sync::Mutex, time::timeout};
use zeroize::Zeroizing;

pub(crate) use error::KubernetesError;
pub(crate) use event::Warning;
pub(crate) use name::ObjectName;
pub(crate) use pod::Secret;

/// One request, with the connection for it: an API server that takes longer is down, for all that waits for it here.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Certificates and tokens of clients are replaced now and then: a client that is older is made anew.
const CLIENT_AGE: Duration = Duration::from_secs(300);
/// In a pod, the kubelet tells where the API server is.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// How the API server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Not at all.
    None,
    /// As a pod of the cluster.
    InCluster,
    /// As this file says.
    Kubeconfig(PathBuf),
}

impl Access {
    /// What was set, else what the kubelet gives every pod.
    pub(crate) fn choose(kubeconfig: Option<PathBuf>) -> Self {
        match kubeconfig {
            Some(path) => Self::Kubeconfig(path),
            None if std::env::var_os(IN_CLUSTER).is_some() => Self::InCluster,
            None => Self::None,
        }
    }
}

/// The API server. A clone is the same; its client is made when it is first needed.
#[derive(Clone)]
pub(crate) struct Cluster {
    access: Access,
    client: Arc<Mutex<Option<(Instant, Client)>>>,
}

impl Cluster {
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            client: Arc::default(),
        }
    }

    /// One object, or the part of it that `T` names. Bounded in time.
    async fn get<T: DeserializeOwned>(&self, path: &str, name: &ObjectName) -> Result<T, KubernetesError> {
        let request = Request::new(path).get(name.as_str(), &Default::default());
        let request = request.map_err(|error| KubernetesError::Unreachable(error.to_string()))?;
        // The library would log what it cannot read, and that may be a Secret: so reading is done here.
        let text = self.call(|client| async move { client.request_text(request).await });
        let text = Zeroizing::new(text.await?);
        serde_json::from_str(&text).map_err(|error| KubernetesError::malformed(&error))
    }

    /// What the requests of `work` are answered, all together within the time of one.
    pub(crate) async fn call<T, F: Future<Output = kube::Result<T>>>(
        &self,
        work: impl FnOnce(Client) -> F,
    ) -> Result<T, KubernetesError> {
        let answer = timeout(REQUEST_TIMEOUT, async {
            let client = self.client().await?;
            work(client).await.map_err(KubernetesError::from)
        });
        answer
            .await
            .map_err(|_| KubernetesError::Silent(REQUEST_TIMEOUT))?
    }

    /// Whether there is a way to it at all.
    pub(crate) fn is_configured(&self) -> bool {
        self.access != Access::None
    }

    async fn client(&self) -> Result<Client, KubernetesError> {
        let mut kept = self.client.lock().await;
        if let Some((made, client)) = kept.as_ref()
            && made.elapsed() < CLIENT_AGE
        {
            return Ok(client.clone());
        }
        let unusable =
            |error: &dyn std::error::Error| KubernetesError::Unusable(peerpods_error::chain(error));
        let config = match &self.access {
            Access::None => return Err(KubernetesError::NotConfigured),
            Access::InCluster => Config::incluster().map_err(|error| unusable(&error))?,
            Access::Kubeconfig(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| unusable(&error))?
            }
        };
        let client = Client::try_from(config).map_err(|error| unusable(&error))?;
        *kept = Some((Instant::now(), client.clone()));
        Ok(client)
    }
}
