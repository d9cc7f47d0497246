//! Calls of the API server. What it answers goes into the picture at once, so that the next plan knows it.

use std::time::SystemTime;

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::Status,
};
use peerpods_api::{
    KataConfig, KataConfigStatus, PeerPodConfig, PeerPodConfigStatus, VmLimit, names::VM_RESOURCE,
};
use serde_json::json;

use super::{ActionError, Performer};
use crate::{
    certificate,
    managed::{Kind, ManagedObject, ObjectKey},
    names::{MANAGER, WEBHOOK_SECRET},
    observe::{NodeView, object, whole},
    observed::NodeName,
    plan::NodePatch,
};

/// What the operator wants of its own objects' fields is what counts.
fn apply_parameters() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

/// Only the named fields change.
pub(super) fn merge_parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

pub(super) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

fn exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if Status::is_already_exists(status))
}

impl Performer<'_> {
    fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        if kind.namespaced() {
            Api::namespaced_with(
                self.client.clone(),
                &self.installation.namespace,
                &kind.resource(),
            )
        } else {
            Api::all_with(self.client.clone(), &kind.resource())
        }
    }

    pub(super) async fn apply(&self, wanted: &ManagedObject) -> Result<(), ActionError> {
        let key = &wanted.key;
        let api = self.objects(key.kind);
        let applied = api
            .patch(&key.name, &apply_parameters(), &Patch::Apply(&wanted.body))
            .await;
        let applied = applied.map_err(ActionError::call("apply", key))?;
        tracing::info!(object = %key, "applied");
        if let Some(cache) = self.cluster.of_kind(key.kind) {
            cache.put(applied, object);
        }
        Ok(())
    }

    pub(super) async fn remove(&self, key: &ObjectKey) -> Result<(), ActionError> {
        let answer = self
            .objects(key.kind)
            .delete(&key.name, &DeleteParams::background())
            .await;
        let cache = self.cluster.of_kind(key.kind);
        let name = if key.kind.namespaced() {
            format!("{}/{}", self.installation.namespace, key.name)
        } else {
            key.name.clone()
        };
        match answer {
            // Something keeps it: the watch tells when it is gone.
            Ok(answer) if answer.is_left() => {
                let _ = answer.map_left(|kept| cache.map(|cache| cache.put(kept, object)));
            }
            Ok(_) => _ = cache.map(|cache| cache.forget(&name)),
            Err(error) if is_gone(&error) => _ = cache.map(|cache| cache.forget(&name)),
            Err(error) => return Err(ActionError::call("remove", key)(error)),
        }
        tracing::info!(object = %key, "removed");
        Ok(())
    }

    pub(super) async fn issue_certificate(
        &self,
        previous_authority: Option<&str>,
    ) -> Result<(), ActionError> {
        let secret = certificate::issue(
            &self.installation.namespace,
            previous_authority,
            SystemTime::now(),
        );
        let secret = secret.map_err(ActionError::Certificate)?;
        tracing::info!(secret = WEBHOOK_SECRET, "a certificate is issued");
        self.apply(&secret).await
    }

    pub(super) async fn set_finalizers(
        &self,
        name: &str,
        finalizers: &[String],
        resource_version: Option<&str>,
    ) -> Result<(), ActionError> {
        let api: Api<KataConfig> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": resource_version}});
        match api.patch(name, &merge_parameters(), &Patch::Merge(&patch)).await {
            Ok(config) => self.cluster.kata_configs.put(config, whole),
            Err(error) if is_gone(&error) => self.cluster.kata_configs.forget(name),
            Err(error) => return Err(ActionError::call("set the finalizers of KataConfig", name)(error)),
        }
        Ok(())
    }

    pub(super) async fn create_config(&self, config: &PeerPodConfig) -> Result<(), ActionError> {
        let api: Api<PeerPodConfig> = Api::namespaced(self.client.clone(), &self.installation.namespace);
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&parameters, config).await {
            Ok(config) => self.cluster.peer_pod_configs.put(config, whole),
            Err(error) if exists(&error) => {}
            Err(error) => {
                let name = config.metadata.name.clone().unwrap_or_default();
                return Err(ActionError::call("create PeerPodConfig", name)(error));
            }
        }
        Ok(())
    }

    pub(super) async fn remove_config(&self, name: &str) -> Result<(), ActionError> {
        let api: Api<PeerPodConfig> = Api::namespaced(self.client.clone(), &self.installation.namespace);
        match api.delete(name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(ActionError::call("remove PeerPodConfig", name)(error)),
        }
        Ok(())
    }

    pub(super) async fn patch_node(&self, patch: &NodePatch) -> Result<(), ActionError> {
        let api: Api<NodeView> = Api::all(self.client.clone());
        let body = json!({"metadata": {"labels": patch.labels, "annotations": patch.annotations}});
        self.took(
            api.patch(&patch.node.0, &merge_parameters(), &Patch::Merge(&body))
                .await,
            "label node",
            &patch.node,
        )
    }

    pub(super) async fn set_capacity(
        &self,
        node: &NodeName,
        capacity: Option<VmLimit>,
    ) -> Result<(), ActionError> {
        let api: Api<NodeView> = Api::all(self.client.clone());
        let body = json!({"status": {"capacity": {(VM_RESOURCE): capacity.map(|limit| limit.to_string())}}});
        let answer = api
            .patch_status(&node.0, &merge_parameters(), &Patch::Merge(&body))
            .await;
        tracing::info!(
            node = node.0,
            capacity = capacity.map(|limit| limit.0),
            "capacity"
        );
        self.took(answer, "set the capacity of node", node)
    }

    fn took(
        &self,
        answer: Result<NodeView, kube::Error>,
        action: &'static str,
        node: &NodeName,
    ) -> Result<(), ActionError> {
        match answer {
            Ok(view) => self.cluster.nodes.put(view, NodeView::node),
            Err(error) if is_gone(&error) => self.cluster.nodes.forget(&node.0),
            Err(error) => return Err(ActionError::call(action, &node.0)(error)),
        }
        Ok(())
    }

    pub(super) async fn set_kata_status(
        &self,
        name: &str,
        status: &KataConfigStatus,
    ) -> Result<(), ActionError> {
        let api: Api<KataConfig> = Api::all(self.client.clone());
        let body = json!({
            "apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": name}, "status": status,
        });
        match api
            .patch_status(name, &apply_parameters(), &Patch::Apply(&body))
            .await
        {
            Ok(config) => self.cluster.kata_configs.put(config, whole),
            Err(error) if is_gone(&error) => self.cluster.kata_configs.forget(name),
            Err(error) => return Err(ActionError::call("set the status of KataConfig", name)(error)),
        }
        Ok(())
    }

    pub(super) async fn set_config_status(
        &self,
        namespace: &str,
        name: &str,
        status: &PeerPodConfigStatus,
    ) -> Result<(), ActionError> {
        let api: Api<PeerPodConfig> = Api::namespaced(self.client.clone(), namespace);
        let body = json!({
            "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPodConfig", "metadata": {"name": name},
            "status": status,
        });
        match api
            .patch_status(name, &apply_parameters(), &Patch::Apply(&body))
            .await
        {
            Ok(config) => self.cluster.peer_pod_configs.put(config, whole),
            Err(error) if is_gone(&error) => self
                .cluster
                .peer_pod_configs
                .forget(&format!("{namespace}/{name}")),
            Err(error) => return Err(ActionError::call("set the status of PeerPodConfig", name)(error)),
        }
        Ok(())
    }
}
