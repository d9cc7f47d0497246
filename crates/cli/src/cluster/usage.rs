//! What VMs use, as the cluster measures it: the metrics API, or what each node's kubelet says where there is none.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::Result;
use futures::{StreamExt, stream};
use http::Request;
use peerpods_resources::Quantity;
use serde::{Deserialize, Serialize};

use super::{
    connection::{Cluster, ask},
    machine::PodKey,
};

/// Nodes that are asked at once.
const NODES: usize = 8;

/// What one pod's containers use in their VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Usage {
    /// Thousandths of a CPU.
    pub(super) cpu_millicores: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
}

/// What is known, by pod; and in words what is not.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) by_pod: BTreeMap<PodKey, Usage>,
    pub(super) missing: Vec<String>,
}

/// Asks for the figures of all pods of a namespace, or of all; of nodes only these.
pub(super) async fn figures(cluster: &Cluster, namespace: Option<&str>, nodes: Vec<String>) -> Figures {
    let path = match namespace {
        Some(namespace) => format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"),
        None => "/apis/metrics.k8s.io/v1beta1/pods".to_owned(),
    };
    if let Ok(list) = get::<PodMetricsList>(cluster, "read the metrics API", &path).await {
        return Figures {
            by_pod: list.items.into_iter().map(PodMetrics::usage).collect(),
            missing: Vec::new(),
        };
    }
    let answers = stream::iter(nodes).map(|node| async move {
        let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
        get::<Summary>(
            cluster,
            &format!("read what pods use from the kubelet of node {node}"),
            &path,
        )
        .await
    });
    let mut figures = Figures::default();
    for answer in answers.buffer_unordered(NODES).collect::<Vec<_>>().await {
        match answer {
            Ok(summary) => figures
                .by_pod
                .extend(summary.pods.into_iter().map(SummaryPod::usage)),
            Err(error) => figures.missing.push(format!("{error:#}")),
        }
    }
    figures
}

async fn get<T: for<'a> Deserialize<'a>>(cluster: &Cluster, action: &str, path: &str) -> Result<T> {
    let request = Request::get(path).body(Vec::new())?;
    ask(action, cluster.client.request(request)).await
}

#[derive(Deserialize)]
struct PodMetricsList {
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: PodReference,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct PodReference {
    name: String,
    namespace: String,
}

impl PodReference {
    fn key(self) -> PodKey {
        (self.namespace, self.name)
    }
}

impl PodMetrics {
    fn usage(self) -> (PodKey, Usage) {
        let sum = |resource: &str| {
            let quantities = self
                .containers
                .iter()
                .filter_map(|one| one.usage.get(resource))
                .filter_map(|text| Quantity::from_str(text).ok());
            quantities.reduce(Quantity::plus)
        };
        let usage = Usage {
            cpu_millicores: sum("cpu").and_then(|cpu| u64::try_from(cpu.whole_thousandths()).ok()),
            memory_bytes: sum("memory").and_then(|memory| u64::try_from(memory.whole_units()).ok()),
        };
        (self.metadata.key(), usage)
    }
}

/// Of the kubelet's summary what is used here.
#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    pods: Vec<SummaryPod>,
}

/// The kubelet's own figures of a pod are of its control group on the node, in which nothing of a peer pod is: what counts is
/// what its containers use.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryPod {
    pod_ref: PodReference,
    #[serde(default)]
    containers: Vec<SummaryContainer>,
}

#[derive(Deserialize)]
struct SummaryContainer {
    cpu: Option<SummaryCpu>,
    memory: Option<SummaryMemory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryCpu {
    usage_nano_cores: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryMemory {
    working_set_bytes: Option<u64>,
}

impl SummaryPod {
    fn usage(self) -> (PodKey, Usage) {
        /// Of a thousandth of a CPU.
        const NANO: u64 = 1_000_000;
        let sum = |of: fn(&SummaryContainer) -> Option<u64>| {
            self.containers.iter().filter_map(of).reduce(u64::saturating_add)
        };
        let usage = Usage {
            cpu_millicores: sum(|one| one.cpu.as_ref()?.usage_nano_cores).map(|cores| cores.div_ceil(NANO)),
            memory_bytes: sum(|one| one.memory.as_ref()?.working_set_bytes),
        };
        (self.pod_ref.key(), usage)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_metrics_api_is_understood() {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "containers": [
                {"name": "a", "usage": {"cpu": "1500000n", "memory": "2Mi"}},
                {"name": "b", "usage": {"cpu": "2m", "memory": "1024"}},
            ],
        });
        let (key, usage) = serde_json::from_value::<PodMetrics>(pod).unwrap().usage();
        assert_eq!(key, ("shop".to_owned(), "web".to_owned()));
        assert_eq!(usage.cpu_millicores, Some(4));
        assert_eq!(usage.memory_bytes, Some(2 * 1024 * 1024 + 1024));
    }

    #[test]
    fn a_kubelets_summary_is_understood_also_where_it_knows_nothing_yet() {
        let summary = json!({"node": {}, "pods": [
            {"podRef": {"name": "web", "namespace": "shop", "uid": "u"},
             "cpu": {"usageNanoCores": 0}, "memory": {"workingSetBytes": 0},
             "containers": [
                {"name": "a", "cpu": {"usageNanoCores": 2_000_001}, "memory": {"workingSetBytes": 4096}},
                {"name": "b", "cpu": {"usageNanoCores": 1}, "memory": {"workingSetBytes": 1}},
                {"name": "new"},
             ]},
            {"podRef": {"name": "new", "namespace": "shop", "uid": "v"}},
        ]});
        let summary: Summary = serde_json::from_value(summary).unwrap();
        let usages: Vec<_> = summary.pods.into_iter().map(|pod| pod.usage().1).collect();
        let known = Usage {
            cpu_millicores: Some(3),
            memory_bytes: Some(4097),
        };
        assert_eq!(usages, [known, Usage::default()]);
    }
}
