//! Names of what only the operator writes, and reads again.

/// The manager of all fields that the operator writes, and the value of the label [`MANAGED_BY`].
pub const MANAGER: &str = "peerpods-operator";
/// The provider whose VMs are EC2 instances, by its name in settings and PeerPods.
pub const AWS: &str = "aws";
/// On every object that the operator made; an object without it is none of its own.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// On every pod that the operator installed: which component it is of.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// On every object that the operator made: a hash of what was asked for.
pub const REVISION: &str = "peerpods.io/revision";
/// On the pods of the adaptor: a hash of the settings that they were started with.
pub const SETTINGS_REVISION: &str = "peerpods.io/settings-revision";
/// On nodes: what is wanted of the runtime there, [`RUNTIME_INSTALL`] or [`RUNTIME_REMOVE`].
pub const RUNTIME: &str = "peerpods.io/node-runtime";
/// The runtime is to be on the node.
pub const RUNTIME_INSTALL: &str = "install";
/// The runtime is to be taken off the node.
pub const RUNTIME_REMOVE: &str = "remove";
/// On nodes: since when that is wanted.
pub const RUNTIME_SINCE: &str = "peerpods.io/node-runtime-since";
/// On the webhook's certificate: when it is time for the next one.
pub const RENEW_AFTER: &str = "peerpods.io/renew-after";

/// Why a pod fails that ended with [`peerpods_api::names::SETTINGS_EXIT_CODE`], and why settings are not valid then.
pub const SETTINGS_REFUSED: &str = "SettingsRefused";

/// On worker nodes, where the cluster says which are.
pub const WORKER: &str = "node-role.kubernetes.io/worker";
/// On nodes of the control plane.
pub const CONTROL_PLANE: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];
/// What a PeerPodConfig without a selector selects, as today.
pub const ANY_WORKER: &str = "node.kubernetes.io/worker";

/// The adaptor's DaemonSet, as today's.
pub const ADAPTOR: &str = "peerpodconfig-ctrl-caa-daemon";
/// The DaemonSet that installs the runtime on nodes.
pub const NODE_INSTALL: &str = "peerpods-node-install";
/// The DaemonSet that removes it.
pub const NODE_REMOVE: &str = "peerpods-node-remove";
/// The Job that publishes the VM image.
pub const IMAGE_PUBLISHER: &str = "peerpods-image-publisher";
/// The webhook's Deployment, its PodDisruptionBudget, and what cert-manager is asked for.
pub const WEBHOOK: &str = "peer-pods-webhook";
/// The webhook's Service.
pub const WEBHOOK_SERVICE: &str = "peer-pods-webhook-svc";
/// The webhook's certificate.
pub const WEBHOOK_SECRET: &str = "peer-pods-webhook-svc-secret";
/// The policy of which namespaces may have peer pods, and its binding.
pub const NAMESPACE_POLICY: &str = "peerpods-namespaces";
/// OpenShift: CRI-O's configuration, by today's name.
pub const MACHINE_CONFIG: &str = "50-kata-remote";
/// OpenShift: the pool of nodes that run peer pods, as today.
pub const POOL: &str = "kata-oc";
/// OpenShift: the pool of all other workers.
pub const WORKER_POOL: &str = "worker";
/// OpenShift: the pool of the control plane.
pub const MASTER_POOL: &str = "master";

/// The lease of the operator that acts. It is today's, so that today's operator and this one never act both.
pub const LEASE: &str = "290f4947.kataconfiguration.openshift.io";
