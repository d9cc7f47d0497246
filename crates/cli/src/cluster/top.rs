//! `peerpodctl top`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use peerpods_api::{PeerPod, PeerPodPhase, names::VM_RESOURCE};
use serde::Serialize;

use super::{
    connection::{Cluster, all},
    list::Scope,
    machine::{Machine, machines},
    table::{cell, table},
    usage::{Usage, figures},
};
use crate::output::{Format, Report, print};

const HELP: &str = "\
Nodes are shown with all their VMs, of every namespace. CPU and memory are what a pod's containers use
in their VM, by the metrics API; without one, by the kubelets, which takes the right `get nodes/proxy`.

Example:
  kubectl peerpods top --all-namespaces";

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    scope: Scope,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Top {
    nodes: Vec<NodeUse>,
    machines: Vec<MachineUse>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeUse {
    node: String,
    /// How many VMs it may have.
    capacity: Option<u64>,
    /// How many it has.
    used: u64,
    launching: u64,
    booting: u64,
    ready: u64,
    draining: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MachineUse {
    #[serde(flatten)]
    machine: Machine,
    #[serde(flatten)]
    usage: Usage,
}

pub(crate) async fn run(arguments: Arguments, format: Format) -> Result<()> {
    let (cluster, namespace) = arguments.scope.connect().await?;
    let objects = cluster.peer_pods(None).await?;
    let nodes = nodes(capacities(&cluster).await?, &objects);
    let here: Vec<_> = objects
        .into_iter()
        .filter(|object| namespace.is_none() || object.metadata.namespace == namespace)
        .collect();
    let machines = machines(&cluster, &here).await?;
    let names = nodes.iter().filter(|node| node.used > 0);
    let names = names.map(|node| node.node.clone()).collect();
    let figures = figures(&cluster, namespace.as_deref(), names).await;
    for missing in &figures.missing {
        eprintln!("no figures: {missing}");
    }
    let with_usage = |machine: Machine| MachineUse {
        usage: figures.by_pod.get(&machine.key()).copied().unwrap_or_default(),
        machine,
    };
    let machines = machines.into_iter().map(with_usage).collect();
    print(format, &Top { nodes, machines })
}

/// How many VMs each node may have, of those that may have any.
async fn capacities(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let api: Api<Node> = Api::all(cluster.client.clone());
    let nodes = all("list nodes", ListParams::default(), async |page| {
        api.list(page).await
    });
    let capacity = |node: Node| {
        let capacity = node.status?.capacity?.get(VM_RESOURCE)?.0.parse().ok()?;
        Some((node.metadata.name?, capacity))
    };
    Ok(nodes.await?.into_iter().filter_map(capacity).collect())
}

/// Nodes that may have VMs, and nodes that have some all the same.
fn nodes(capacities: BTreeMap<String, u64>, objects: &[PeerPod]) -> Vec<NodeUse> {
    let empty = |node: &str, capacity| NodeUse {
        node: node.to_owned(),
        capacity,
        used: 0,
        launching: 0,
        booting: 0,
        ready: 0,
        draining: 0,
    };
    let mut nodes: BTreeMap<String, NodeUse> = capacities
        .into_iter()
        .map(|(node, capacity)| (node.clone(), empty(&node, Some(capacity))))
        .collect();
    for object in objects {
        let Some(name) = &object.spec.node_name else {
            continue;
        };
        let node = nodes.entry(name.clone()).or_insert_with(|| empty(name, None));
        node.used += 1;
        match object.status.as_ref().and_then(|status| status.phase) {
            None | Some(PeerPodPhase::Launching) => node.launching += 1,
            Some(PeerPodPhase::Booting) => node.booting += 1,
            Some(PeerPodPhase::Ready) => node.ready += 1,
            Some(PeerPodPhase::Draining | PeerPodPhase::Gone) => node.draining += 1,
        }
    }
    nodes.into_values().collect()
}

impl Report for Top {
    fn text(&self) -> String {
        if self.nodes.is_empty() {
            return "no node may have VMs: see `kubectl describe kataconfig`".to_owned();
        }
        let nodes = self.nodes.iter().map(|one| {
            [
                one.node.clone(),
                cell(one.capacity),
                one.used.to_string(),
                one.launching.to_string(),
                one.booting.to_string(),
                one.ready.to_string(),
                one.draining.to_string(),
            ]
        });
        let heads = [
            "NODE",
            "CAPACITY",
            "VMS",
            "LAUNCHING",
            "BOOTING",
            "READY",
            "DRAINING",
        ];
        let nodes = table(heads, nodes);
        if self.machines.is_empty() {
            return nodes;
        }
        let machines = self.machines.iter().map(|one| {
            [
                one.machine.namespace.clone(),
                one.machine.pod.clone(),
                cell(one.machine.node.as_ref()),
                cell(one.usage.cpu_millicores.map(|cpu| format!("{cpu}m"))),
                cell(one.usage.memory_bytes.map(mebibytes)),
                cell(one.machine.size.as_ref()),
            ]
        });
        let heads = ["NAMESPACE", "POD", "NODE", "CPU", "MEMORY", "SIZE"];
        format!("{nodes}\n\n{}", table(heads, machines))
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(1024 * 1024))
}

#[cfg(test)]
mod tests {
    use peerpods_api::{PeerPodSpec, PeerPodStatus};

    use super::*;

    fn object(node: &str, phase: Option<PeerPodPhase>) -> PeerPod {
        let spec = PeerPodSpec {
            node_name: Some(node.to_owned()),
            ..PeerPodSpec::default()
        };
        let mut object = PeerPod::new("one", spec);
        object.status = Some(PeerPodStatus {
            phase,
            ..PeerPodStatus::default()
        });
        object
    }

    #[test]
    fn every_vm_is_counted_once_also_on_a_node_that_may_have_none() {
        let capacities = [("a".to_owned(), 10), ("b".to_owned(), 5)].into();
        let objects = [
            object("a", Some(PeerPodPhase::Ready)),
            object("a", None),
            object("gone", Some(PeerPodPhase::Draining)),
        ];
        let nodes = nodes(capacities, &objects);
        let counted: Vec<_> = nodes
            .iter()
            .map(|one| {
                (
                    one.node.as_str(),
                    one.capacity,
                    one.used,
                    one.ready,
                    one.launching,
                )
            })
            .collect();
        assert_eq!(
            counted,
            [
                ("a", Some(10), 2, 1, 1),
                ("b", Some(5), 0, 0, 0),
                ("gone", None, 1, 0, 0)
            ]
        );
    }
}
