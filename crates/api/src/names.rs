//! Names that users, other projects' programs and our own share. Each is a contract.

/// The runtime class of peer pods, and the name of its handler on nodes.
pub const RUNTIME_CLASS: &str = "kata-remote";

/// The extended resource of which every peer pod takes one: a place for a VM on its node.
pub const VM_RESOURCE: &str = "kata.peerpods.io/vm";

/// The resource by which containers ask for GPUs.
pub const GPU_RESOURCE: &str = "nvidia.com/gpu";

/// Where the operator and what it installs live.
pub const OPERATOR_NAMESPACE: &str = "openshift-sandboxed-containers-operator";

/// The PeerPodConfig that the operator makes for a KataConfig.
pub const DEFAULT_PEER_POD_CONFIG: &str = "peerpodconfig-openshift";

/// The Secret with the cloud provider's credentials.
pub const CLOUD_SECRET: &str = "peer-pods-secret";

/// The ConfigMap with the adaptor's settings.
pub const SETTINGS_CONFIG_MAP: &str = "peer-pods-cm";

/// The key of that ConfigMap which, as in newer releases, sets how many VMs a node may have.
pub const LIMIT_SETTING: &str = "PEERPODS_LIMIT_PER_NODE";

/// The key of that ConfigMap which says what VMs on EC2 boot.
pub const IMAGE_SETTING: &str = "PODVM_AMI_ID";

/// How many VMs a node may have where nobody says otherwise.
pub const DEFAULT_LIMIT: &str = "10";

/// What a program of ours ends with whose settings an administrator has to change; it is also what a program ends with that
/// cannot read its arguments.
pub const SETTINGS_EXIT_CODE: u8 = 2;

/// Labels.
pub mod labels {
    /// On nodes that run peer pods; its value is empty. It is what the runtime class selects.
    pub const KATA_NODE: &str = "node-role.kubernetes.io/kata-oc";

    /// On nodes that Node Feature Discovery found able to run VMs; its value is `true`.
    pub const KATA_CAPABLE: &str = "feature.node.kubernetes.io/runtime.kata";

    /// On a PeerPod: the node whose adaptor made it, cut to what a label holds; `spec.nodeName` has the whole.
    pub const PEER_POD_NODE: &str = "peerpods.io/node";

    /// On every namespace, set by Kubernetes: the namespace's own name.
    pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
}

/// Annotations of pods.
pub mod annotations {
    /// A peer pod's own requests and limits, as JSON: see [`peerpods_resources::PodResources`].
    pub const RESOURCES: &str = peerpods_resources::ANNOTATION;

    /// How large a peer pod's emptyDir volumes may become, as JSON: see [`peerpods_resources::VolumeLimits`].
    pub const VOLUMES: &str = peerpods_resources::VOLUMES_ANNOTATION;

    /// What all settings of a pod's VM begin with.
    pub const HYPERVISOR: &str = "io.katacontainers.config.hypervisor.";

    /// The VM's kind, for example an EC2 instance type.
    pub const MACHINE_TYPE: &str = "io.katacontainers.config.hypervisor.machine_type";

    /// The VM's image.
    pub const IMAGE: &str = "io.katacontainers.config.hypervisor.image";

    /// The VM's virtual CPUs, a whole number.
    pub const DEFAULT_VCPUS: &str = "io.katacontainers.config.hypervisor.default_vcpus";

    /// The VM's memory in MiB, a whole number.
    pub const DEFAULT_MEMORY: &str = "io.katacontainers.config.hypervisor.default_memory";

    /// The VM's GPUs, a whole number.
    pub const DEFAULT_GPUS: &str = "io.katacontainers.config.hypervisor.default_gpus";
}

/// Folders of the adaptor on its node, unless its settings say otherwise.
pub mod node_folders {
    /// Its journal, and the folders below.
    pub const JOURNAL: &str = "/var/lib/cloud-api-adaptor";

    /// Scratch disks of QEMU's VMs, which are files without names.
    pub const SCRATCH: &str = "/var/lib/cloud-api-adaptor/scratch";

    /// What QEMU's VMs are resumed from: some hundred MiB, which an adaptor makes anew where they are missing.
    pub const TEMPLATES: &str = "/var/lib/cloud-api-adaptor/templates";
}

/// Finalizers.
pub mod finalizers {
    /// On a PeerPod, until the provider confirmed that its VM is gone.
    pub const PEER_POD: &str = "peer.pod/finalizer";

    /// On a KataConfig, until everything that was installed for it is gone.
    pub const KATA_CONFIG: &str = "kataconfiguration.openshift.io/finalizer";
}

/// Types of conditions in the status of our objects.
pub mod conditions {
    /// KataConfig: nodes are being changed. `False` with an empty reason is rest, as today.
    pub const IN_PROGRESS: &str = "InProgress";

    /// All that the object asks for is there.
    pub const READY: &str = "Ready";

    /// The settings and credentials that the object names can be used; a message names the key that cannot.
    pub const SETTINGS_VALID: &str = "SettingsValid";

    /// KataConfig: the VM image is in EC2. It is there only where the operator publishes the image.
    pub const IMAGE_PUBLISHED: &str = "ImagePublished";
}
