//! A cluster of objects, in which the rest of Kubernetes is played.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, Config, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use peerpods_api::crd;
use peerpods_operator::permissions;
use peerpods_testkit::{ApiServer, wait_for};
use serde_json::{Value, json};

use crate::{machine_config_operator, process::OperatorProcess};

pub(crate) const NAMESPACE: &str = "openshift-sandboxed-containers-operator";
/// Far more than anything takes on a machine that nobody else uses.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// How often what Kubernetes does is played.
const PLAY_INTERVAL: Duration = Duration::from_millis(300);

/// The API server, with our definitions, a namespace, settings, and the operator's rights.
pub(crate) struct Lab {
    server: &'static ApiServer,
    kubeconfig: PathBuf,
    playing: Option<Playing>,
    /// A cluster has one operator.
    _alone: MutexGuard<'static, ()>,
}

/// What Kubernetes does, in a thread.
struct Playing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Lab {
    /// An empty cluster; none where there is no API server.
    pub(crate) fn new() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let server = ApiServer::shared()?;
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let lab = Self {
            server,
            kubeconfig: operators_kubeconfig(server),
            playing: None,
            _alone: alone,
        };
        for definition in crd::all() {
            lab.apply(&serde_json::to_value(definition).unwrap());
        }
        wait_for("all kinds are served", LIMIT, || {
            let get = server.kubectl(&["get", "kataconfigs,peerpodconfigs,peerpods", "-A"]);
            if get.code == 0 { Ok(()) } else { Err(get.stderr) }
        });
        lab.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
        lab.apply(&permissions::manifests(NAMESPACE));
        lab.settings(json!({"CLOUD_PROVIDER": "qemu"}));
        Some(lab)
    }

    /// `kubectl ARGS…`, which must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.server.kubectl(arguments).text()
    }

    pub(crate) fn apply(&self, object: &Value) {
        self.server.apply(object).text();
    }

    pub(crate) fn create(&self, object: &Value) -> Result<Value, String> {
        self.server.create(object)
    }

    /// What would become of an object, or the server's refusal.
    pub(crate) fn server_side_dry_run(&self, object: &Value) -> Result<Value, String> {
        let arguments = ["create", "--dry-run=server", "--output=json", "--filename=-"];
        let output = self.server.kubectl_with_input(&arguments, &object.to_string());
        match output.code {
            0 => Ok(serde_json::from_str(&output.stdout).unwrap()),
            _ => Err(output.stderr),
        }
    }

    pub(crate) fn settings(&self, data: Value) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "peer-pods-cm", "namespace": NAMESPACE}, "data": data,
        }));
    }

    pub(crate) fn create_workers(&self, names: &[&str]) {
        for name in names {
            let labels = json!({"node-role.kubernetes.io/worker": ""});
            self.apply(
                &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}),
            );
        }
    }

    pub(crate) fn create_kata_config(&self, name: &str) {
        self.apply(&json!({
            "apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": name},
            "spec": {"enablePeerPods": true},
        }));
    }

    pub(crate) fn start_operator(&self, pod: &str) -> OperatorProcess {
        OperatorProcess::start(&self.kubeconfig, pod)
    }

    /// From now on Kubernetes does its part.
    pub(crate) fn play(&mut self) {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, kubeconfig) = (stop.clone(), self.server.kubeconfig());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = client(kubeconfig).await;
                while !stopped.load(Ordering::Relaxed) {
                    // What fails is played again: objects come and go under it.
                    if let Err(error) = be_kubernetes(&client).await {
                        eprintln!("playing: {error}");
                    }
                    tokio::time::sleep(PLAY_INTERVAL).await;
                }
            });
        });
        self.playing = Some(Playing { stop, thread });
    }

    pub(crate) fn stop_playing(&mut self) {
        if let Some(playing) = self.playing.take() {
            playing.stop.store(true, Ordering::Relaxed);
            playing.thread.join().unwrap();
        }
    }

    /// An object as JSON; null where there is none.
    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        let found = self
            .server
            .kubectl(&[&["get", "--output=json", "--ignore-not-found"], arguments].concat());
        serde_json::from_str(&found.text()).unwrap_or(Value::Null)
    }

    /// Waits until a condition of a KataConfig says this.
    #[track_caller]
    pub(crate) fn wait_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        wait_for(
            &format!("{kind} of {name} is {status}: {reason:?}"),
            LIMIT,
            || {
                let config = self.get(&["kataconfig", name]);
                let conditions = config["status"]["conditions"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let found = conditions
                    .iter()
                    .find(|one| one["type"] == kind && one["status"] == status && one["reason"] == reason);
                found
                    .map(|one| one["message"].as_str().unwrap_or_default().to_owned())
                    .ok_or(config["status"].to_string())
            },
        )
    }

    #[track_caller]
    pub(crate) fn wait_capacity(&self, node: &str, capacity: Option<&str>) {
        wait_for(&format!("the capacity of {node} is {capacity:?}"), LIMIT, || {
            let node = self.get(&["node", node]);
            let now = node["status"]["capacity"]["kata.peerpods.io/vm"].as_str();
            if now == capacity {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        });
    }

    #[track_caller]
    pub(crate) fn wait_gone(&self, arguments: &[&str]) {
        wait_for(&format!("{arguments:?} is gone"), LIMIT, || {
            match self.get(arguments) {
                Value::Null => Ok(()),
                there => Err(there["status"].to_string()),
            }
        });
    }

    /// All that an operator can leave, as lines; two of them can be compared.
    pub(crate) fn census(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for (kinds, namespace) in [
            (
                "daemonsets,deployments,jobs,services,secrets,poddisruptionbudgets,peerpodconfigs",
                Some(NAMESPACE),
            ),
            (
                "runtimeclasses,mutatingwebhookconfigurations,mutatingadmissionpolicies,validatingadmissionpolicies,kataconfigs",
                None,
            ),
        ] {
            let names = ["get", kinds, "--output=name"];
            let within = namespace.map(|namespace| ["--namespace", namespace]);
            let arguments = [&names[..], within.as_ref().map_or(&[], |within| within)].concat();
            lines.extend(self.kubectl(&arguments).lines().map(str::to_owned));
        }
        for node in self.get(&["nodes"])["items"].as_array().unwrap() {
            let (metadata, capacity) = (
                &node["metadata"],
                &node["status"]["capacity"]["kata.peerpods.io/vm"],
            );
            lines.insert(format!(
                "{}: {} {} {capacity}",
                metadata["name"], metadata["labels"], metadata["annotations"]
            ));
        }
        lines
    }

    /// A client with every right.
    pub(crate) async fn client(&self) -> Client {
        client(self.server.kubeconfig()).await
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop_playing();
        // The next test's cluster is empty, also when this one failed.
        for arguments in [
            &[
                "delete",
                "nodes,runtimeclasses,mutatingwebhookconfigurations",
                "--all",
            ][..],
            &[
                "delete",
                "daemonsets,deployments,jobs,pods,peerpodconfigs,leases",
                "--all",
                "--namespace",
                NAMESPACE,
                "--force",
            ],
            &["delete", "pods", "--all", "--namespace", "default", "--force"],
            &["label", "namespace", "default", "peer-pods-"],
            &[
                "delete",
                "crd",
                "machineconfigs.machineconfiguration.openshift.io",
                "machineconfigpools.machineconfiguration.openshift.io",
                "--ignore-not-found",
            ],
        ] {
            self.server.kubectl(arguments);
        }
    }
}

