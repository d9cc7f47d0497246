//! Registry credentials of a pod: what its Secrets and the node have for one image, looked up for every pull.
//!
//! So a Secret that was changed is seen by the next container, and nothing of it is kept here. A pull is never refused for
//! what could not be found: it is tried without, and if the registry refuses, the remarks say what was looked for.

mod service;
mod source;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use peerpods_proto::registry::{ImageAccess, Keyring, Repository};

pub(crate) use self::service::CredentialsService;
use crate::{
    kubernetes::{Cluster, KubernetesError, ObjectName},
    sandbox::{Plan, SandboxId},
};

/// The most Secrets that are read for one pull: each is a request, and a pod has one or two.
const SECRETS_LIMIT: usize = 16;

/// Whether the pods' Secrets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImagePullSecrets {
    /// They are, for each image pull.
    Read,
    /// They are not; what the node has is used for all pods.
    Ignore,
}

/// Finds what a pod's image may be pulled with.
pub(crate) struct Credentials {
    cluster: Cluster,
    image_pull_secrets: ImagePullSecrets,
    auth_json: PathBuf,
    /// The Secrets that pods name, which they can never change.
    names: Mutex<BTreeMap<SandboxId, Arc<[ObjectName]>>>,
}

impl Credentials {
    pub(crate) fn new(cluster: Cluster, image_pull_secrets: ImagePullSecrets, auth_json: PathBuf) -> Self {
        Self {
            cluster,
            image_pull_secrets,
            auth_json,
            names: Mutex::default(),
        }
    }

    /// What there is for the repository: the pod's first, then the node's, each in the kubelet's order.
    pub(crate) async fn find(&self, plan: &Plan, repository: Repository) -> ImageAccess {
        let mut remarks = Vec::new();
        let mut of_pod = Keyring::default();
        if let Err(remark) = self
            .read_secrets(plan, &repository, &mut of_pod, &mut remarks)
            .await
        {
            remarks.push(remark);
        }
        let mut of_node = Keyring::default();
        match source::auth_json(&self.auth_json).await {
            Ok(Some(config)) => of_node.add(&self.auth_json.display().to_string(), config),
            Ok(None) => {}
            Err(error) => remarks.push(error.to_string()),
        }
        let mut credentials = of_pod.find(&repository);
        credentials.extend(of_node.find(&repository));
        remarks.extend(of_pod.find_unusable(&repository));
        remarks.extend(of_node.find_unusable(&repository));
        ImageAccess {
            repository,
            credentials,
            remarks,
        }
    }

    /// Adds what the pod's Secrets hold; an error says why none was read.
    async fn read_secrets(
        &self,
        plan: &Plan,
        repository: &Repository,
        keyring: &mut Keyring,
        remarks: &mut Vec<String>,
    ) -> Result<(), String> {
        if self.image_pull_secrets == ImagePullSecrets::Ignore {
            return Err("the adaptor is set to ignore imagePullSecrets (IMAGE_PULL_SECRETS)".to_owned());
        }
        let namespace =
            ObjectName::try_from(plan.pod.pod_namespace.clone()).map_err(|error| error.to_string())?;
        let names = self.names(plan, &namespace).await?;
        if names.is_empty() {
            return Err(format!(
                "the pod names no imagePullSecrets: add one for {}",
                repository.registry()
            ));
        }
        for name in names.iter().take(SECRETS_LIMIT) {
            let source = format!("Secret {namespace}/{name}");
            let config = match self.cluster.secret(&namespace, name).await {
                Ok(secret) => source::docker_config(&secret).map_err(|error| format!("{source}: {error}")),
                Err(KubernetesError::NotFound) => Err(format!("{source} does not exist")),
                Err(error) => Err(format!("{source} cannot be read: {error}")),
            };
            match config {
                Ok(config) => {
                    if !config.has_any_for(repository) {
                        remarks.push(format!("{source} has nothing for {}", repository.registry()));
                    }
                    keyring.add(&source, config);
                }
                Err(remark) => remarks.push(remark),
            }
        }
        Ok(())
    }

    /// The Secrets that the pod names; asked for once.
    async fn names(&self, plan: &Plan, namespace: &ObjectName) -> Result<Arc<[ObjectName]>, String> {
        if let Some(names) = self.kept().get(&plan.sandbox) {
            return Ok(names.clone());
        }
        let owner = &plan.pod;
        let name = ObjectName::try_from(owner.pod_name.clone()).map_err(|error| error.to_string())?;
        let pod = self.cluster.pod(namespace, &name).await;
        let pod = pod.map_err(|error| {
            format!("pod {namespace}/{name} was not read for its imagePullSecrets: {error}")
        })?;
        if owner.pod_uid.as_ref().is_some_and(|uid| *uid != pod.metadata.uid) {
            return Err(format!(
                "pod {namespace}/{name} is another one by now: its imagePullSecrets are not used"
            ));
        }
        let names: Arc<[ObjectName]> = pod.pull_secrets().into();
        self.kept().insert(plan.sandbox.clone(), names.clone());
        Ok(names)
    }

    /// Forgets the names of sandboxes that are gone.
    pub(crate) fn keep(&self, is_there: impl Fn(&SandboxId) -> bool) {
        self.kept().retain(|sandbox, _| is_there(sandbox));
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<SandboxId, Arc<[ObjectName]>>> {
        self.names
            .lock()
            .expect("nothing panics while it holds the names")
    }
}

#[cfg(test)]
mod tests;
