//! What is in the archive: a table, and what does not fit into one.

use std::collections::BTreeSet;

use anyhow::Result;
use peerpods_api::names::{RUNTIME_CLASS, VM_RESOURCE};
use serde_json::{Value, json};

use super::{Collector, logs, pods, redact};

const PEER_PODS: &str = "/apis/confidentialcontainers.org/v1alpha1";
const ADMISSION: &str = "/apis/admissionregistration.k8s.io";

/// Lists of the whole cluster: the file, and what is asked for it.
const CLUSTER: [(&str, &str, &str); 4] = [
    (
        "kataconfigs",
        "/apis/kataconfiguration.openshift.io/v1",
        "/kataconfigs",
    ),
    ("peerpodconfigs", PEER_PODS, "/peerpodconfigs"),
    ("peerpods", PEER_PODS, "/peerpods"),
    ("runtimeclasses", "/apis/node.k8s.io/v1", "/runtimeclasses"),
];

/// Registrations, of which a cluster has many that are not ours; kinds that older servers do not know among them.
const REGISTRATIONS: [&str; 5] = [
    "v1/mutatingwebhookconfigurations",
    "v1/mutatingadmissionpolicies",
    "v1/mutatingadmissionpolicybindings",
    "v1/validatingadmissionpolicies",
    "v1/validatingadmissionpolicybindings",
];

/// Lists of the operator's namespace.
const NAMESPACE: [(&str, &str); 9] = [
    ("/api/v1", "pods"),
    ("/api/v1", "configmaps"),
    ("/api/v1", "services"),
    ("/api/v1", "events"),
    ("/apis/apps/v1", "daemonsets"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/batch/v1", "jobs"),
    ("/apis/policy/v1", "poddisruptionbudgets"),
    ("/apis/coordination.k8s.io/v1", "leases"),
];

/// Of whom events are gathered in all namespaces; those of pods are many, and only peer pods' are kept.
const EVENTS_OF: [&str; 4] = ["KataConfig", "PeerPod", "Node", "Pod"];

/// Reads everything, the Secrets first: their values are looked for in all the rest.
pub(super) async fn gather(collector: &mut Collector) -> Result<()> {
    let namespace = collector.namespace.clone();
    secrets(collector, &namespace).await?;
    for (file, group, resource) in CLUSTER {
        let items = collector.list(file, &format!("{group}{resource}")).await;
        collector.add_json(&format!("cluster/{file}"), Value::Array(items))?;
    }
    registrations(collector).await?;
    nodes(collector).await?;
    let mut components = Vec::new();
    for (group, resource) in NAMESPACE {
        let path = format!("{group}/namespaces/{namespace}/{resource}");
        let items = collector
            .list(&format!("{resource} of namespace {namespace}"), &path)
            .await;
        if resource == "pods" {
            components.clone_from(&items);
        }
        collector.add_json(&format!("namespace/{resource}"), Value::Array(items))?;
    }
    let peer_pods = peer_pods(collector).await?;
    events(collector, &peer_pods).await?;
    logs::gather(collector, &components).await
}

async fn secrets(collector: &mut Collector, namespace: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}/secrets");
    let secrets = collector
        .list(&format!("Secrets of namespace {namespace}"), &path)
        .await;
    for secret in &secrets {
        collector.redactor.learn(secret);
    }
    let outlines = secrets.iter().map(redact::outline).collect();
    collector.add_json("namespace/secrets", outlines)
}

/// Of the registrations those that name us.
async fn registrations(collector: &mut Collector) -> Result<()> {
    for resource in REGISTRATIONS {
        let path = format!("{ADMISSION}/{resource}");
        let file = resource.rsplit('/').next().unwrap_or(resource);
        let mut items = collector.list(file, &path).await;
        items.retain(|item| {
            let text = item.to_string();
            text.contains("peerpods") || text.contains("peer-pods") || text.contains(RUNTIME_CLASS)
        });
        collector.add_json(&format!("cluster/{file}"), Value::Array(items))?;
    }
    Ok(())
}

/// Of nodes what matters to peer pods; not, for example, which images they have.
async fn nodes(collector: &mut Collector) -> Result<()> {
    let nodes = collector.list("nodes", "/api/v1/nodes").await;
    let outline = |node: &Value| {
        let status = &node["status"];
        json!({
            "name": node["metadata"]["name"], "labels": node["metadata"]["labels"],
            "created": node["metadata"]["creationTimestamp"], "taints": node["spec"]["taints"],
            "providerID": node["spec"]["providerID"], "unschedulable": node["spec"]["unschedulable"],
            "capacity": status["capacity"], "allocatable": status["allocatable"], "conditions": status["conditions"],
            "addresses": status["addresses"], "versions": status["nodeInfo"],
            "VMs": status["capacity"][VM_RESOURCE],
        })
    };
    collector.add_json("cluster/nodes", nodes.iter().map(outline).collect())
}

/// Peer pods of users, and their names as `NAMESPACE/NAME`.
async fn peer_pods(collector: &mut Collector) -> Result<BTreeSet<String>> {
    let all = collector.list("pods of all namespaces", "/api/v1/pods").await;
    let peer_pods: Vec<_> = all
        .iter()
        .filter(|pod| pod["spec"]["runtimeClassName"] == RUNTIME_CLASS)
        .collect();
    let name = |pod: &&Value| {
        let part = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", part("namespace"), part("name"))
    };
    let names = peer_pods.iter().map(name).collect();
    collector.add_json(
        "cluster/pods",
        peer_pods.iter().map(|pod| pods::outline(pod)).collect(),
    )?;
    Ok(names)
}

async fn events(collector: &mut Collector, peer_pods: &BTreeSet<String>) -> Result<()> {
    for kind in EVENTS_OF {
        let path = format!("/api/v1/events?fieldSelector=involvedObject.kind%3D{kind}");
        let mut events = collector.list(&format!("events of {kind}s"), &path).await;
        if kind == "Pod" {
            events.retain(|event| {
                let about = &event["involvedObject"];
                let part = |key: &str| about[key].as_str().unwrap_or_default();
                peer_pods.contains(&format!("{}/{}", part("namespace"), part("name")))
            });
        }
        collector.add_json(&format!("events/{}", kind.to_lowercase()), Value::Array(events))?;
    }
    Ok(())
}
