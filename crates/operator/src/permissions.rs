//! All that the operator may do: one line for each thing that it does, printed by `peerpods-operator permissions`.
//!
//! A component test runs the operator with these rights and no others.

use peerpods_api::names as api;
use serde_json::{Value, json};

use crate::{
    managed::{Kind, MACHINE_CONFIGURATION},
    names::{LEASE, MANAGER, WEBHOOK_SECRET},
};

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The whole cluster.
    Cluster,
    /// The operator's own namespace.
    Own,
}

/// One right.
struct Permission {
    scope: Scope,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    /// Empty for all objects.
    names: &'static [&'static str],
}

const KATA: &str = "kataconfiguration.openshift.io";
const PEER_PODS: &str = "confidentialcontainers.org";

/// Rights on what is not in the table of managed kinds.
const PERMISSIONS: [Permission; 16] = [
    // What an administrator asks for, and what became of it. Finalizers are fields of the object itself.
    cluster(KATA, &["kataconfigs"], &["list", "watch", "patch"]),
    cluster(KATA, &["kataconfigs/status"], &["patch"]),
    cluster(PEER_PODS, &["peerpodconfigs"], &["list", "watch"]),
    cluster(PEER_PODS, &["peerpodconfigs/status"], &["patch"]),
    own(PEER_PODS, &["peerpodconfigs"], &["create", "delete"], &[]),
    // VMs that nobody ended.
    cluster(PEER_PODS, &["peerpods"], &["list", "watch", "patch"]),
    cluster(PEER_PODS, &["peerpods/status"], &["patch"]),
    // Labels, and capacity.
    cluster("", &["nodes"], &["list", "watch", "patch"]),
    cluster("", &["nodes/status"], &["patch"]),
    // OpenShift: how far nodes are with their configuration.
    cluster(MACHINE_CONFIGURATION, &["machineconfigpools"], &["list", "watch"]),
    // Who uses the runtime class, and how the components are.
    cluster("", &["pods"], &["list"]),
    own("", &["pods"], &["list", "watch"], &[]),
    // The id of the image that was published becomes a setting.
    own(
        "",
        &["configmaps"],
        &["list", "watch", "patch"],
        &[api::SETTINGS_CONFIG_MAP],
    ),
    // Only which keys there are is kept; the certificate's key is not.
    own(
        "",
        &["secrets"],
        &["list", "watch"],
        &[api::CLOUD_SECRET, WEBHOOK_SECRET],
    ),
    // Events of objects that have no namespace are in `default`.
    cluster("events.k8s.io", &["events"], &["create", "patch"]),
    Permission {
        scope: Scope::Cluster,
        group: "",
        resources: &["namespaces"],
        verbs: &["get"],
        // Its UID is the cluster's id.
        names: &["kube-system"],
    },
];

const fn cluster(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Permission {
    Permission {
        scope: Scope::Cluster,
        group,
        resources,
        verbs,
        names: &[],
    }
}

const fn own(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    names: &'static [&'static str],
) -> Permission {
    Permission {
        scope: Scope::Own,
        group,
        resources,
        verbs,
        names,
    }
}

/// ServiceAccount, roles and bindings, as one list that `kubectl apply` takes.
pub fn manifests(namespace: &str) -> Value {
    let metadata = json!({"name": MANAGER, "namespace": namespace});
    let subject = json!([{"kind": "ServiceAccount", "name": MANAGER, "namespace": namespace}]);
    let rbac = "rbac.authorization.k8s.io";
    let reference = |kind: &str| json!({"apiGroup": rbac, "kind": kind, "name": MANAGER});
    let version = format!("{rbac}/v1");
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": MANAGER}, "rules": rules(Scope::Cluster)},
        {"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": MANAGER},
         "roleRef": reference("ClusterRole"), "subjects": subject},
        {"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules(Scope::Own)},
        {"apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
         "roleRef": reference("Role"), "subjects": subject},
    ]})
}

fn rules(scope: Scope) -> Vec<Value> {
    let rule = |group: &str, resources: &[&str], verbs: &[&str], names: &[&str]| {
        let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        rule
    };
    let mut rules: Vec<_> = PERMISSIONS
        .iter()
        .filter(|one| one.scope == scope)
        .map(|one| rule(one.group, one.resources, one.verbs, one.names))
        .collect();
    let of_scope = |kind: &&Kind| kind.namespaced() == (scope == Scope::Own);
    for kind in Kind::ALL.iter().filter(of_scope) {
        let resources = [kind.plural()];
        // What is made has no name yet that a rule could know.
        rules.push(rule(kind.group(), &resources, &["create"], &[]));
        rules.push(rule(kind.group(), &resources, &["patch", "delete"], kind.names()));
        let seen = kind.only_name().map(|name| [name]);
        rules.push(rule(
            kind.group(),
            &resources,
            &["list", "watch"],
            seen.as_ref().map_or(&[], |name| name),
        ));
    }
    if scope == Scope::Own {
        rules.push(rule("coordination.k8s.io", &["leases"], &["create"], &[]));
        rules.push(rule(
            "coordination.k8s.io",
            &["leases"],
            &["get", "update"],
            &[LEASE],
        ));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_right_is_on_everything() {
        for scope in [Scope::Cluster, Scope::Own] {
            for rule in rules(scope) {
                assert!(!rule.to_string().contains('*'), "{rule}");
            }
        }
    }

    #[test]
    fn secrets_are_read_by_name_and_in_one_namespace() {
        let reads =
            |rule: &&Value| rule["resources"] == json!(["secrets"]) && rule["verbs"] != json!(["create"]);
        assert!(
            rules(Scope::Own)
                .iter()
                .filter(reads)
                .all(|rule| rule["resourceNames"].is_array())
        );
        assert_eq!(rules(Scope::Cluster).iter().filter(reads).count(), 0);
    }
}
