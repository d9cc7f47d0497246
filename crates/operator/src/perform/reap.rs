//! Ends the VM of a PeerPod that nobody else ended.

use std::sync::Arc;

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use peerpods_api::{PeerPod, names::finalizers};
use peerpods_provider::{Assignment, InstanceId, Owner, OwnerScope, ProviderError, Reaper};
use serde_json::json;

use super::{
    ActionError, Performer,
    objects::{is_gone, merge_parameters},
};
use crate::{names::AWS, observed::PeerPodSummary};

/// How a VM is found.
enum Machine {
    /// By its own name.
    Known(InstanceId),
    /// By whom it serves; more than one only if something went very wrong.
    Owned(Vec<InstanceId>),
}

impl Performer<'_> {
    /// The finalizer goes when the provider says that the VM is gone, and not before; without a provider it stays, and the
    /// PeerPod says what it waits for.
    pub(super) async fn reap(&self, one: &PeerPodSummary) -> Result<(), ActionError> {
        let named = one.provider.as_deref();
        let provider = match named.and_then(|name| self.providers.get(name)) {
            Some(provider) => Some(provider.clone()),
            None if named == Some(AWS) => Some(self.reach(one).await?),
            None => None,
        };
        let Some(provider) = provider else {
            let name = one
                .provider
                .as_deref()
                .unwrap_or("a provider that it does not name");
            return self.explain(one, &format!(
                "nobody ended its VM: it is of {name}, which this operator cannot reach; end the VM, then remove finalizer {}",
                finalizers::PEER_POD
            )).await;
        };
        let failed = |source| ActionError::Reap {
            peer_pod: format!("{}/{}", one.namespace, one.name),
            source,
        };
        let Some(machine) = self.find(one, provider.as_ref()).await.map_err(failed)? else {
            return self
                .explain(
                    one,
                    "nobody ended its VM, and nothing says which it is: end it, then remove the finalizer",
                )
                .await;
        };
        let instances = match machine {
            Machine::Known(id) => vec![id],
            Machine::Owned(ids) => ids,
        };
        for id in &instances {
            provider.terminate(id).await.map_err(failed)?;
            tracing::info!(peer_pod = one.name, namespace = one.namespace, instance = %id, "a VM without a pod is ended");
        }
        self.release(one).await
    }

    /// The account at AWS; where it cannot be reached the PeerPod says why, and it is tried again.
    async fn reach(&self, one: &PeerPodSummary) -> Result<Arc<dyn Reaper>, ActionError> {
        match self.aws().await {
            Ok(account) => Ok(account),
            Err(problem) => {
                let message = format!("nobody ended its VM, and the account cannot be reached: {problem}");
                self.explain(one, &message).await?;
                Err(ActionError::Account {
                    peer_pod: format!("{}/{}", one.namespace, one.name),
                    problem,
                })
            }
        }
    }

    async fn find(
        &self,
        one: &PeerPodSummary,
        provider: &dyn Reaper,
    ) -> Result<Option<Machine>, ProviderError> {
        if let Some(id) = &one.instance {
            return Ok(Some(Machine::Known(InstanceId::new(id))));
        }
        let (Some(node), Some(sandbox)) = (&one.node, &one.sandbox) else {
            return Ok(None);
        };
        let scope = OwnerScope {
            cluster: self.installation.cluster_id.clone(),
            node: Some(node.0.clone()),
        };
        let serves =
            |owner: &Owner| matches!(&owner.assignment, Assignment::Pod(pod) if pod.sandbox == *sandbox);
        let owned = provider
            .list(&scope)
            .await?
            .into_iter()
            .filter(|owned| serves(&owned.owner));
        Ok(Some(Machine::Owned(
            owned.map(|owned| owned.instance.id).collect(),
        )))
    }

    async fn release(&self, one: &PeerPodSummary) -> Result<(), ActionError> {
        let api: Api<PeerPod> = Api::namespaced(self.client.clone(), &one.namespace);
        let left: Vec<_> = one
            .finalizers
            .iter()
            .filter(|name| *name != finalizers::PEER_POD)
            .collect();
        // The version: what somebody else adds meanwhile is not taken away.
        let patch = json!({"metadata": {"finalizers": left, "resourceVersion": one.resource_version}});
        match api
            .patch(&one.name, &merge_parameters(), &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(ActionError::call("release PeerPod", &one.name)(error)),
        }
    }

    async fn explain(&self, one: &PeerPodSummary, message: &str) -> Result<(), ActionError> {
        if one.message.as_deref() == Some(message) {
            return Ok(());
        }
        tracing::warn!(
            peer_pod = one.name,
            namespace = one.namespace,
            message,
            "a VM may be left"
        );
        let api: Api<PeerPod> = Api::namespaced(self.client.clone(), &one.namespace);
        let patch = json!({"status": {"message": message}});
        match api
            .patch_status(&one.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(object) => {
                self.cluster.peer_pods.put(object, PeerPodSummary::from);
                Ok(())
            }
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(ActionError::call("say what PeerPod waits for:", &one.name)(error)),
        }
    }
}
