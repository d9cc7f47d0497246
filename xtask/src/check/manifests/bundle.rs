//! The bundle by which Operator Lifecycle Manager installs the operator, as OpenShift does.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Files, yaml};
use crate::images::VERSION;
use crate::testbed::NAMESPACE;

/// The package's name in a catalog.
const PACKAGE: &str = "peerpods";
const CHANNEL: &str = "alpha";
/// matchConditions of webhooks are there from it on.
const KUBERNETES: &str = "1.28.0";
const CLUSTER_SERVICE_VERSION: &str = "bundle/manifests/peerpods.clusterserviceversion.yaml";
/// Accounts that OLM does not make of permissions.
const WITHOUT_RIGHTS: [&str; 2] = ["peer-pods-webhook", "peerpods-image-publisher"];
const DESCRIPTION: &str = "\
Runs Kubernetes pods in virtual machines of their own, which are not nested in worker nodes but beside them.\n\
\n\
Create the ConfigMap `peer-pods-cm` with at least `CLOUD_PROVIDER`, where the provider needs credentials the Secret\n\
`peer-pods-secret`, and then a KataConfig with `enablePeerPods: true`. `kubectl describe kataconfig` says, node by node,\n\
what is there and what is missing. Deleting the KataConfig removes everything again.\n";

/// What is in the bundle beside the definitions of custom resources, from the chart's objects.
pub(super) fn files(objects: &[Value]) -> Result<Files> {
    let mut files = Files::from([
        (CLUSTER_SERVICE_VERSION.to_owned(), yaml(&version(objects)?)?),
        (
            "bundle/metadata/annotations.yaml".to_owned(),
            yaml(&annotations())?,
        ),
    ]);
    // What OLM does not make from the version's own fields: accounts without rights, and the rest of what it knows.
    let beside = objects.iter().filter(|object| match text(&object["kind"]) {
        "ServiceAccount" => WITHOUT_RIGHTS.contains(&text(&object["metadata"]["name"])),
        "PodDisruptionBudget" => true,
        _ => false,
    });
    for object in beside {
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            // OLM installs into the namespace that the administrator chose.
            metadata.remove("namespace");
        }
        let file = format!("bundle/manifests/{name}_{}.yaml", kind.to_lowercase());
        files.insert(file, yaml(&object)?);
    }
    Ok(files)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn annotations() -> Value {
    json!({"annotations": {
        "operators.operatorframework.io.bundle.mediatype.v1": "registry+v1",
        "operators.operatorframework.io.bundle.manifests.v1": "manifests/",
        "operators.operatorframework.io.bundle.metadata.v1": "metadata/",
        "operators.operatorframework.io.bundle.package.v1": PACKAGE,
        "operators.operatorframework.io.bundle.channels.v1": CHANNEL,
        "operators.operatorframework.io.bundle.channel.default.v1": CHANNEL,
    }})
}

fn version(objects: &[Value]) -> Result<Value> {
    let deployment = of_kind(objects, "Deployment")
        .next()
        .context("the chart has no Deployment")?;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let image = &container["image"];
    let related = container["env"].as_array().into_iter().flatten();
    let related = related.filter_map(|variable| {
        let name = text(&variable["name"]).strip_prefix("RELATED_IMAGE_")?;
        Some(json!({"name": name.to_lowercase(), "image": variable["value"]}))
    });
    let related: Vec<_> = related.collect();
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": format!("{PACKAGE}.v{VERSION}"),
            "namespace": "placeholder",
            "annotations": {
                "alm-examples": format!("{:#}", examples()),
                "capabilities": "Seamless Upgrades",
                "categories": "Security",
                "containerImage": image,
                "description": "Kubernetes pods in virtual machines of their own",
                "operatorframework.io/suggested-namespace": NAMESPACE,
            },
        },
        "spec": {
            "displayName": "peerpods",
            "description": DESCRIPTION,
            "version": VERSION,
            "minKubeVersion": KUBERNETES,
            "maturity": CHANNEL,
            "keywords": ["virtual machine", "isolation", "Kata Containers"],
            "maintainers": [{"name": "The peerpods project", "email": "peerpods@example.com"}],
            "provider": {"name": "The peerpods project"},
            // It acts for the whole cluster from a namespace of its own, of which there is one.
            "installModes": [
                {"type": "OwnNamespace", "supported": true},
                {"type": "SingleNamespace", "supported": true},
                {"type": "MultiNamespace", "supported": false},
                {"type": "AllNamespaces", "supported": false},
            ],
            "customresourcedefinitions": {"owned": owned(objects)},
            "relatedImages": related,
            "install": {"strategy": "deployment", "spec": {
                "deployments": [{"name": deployment["metadata"]["name"], "spec": deployment["spec"]}],
                "clusterPermissions": cluster_permissions(objects),
                "permissions": permissions(objects, "Role"),
            }},
        },
    }))
}

fn owned(objects: &[Value]) -> Vec<Value> {
    let definitions = of_kind(objects, "CustomResourceDefinition");
    definitions
        .map(|definition| {
            let spec = &definition["spec"];
            let version = &spec["versions"][0];
            json!({
                "name": definition["metadata"]["name"],
                "kind": spec["names"]["kind"],
                "version": version["name"],
                "displayName": spec["names"]["kind"],
                "description": version["schema"]["openAPIV3Schema"]["description"],
            })
        })
        .collect()
}

/// Of each account that a role of this kind is bound to; accounts and roles have the same names here.
fn permissions(objects: &[Value], kind: &str) -> Vec<Value> {
    of_kind(objects, kind)
        .map(|role| json!({"serviceAccountName": role["metadata"]["name"], "rules": role["rules"]}))
        .collect()
}

/// Beside what the roles say: OpenShift admits no privileged pod without this.
fn cluster_permissions(objects: &[Value]) -> Vec<Value> {
    let mut all = permissions(objects, "ClusterRole");
    let privileged = json!({
        "apiGroups": ["security.openshift.io"],
        "resources": ["securitycontextconstraints"],
        "resourceNames": ["privileged"],
        "verbs": ["use"],
    });
    for account in ["cloud-api-adaptor", "peerpods-node-runtime"] {
        let there = all.iter_mut().find(|one| one["serviceAccountName"] == account);
        match there.and_then(|one| one["rules"].as_array_mut()) {
            Some(rules) => rules.push(privileged.clone()),
            None => all.push(json!({"serviceAccountName": account, "rules": [privileged]})),
        }
    }
    all
}

/// One object of each kind, for people who look at the operator's page.
fn examples() -> Value {
    let metadata = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    json!([
        {
            "apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig",
            "metadata": {"name": "cluster"}, "spec": {"enablePeerPods": true},
        },
        {
            "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPodConfig",
            "metadata": metadata("peerpodconfig-openshift"),
            "spec": {"limit": "10", "nodeSelector": {"node-role.kubernetes.io/kata-oc": ""}},
        },
        {
            "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod",
            "metadata": metadata("example-resource-0123456789"), "spec": {"cloudProvider": "qemu"},
        },
    ])
}

#[cfg(test)]
mod tests;