/// The administrator's, acting as the operator's service account.
fn operators_kubeconfig(server: &ApiServer) -> PathBuf {
    let path = server.kubeconfig().with_file_name("operator");
    let mut config: Value = serde_json::from_slice(&std::fs::read(server.kubeconfig()).unwrap()).unwrap();
    let user = &mut config["users"][0]["user"];
    user["as"] = json!(format!("system:serviceaccount:{NAMESPACE}:peerpods-operator"));
    user["as-groups"] = json!(["system:serviceaccounts", "system:authenticated"]);
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

async fn client(kubeconfig: PathBuf) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// One look at what is to be played: a ready pod of every DaemonSet on every node that it selects, and no other; Deployments
/// are available.
async fn be_kubernetes(client: &Client) -> Result<(), kube::Error> {
    let (all, parameters) = (ListParams::default(), PatchParams::default());
    let nodes = Api::<Node>::all(client.clone()).list(&all).await?;
    let sets = Api::<DaemonSet>::namespaced(client.clone(), NAMESPACE)
        .list(&all)
        .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let mut there: BTreeSet<String> = pods
        .list(&all)
        .await?
        .into_iter()
        .filter_map(|pod| pod.metadata.name)
        .collect();
    for set in &sets {
        let template = &set.spec.template;
        let selector = template
            .spec
            .as_ref()
            .unwrap()
            .node_selector
            .clone()
            .unwrap_or_default();
        for node in &nodes {
            let labels = node.meta().labels.clone().unwrap_or_default();
            if selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
                continue;
            }
            let name = format!(
                "{}-{}",
                set.meta().name.as_ref().unwrap(),
                node.meta().name.as_ref().unwrap()
            );
            if there.remove(&name) {
                continue;
            }
            let pod = json!({
                "metadata": {"name": name, "labels": template.metadata.as_ref().unwrap().labels},
                "spec": {"nodeName": node.meta().name, "containers": [{"name": "a", "image": "a"}]},
            });
            pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
                .await?;
            let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            pods.patch_status(&name, &parameters, &Patch::Strategic(ready))
                .await?;
        }
    }
    for name in there {
        pods.delete(&name, &DeleteParams::default().grace_period(0))
            .await?;
    }
    machine_config_operator::be(client, &nodes.items).await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    for deployment in deployments.list(&all).await? {
        let available = deployment
            .status
            .as_ref()
            .and_then(|status| status.available_replicas);
        if available != Some(2) {
            let status = json!({"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}});
            deployments
                .patch_status(
                    deployment.meta().name.as_ref().unwrap(),
                    &parameters,
                    &Patch::Merge(status),
                )
                .await?;
        }
    }
    Ok(())
}
