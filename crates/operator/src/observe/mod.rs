//! One small picture of the cluster, kept up to date by watches.

mod cache;
mod machine_configs;
mod views;

use std::{pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, ListParams},
    runtime::{WatchStreamExt, watcher},
};
use peerpods_api::{KataConfig, PeerPod, PeerPodConfig, names};
use peerpods_error::chain;
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use self::cache::Cache;
pub(crate) use self::views::{NodeView, object, settings, whole};
use crate::{
    installation::Installation,
    managed::{Kind, ObjectKey},
    names::{MANAGED_BY, MANAGER},
    observed::{ClassUse, ComponentPod, Credentials, Node, NodeName, Observed, PeerPodSummary, Pool},
};

/// How many objects one page of a list has: pages of large objects would be most of the operator's memory.
const PAGE_SIZE: u32 = 50;
/// How often it is looked whether an API server has come to know a kind that it did not know.
const UNSERVED_INTERVAL: Duration = Duration::from_secs(30);
/// HTTP's code for it.
const NOT_FOUND: u16 = 404;
/// PeerPods are small.
const PEER_POD_PAGE_SIZE: u32 = 250;
/// Pods are read whole, and only their class is kept.
const POD_PAGE_SIZE: u32 = 100;

/// All watches, and what they saw.
pub(crate) struct Cluster {
    client: Client,
    changed: Arc<Notify>,
    pub(crate) kata_configs: Cache<KataConfig>,
    pub(crate) peer_pod_configs: Cache<PeerPodConfig>,
    pub(crate) nodes: Cache<Node>,
    pub(crate) objects: Vec<(Kind, Cache<serde_json::Value>)>,
    pools: Cache<Pool>,
    pub(crate) settings: Cache<std::collections::BTreeMap<String, String>>,
    credentials: Cache<Credentials>,
    components: Cache<Option<ComponentPod>>,
    pub(crate) peer_pods: Cache<PeerPodSummary>,
    /// Ends with this.
    _watches: JoinSet<()>,
}

impl Cluster {
    /// Starts to watch. The permissions for it are in [`crate::permissions`].
    pub(crate) fn follow(client: &Client, installation: &Installation) -> Self {
        let changed = Arc::new(Notify::new());
        let mut watches = Watches {
            tasks: JoinSet::new(),
            changed: changed.clone(),
        };
        let namespace = &installation.namespace;
        let one = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let ours = watcher::Config::default()
            .labels(&format!("{MANAGED_BY}={MANAGER}"))
            .page_size(PAGE_SIZE);
        let objects = Kind::ALL.map(|kind| {
            let resource = kind.resource();
            let api: Api<DynamicObject> = if kind.namespaced() {
                Api::namespaced_with(client.clone(), namespace, &resource)
            } else {
                Api::all_with(client.clone(), &resource)
            };
            let one = kind.only_name().map_or(ours.clone(), |name| {
                ours.clone().fields(&format!("metadata.name={name}"))
            });
            (kind, watches.start(api, one, views::object))
        });
        let paged = |size| watcher::Config::default().page_size(size);
        Self {
            client: client.clone(),
            kata_configs: watches.start(
                Api::all(client.clone()),
                paged(PAGE_SIZE),
                views::whole::<KataConfig>,
            ),
            peer_pod_configs: watches.start(
                Api::all(client.clone()),
                paged(PAGE_SIZE),
                views::whole::<PeerPodConfig>,
            ),
            nodes: watches.start(Api::all(client.clone()), paged(PAGE_SIZE), NodeView::node),
            objects: objects.into(),
            pools: watches.start(
                Api::all_with(client.clone(), &Kind::MachineConfigPool.resource()),
                paged(PAGE_SIZE),
                machine_configs::pool,
            ),
            settings: watches.start(
                Api::<ConfigMap>::namespaced(client.clone(), namespace),
                one(names::SETTINGS_CONFIG_MAP),
                views::settings,
            ),
            credentials: watches.start(
                Api::<Secret>::namespaced(client.clone(), namespace),
                one(names::CLOUD_SECRET),
                views::credentials,
            ),
            components: watches.start(
                Api::<Pod>::namespaced(client.clone(), namespace),
                ours,
                views::component,
            ),
            peer_pods: watches.start(
                Api::<PeerPod>::all(client.clone()),
                paged(PEER_POD_PAGE_SIZE),
                PeerPodSummary::from,
            ),
            changed,
            _watches: watches.tasks,
        }
    }

    /// Returns when something is different from what it was.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The picture; none before every watch has seen everything.
    pub(crate) fn picture(&self) -> Option<Observed> {
        let mut observed = Observed {
            kata_configs: self.kata_configs.values()?,
            peer_pod_configs: self.peer_pod_configs.values()?,
            nodes: self
                .nodes
                .items()?
                .into_iter()
                .map(|(name, node)| (NodeName(name), node))
                .collect(),
            settings: self.settings.values()?.pop(),
            credentials: self.credentials.values()?.pop(),
            components: self.components.values()?.into_iter().flatten().collect(),
            pools: self.pools.items()?,
            peer_pods: self.peer_pods.values()?,
            ..Observed::default()
        };
        for (kind, cache) in &self.objects {
            if !cache.is_served() {
                observed.unserved.insert(*kind);
            }
            let items = cache.items()?.into_values();
            observed.objects.extend(items.map(|object| {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                (ObjectKey::new(*kind, name), object)
            }));
        }
        Some(observed)
    }

    /// The objects of one kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> Option<&Cache<serde_json::Value>> {
        self.objects
            .iter()
            .find(|(one, _)| *one == kind)
            .map(|(_, cache)| cache)
    }

    /// Who uses the runtime class and has not finished. All pods of the cluster are read for it, page by page, as nothing
    /// but their fields says so.
    pub(crate) async fn read_class_use(&self) -> Result<ClassUse, kube::Error> {
        let api: Api<Pod> = Api::all(self.client.clone());
        let unfinished = "status.phase!=Succeeded,status.phase!=Failed";
        let mut page = ListParams::default().fields(unfinished).limit(POD_PAGE_SIZE);
        let mut pods = Vec::new();
        loop {
            let list = api.list(&page).await?;
            pods.extend(list.items.iter().filter_map(views::user_of_the_class));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(ClassUse::Pods(pods)),
            }
        }
    }
}

struct Watches {
    tasks: JoinSet<()>,
    changed: Arc<Notify>,
}

impl Watches {
    fn start<K, V>(&mut self, api: Api<K>, config: watcher::Config, view: fn(K) -> V) -> Cache<V>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
        V: Clone + PartialEq + Send + 'static,
    {
        let cache = Cache::new(self.changed.clone());
        let seen = cache.clone();
        self.tasks.spawn(async move {
            let url = api.resource_url().to_owned();
            let mut events = pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => seen.take(event, view),
                    // What says so is no object of Kubernetes, and has no reason but the code.
                    Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                        if status.code == NOT_FOUND =>
                    {
                        tracing::debug!(url, "not known to this API server");
                        seen.take_unserved();
                        sleep(UNSERVED_INTERVAL).await;
                    }
                    Err(error) => {
                        tracing::warn!(url, error = chain(&error), "a watch failed; trying again");
                    }
                }
            }
        });
        cache
    }
}
