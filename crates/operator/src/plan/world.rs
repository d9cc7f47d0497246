//! Clusters for the tests of plans: what a plan says is done to the picture itself, and the rest of Kubernetes does its part.

use std::time::{Duration, SystemTime};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use peerpods_api::{Condition, KataConfig, KataConfigSpec, PeerPodConfig, names};
use serde_json::{Value, json};

use super::{Action, Plan, needs_class_use, plan};
use crate::{
    certificate,
    installation::{Images, Installation, NodeRuntime, Patience},
    managed::{Kind, ObjectKey},
    names as ours,
    observed::{ClassUse, Component, ComponentPod, Node, NodeName, Observed, PodState},
};

/// The UID of the Job that is there.
pub(super) const JOB: &str = "job";

pub(super) struct World {
    pub(super) observed: Observed,
    pub(super) installation: Installation,
    pub(super) now: Timestamp,
    /// What pods that install the runtime come to.
    pub(super) installer: PodState,
    /// What pods that publish the image come to.
    pub(super) publisher: PodState,
    /// What pods of the adaptor come to.
    pub(super) adaptor: PodState,
    /// Pods of the runtime class.
    pub(super) pods: Vec<String>,
    /// Everything that was done, in words.
    pub(super) log: Vec<String>,
}

impl World {
    /// Workers of these names, settings that are valid, and nothing of ours.
    pub(super) fn with_workers(names: &[&str]) -> Self {
        let worker = |name: &&str| {
            let labels = [(ours::WORKER.to_owned(), String::new())].into();
            (
                NodeName((*name).to_owned()),
                Node {
                    labels,
                    ..Node::default()
                },
            )
        };
        let observed = Observed {
            nodes: names.iter().map(worker).collect(),
            settings: Some([("CLOUD_PROVIDER".to_owned(), "qemu".to_owned())].into()),
            ..Observed::default()
        };
        Self {
            observed,
            installation: installation(),
            now: Timestamp::from_second(1_000_000).unwrap(),
            installer: PodState::Ready,
            publisher: PodState::Starting,
            adaptor: PodState::Ready,
            pods: Vec::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn create_kata_config(&mut self, name: &str) -> &mut KataConfig {
        let spec = KataConfigSpec {
            enable_peer_pods: true,
            ..KataConfigSpec::default()
        };
        let mut config = KataConfig::new(name, spec);
        config.metadata.creation_timestamp = Some(Time(self.now));
        config.metadata.generation = Some(1);
        self.observed.kata_configs.push(config);
        self.observed.kata_configs.last_mut().unwrap()
    }

    pub(super) fn delete_kata_config(&mut self) {
        let now = self.now;
        self.config_mut().metadata.deletion_timestamp = Some(Time(now));
        self.forget_finished();
    }

    /// What is to be done now.
    pub(super) fn plan(&mut self) -> Plan {
        self.observed.class_use = if needs_class_use(&self.observed) {
            ClassUse::Pods(self.pods.clone())
        } else {
            ClassUse::NotRead
        };
        plan(&self.observed, &self.installation, self.now)
    }

    /// Does what plans say, and what the rest of Kubernetes does, until there is nothing to do.
    pub(super) fn settle(&mut self) {
        /// Far more rounds than the longest way from anywhere.
        const ROUNDS: usize = 60;
        for _ in 0..ROUNDS {
            let actions = self.plan().actions;
            actions.iter().for_each(|action| self.perform(action));
            if !self.be_kubernetes() && actions.is_empty() {
                return;
            }
        }
        panic!("it never comes to rest: {:#?}", self.plan().actions);
    }

    pub(super) fn perform(&mut self, action: &Action) {
        let name = |name: &str| NodeName(name.to_owned());
        match action {
            Action::SetFinalizers {
                kata_config,
                finalizers,
                ..
            } => {
                self.log.push(format!("finalizers {finalizers:?}"));
                let all = self.observed.kata_configs.iter_mut();
                let found = all
                    .into_iter()
                    .find(|one| one.metadata.name.as_ref() == Some(kata_config));
                found.unwrap().metadata.finalizers = Some(finalizers.clone());
                self.forget_finished();
            }
            Action::Apply(object) => {
                self.log.push(format!("apply {}", object.key));
                let status = self
                    .observed
                    .objects
                    .get(&object.key)
                    .map(|there| there["status"].clone());
                let mut body = object.body.clone();
                body["status"] = status.unwrap_or_default();
                self.observed.objects.insert(object.key.clone(), body);
            }
            Action::Remove(key) => {
                self.log.push(format!("remove {key}"));
                self.observed.objects.remove(key);
            }
            Action::IssueCertificate { previous_authority } => {
                let now = SystemTime::UNIX_EPOCH + Duration::from_secs(self.now.as_second().unsigned_abs());
                let secret = certificate::issue("ns", previous_authority.as_deref(), now).unwrap();
                self.perform(&Action::Apply(secret));
            }
            Action::CreateConfig(config) => {
                let mut config = (**config).clone();
                config.metadata.creation_timestamp = Some(Time(self.now));
                self.observed.peer_pod_configs.push(config);
            }
            Action::RemoveConfig(name) => {
                self.observed
                    .peer_pod_configs
                    .retain(|one| one.metadata.name.as_ref() != Some(name));
            }
            Action::PatchNode(patch) => {
                let node = self.observed.nodes.get_mut(&patch.node).unwrap();
                for (key, value) in &patch.labels {
                    match value {
                        Some(value) => _ = node.labels.insert((*key).to_owned(), value.clone()),
                        None => _ = node.labels.remove(*key),
                    }
                }
                let since = patch.annotations.get(ours::RUNTIME_SINCE).cloned().flatten();
                node.runtime_since = since.map(|since| since.parse().unwrap());
            }
            Action::SetCapacity { node, capacity } => {
                self.log.push(format!("capacity of {} {capacity:?}", node.0));
                self.observed.nodes.get_mut(&name(&node.0)).unwrap().capacity =
                    capacity.map(|limit| limit.to_string());
            }
            Action::SetKataStatus { kata_config, status } => {
                let all = self.observed.kata_configs.iter_mut();
                let found = all
                    .into_iter()
                    .find(|one| one.metadata.name.as_ref() == Some(kata_config));
                if let Some(config) = found {
                    config.status = Some((**status).clone());
                }
            }
            Action::SetConfigStatus { name, status, .. } => {
                let all = self.observed.peer_pod_configs.iter_mut();
                let found = all
                    .into_iter()
                    .find(|one| one.metadata.name.as_ref() == Some(name));
                if let Some(config) = found {
                    config.status = Some((**status).clone());
                }
            }
            Action::SetImage(image) => {
                self.log.push(format!("image {image}"));
                self.set(names::IMAGE_SETTING, &image.to_string());
            }
            Action::Reap(one) => {
                self.log.push(format!("reap {}", one.name));
                self.observed.peer_pods.retain(|other| other.name != one.name);
            }
            Action::Announce(announcement) => self.log.push(format!("event {}", announcement.reason)),
        }
    }

    /// DaemonSets have a pod on every node that they select, and the webhook has its replicas. Tells whether that changed.
    pub(super) fn be_kubernetes(&mut self) -> bool {
        let before = self.observed.components.clone();
        self.observed.components.clear();
        for (component, name) in [
            (Component::Adaptor, ours::ADAPTOR),
            (Component::NodeInstall, ours::NODE_INSTALL),
            (Component::NodeRemove, ours::NODE_REMOVE),
        ] {
            let Some(set) = self.observed.objects.get(&ObjectKey::new(Kind::DaemonSet, name)) else {
                continue;
            };
            let selector = set["spec"]["template"]["spec"]["nodeSelector"]
                .as_object()
                .unwrap();
            let has = |node: &Node| {
                selector
                    .iter()
                    .all(|(key, value)| node.labels.get(key).map(String::as_str) == value.as_str())
            };
            let state = match component {
                Component::NodeInstall => &self.installer,
                Component::Adaptor => &self.adaptor,
                Component::NodeRemove | Component::Webhook | Component::ImagePublisher => &PodState::Ready,
            };
            let on = self.observed.nodes.iter().filter(|(_, node)| has(node));
            let pods = on.map(|(name, _)| ComponentPod {
                component,
                owner: None,
                node: Some(name.clone()),
                state: state.clone(),
                created: self.now,
            });
            self.observed.components.extend(pods);
        }
        let job = ObjectKey::new(Kind::Job, ours::IMAGE_PUBLISHER);
        if let Some(job) = self.observed.objects.get_mut(&job) {
            job["metadata"]["uid"] = json!(JOB);
            self.observed.components.push(ComponentPod {
                component: Component::ImagePublisher,
                owner: Some(JOB.to_owned()),
                node: None,
                state: self.publisher.clone(),
                created: self.now,
            });
        }
        let mut changed = before != self.observed.components;
        if let Some(webhook) = self
            .observed
            .objects
            .get_mut(&ObjectKey::new(Kind::Deployment, ours::WEBHOOK))
        {
            changed |= webhook["status"]["availableReplicas"] != json!(2);
            webhook["status"] = json!({"availableReplicas": 2});
        }
        changed |= self.be_machine_config_operator();
        changed
    }

    /// What was deleted and has no finalizer is gone.
    fn forget_finished(&mut self) {
        self.observed.kata_configs.retain(|one| {
            one.metadata.deletion_timestamp.is_none()
                || one
                    .metadata
                    .finalizers
                    .as_ref()
                    .is_some_and(|all| !all.is_empty())
        });
    }

    pub(super) fn config_mut(&mut self) -> &mut KataConfig {
        &mut self.observed.kata_configs[0]
    }

    pub(super) fn peer_pod_config(&mut self) -> &mut PeerPodConfig {
        &mut self.observed.peer_pod_configs[0]
    }

    pub(super) fn condition(&self, kind: &str) -> Condition {
        let status = self.observed.kata_configs[0]
            .status
            .as_ref()
            .expect("it has a status");
        status
            .conditions
            .iter()
            .find(|one| one.type_ == kind)
            .cloned()
            .expect("it says so")
    }

    pub(super) fn capacity(&self, node: &str) -> Option<String> {
        self.observed.nodes[&NodeName(node.to_owned())].capacity.clone()
    }

    pub(super) fn object(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.observed.objects.get(&ObjectKey::new(kind, name))
    }

    pub(super) fn set(&mut self, key: &str, value: &str) {
        self.observed
            .settings
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
    }

    /// That nothing tells of us any more.
    pub(super) fn assert_clean(&self) {
        assert!(
            self.observed.objects.is_empty(),
            "{:?}",
            self.observed.objects.keys()
        );
        assert!(self.observed.peer_pod_configs.is_empty());
        for (name, node) in &self.observed.nodes {
            assert_eq!(node.capacity, None, "{}", name.0);
            assert_eq!(node.runtime_since, None, "{}", name.0);
            let ours = [names::labels::KATA_NODE, ours::RUNTIME];
            assert!(
                ours.iter().all(|label| !node.labels.contains_key(*label)),
                "{}: {:?}",
                name.0,
                node.labels
            );
        }
    }
}

pub(super) fn installation() -> Installation {
    Installation {
        namespace: names::OPERATOR_NAMESPACE.to_owned(),
        cluster_id: "cluster".to_owned(),
        images: Images {
            adaptor: "adaptor:1".to_owned(),
            webhook: "webhook:1".to_owned(),
            node_runtime: "operator:1".to_owned(),
            vm_image: "vm-image:1".to_owned(),
        },
        node_runtime: NodeRuntime::DaemonSet,
        issuer: None,
        patience: Patience::default(),
    }
}
