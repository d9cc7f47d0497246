//! The namespaces whose pods are left alone unless somebody says otherwise: those of today's operator.

use std::collections::BTreeSet;

/// Namespaces by their whole names.
const WHOLE: [&str; 4] = [
    "peer-pods-webhook-system",
    "kube-system",
    "kube-node-lease",
    "openshift",
];

/// OpenShift's own, each after `openshift-`.
const OPENSHIFT: [&str; 62] = [
    "sandboxed-containers-operator",
    "apiserver",
    "apiserver-operator",
    "authentication",
    "authentication-operator",
    "cloud-controller-manager",
    "cloud-controller-manager-operator",
    "cloud-credential-operator",
    "cloud-network-config-controller",
    "cluster-csi-drivers",
    "cluster-machine-approver",
    "cluster-node-tuning-operator",
    "cluster-samples-operator",
    "cluster-storage-operator",
    "cluster-version",
    "config",
    "config-managed",
    "config-operator",
    "console",
    "console-operator",
    "console-user-settings",
    "controller-manager",
    "controller-manager-operator",
    "dns",
    "dns-operator",
    "etcd",
    "etcd-operator",
    "host-network",
    "image-registry",
    "infra",
    "ingress",
    "ingress-canary",
    "ingress-operator",
    "insights",
    "kni-infra",
    "kube-apiserver",
    "kube-apiserver-operator",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-scheduler-operator",
    "kube-storage-version-migrator",
    "kube-storage-version-migrator-operator",
    "machine-api",
    "machine-config-operator",
    "marketplace",
    "monitoring",
    "multus",
    "network-diagnostics",
    "network-operator",
    "node",
    "nutanix-infra",
    "oauth-apiserver",
    "openstack-infra",
    "operator-lifecycle-manager",
    "operators",
    "ovirt-infra",
    "ovn-kubernetes",
    "route-controller-manager",
    "service-ca",
    "service-ca-operator",
    "user-workload-monitoring",
    "vsphere-infra",
];

/// How many there are.
pub const EXCLUDED_NAMES: usize = WHOLE.len() + OPENSHIFT.len();

/// All of them.
pub fn excluded_namespaces() -> BTreeSet<String> {
    let whole = WHOLE.into_iter().map(str::to_owned);
    let openshift = OPENSHIFT.into_iter().map(|name| format!("openshift-{name}"));
    whole.chain(openshift).collect()
}
