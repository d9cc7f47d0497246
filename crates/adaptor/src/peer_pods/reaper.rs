//! Objects of this node that no sandbox owns and whose VM is not there: left by a journal that was lost, or made by a request
//! that the API server carried out after everybody had given it up.

use std::{collections::BTreeSet, time::Duration};

use kube::{Api, api::ListParams};
use peerpods_api::{PeerPod, names::labels};
use peerpods_error::chain;
use peerpods_provider::{Assignment, OwnedInstance, OwnerScope, Provider};
use tokio::time::sleep;

use super::{ObjectKey, PeerPods, keeper, object::node_label};
use crate::{kubernetes::KubernetesError, sandbox::Sandboxes};

/// How often is looked: an object too many holds up the deletion of its namespace, and little else.
const INTERVAL: Duration = Duration::from_secs(600);
/// Where the first look failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

impl PeerPods {
    /// Looks from time to time, beginning now.
    pub(crate) async fn keep_reaping(
        &self,
        provider: &dyn Provider,
        sandboxes: &Sandboxes,
        scope: &OwnerScope,
    ) {
        loop {
            let pause = match self.reap(provider, sandboxes, scope).await {
                Ok(()) => INTERVAL,
                Err(error) => {
                    tracing::debug!(error, "PeerPods without a VM are looked for again");
                    RETRY_INTERVAL
                }
            };
            sleep(pause).await;
        }
    }

    async fn reap(
        &self,
        provider: &dyn Provider,
        sandboxes: &Sandboxes,
        scope: &OwnerScope,
    ) -> Result<(), String> {
        let node = scope.node.as_deref().unwrap_or_default();
        let objects = self.of_node(node).await.map_err(|error| chain(&error))?;
        if objects.is_empty() {
            return Ok(());
        }
        // In this order: a sandbox is in the table before its object is made, and its VM is gone before it leaves the table.
        let kept: BTreeSet<String> = sandboxes
            .plans()
            .iter()
            .map(|plan| plan.sandbox.to_string())
            .collect();
        let living = provider.list(scope).await.map_err(|error| chain(&error))?;
        let pod = |one: OwnedInstance| match one.owner.assignment {
            Assignment::Pod(pod) => Some(pod.sandbox),
            Assignment::Warm => None,
        };
        let living: BTreeSet<String> = living.into_iter().filter_map(pod).collect();
        let is_left = |key: &ObjectKey| !kept.contains(&key.sandbox) && !living.contains(&key.sandbox);
        for key in objects.into_iter().filter(is_left) {
            tracing::info!(object = %key, "a PeerPod without a VM is let go");
            keeper::release(&self.cluster, &key)
                .await
                .map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// This adaptor's own objects: those of this node and this provider.
    async fn of_node(&self, node: &str) -> Result<Vec<ObjectKey>, KubernetesError> {
        let selector = format!("{}={}", labels::PEER_POD_NODE, node_label(node));
        let parameters = &ListParams::default().labels(&selector);
        let list = |client| async move { Api::<PeerPod>::all(client).list(parameters).await };
        let found = self.cluster.call(list);
        let found = found.await?.items.into_iter();
        let ours = found.filter(|object| {
            object.spec.node_name.as_deref() == Some(node)
                && object.spec.cloud_provider.as_deref() == Some(self.cloud_provider)
        });
        let key = |object: PeerPod| {
            Some(ObjectKey {
                namespace: object.metadata.namespace?,
                name: object.metadata.name?,
                sandbox: object.spec.sandbox_id?,
            })
        };
        Ok(ours.filter_map(key).collect())
    }
}
