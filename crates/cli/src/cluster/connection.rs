//! The API server that commands ask, with a bound on every question.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use kube::{
    Api, Client, Config,
    api::{ListParams, ObjectList},
    config::{KubeConfigOptions, Kubeconfig},
};
use peerpods_api::PeerPod;

/// How long one question may take, with what the client tries again: an API server that is well answers in milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Objects of one answer: as many as kubectl asks for.
const PAGE: u32 = 500;
/// Answers to one question: more objects than a cluster has pods.
const PAGES: usize = 400;

/// Which cluster, as with kubectl.
#[derive(Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArguments {
    /// The file that says how to reach the cluster; by default that of KUBECONFIG, or `~/.kube/config`.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of that file, instead of its current one.
    #[arg(long)]
    context: Option<String>,
}

/// A cluster's API server.
pub(super) struct Cluster {
    pub(super) client: Client,
    /// The namespace of the context.
    pub(super) namespace: String,
}

impl ClusterArguments {
    /// Finds the cluster; asks nothing of it.
    pub(super) async fn connect(self) -> Result<Cluster> {
        const HINT: &str = "cannot tell which cluster is meant: set KUBECONFIG or --kubeconfig to a file that kubectl works with";
        // One of two providers of cryptography would be chosen by whoever asks first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await.context(HINT)
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await.context(HINT),
            None => Config::infer().await.context(HINT),
        };
        let mut config = config?;
        config.connect_timeout = Some(CONNECT_LIMIT);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("cannot use what the kubeconfig says")?;
        Ok(Cluster { client, namespace })
    }
}

impl Cluster {
    /// The API of one namespace, or of all.
    pub(super) fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// The objects of VMs, of one namespace or of all.
    pub(super) async fn peer_pods(&self, namespace: Option<&str>) -> Result<Vec<PeerPod>> {
        let api = self.api::<PeerPod>(namespace);
        all("list the PeerPods", ListParams::default(), async |page| {
            api.list(page).await
        })
        .await
    }
}

/// Waits for an answer, and says of a failure what to do about it. `action` reads as in "cannot ACTION".
pub(super) async fn ask<T>(action: &str, question: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER_LIMIT, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(explained(action, error)),
        Err(_) => Err(anyhow!(
            "cannot {action}: the API server did not answer for {} s; does `kubectl get nodes` work?",
            ANSWER_LIMIT.as_secs()
        )),
    }
}

/// All objects, page by page; `page` asks for one.
pub(super) async fn all<K: Clone>(
    action: &str,
    parameters: ListParams,
    page: impl AsyncFn(&ListParams) -> kube::Result<ObjectList<K>>,
) -> Result<Vec<K>> {
    let mut parameters = parameters.limit(PAGE);
    let mut objects = Vec::new();
    for _ in 0..PAGES {
        let page = ask(action, page(&parameters)).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(objects),
        }
    }
    Err(anyhow!(
        "cannot {action}: there are more than {}",
        PAGES * PAGE as usize
    ))
}

fn explained(action: &str, error: kube::Error) -> anyhow::Error {
    let hint = match &error {
        kube::Error::Api(status) => match status.code {
            401 => "; the kubeconfig's credentials are not accepted: log in again",
            403 => "; ask the cluster's administrator for this right, or use a context that has it",
            // What is unknown by name is "NotFound"; of a kind that is unknown the server has only a page.
            404 if status.reason != "NotFound" => {
                "; are peer pods installed in this cluster? See `kubectl get crd peerpods.confidentialcontainers.org`"
            }
            _ => "",
        },
        _ => "; does `kubectl get nodes` work?",
    };
    anyhow!("{error}{hint}").context(format!("cannot {action}"))
}
