//! `peerpodctl describe`.

mod stages;
mod text;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::core::v1::{Event, Node, Pod},
    jiff::Timestamp,
};
use kube::{Api, Resource, api::ListParams};
use peerpods_api::{
    PeerPod,
    names::{RUNTIME_CLASS, VM_RESOURCE},
};
use serde::Serialize;

use self::stages::Stage;
use super::{
    connection::{Cluster, ClusterArguments, all, ask},
    machine::{Machine, pod_of},
};
use crate::output::{Format, print};

const HELP: &str = "\
A pod that was restarted in a new VM may have two for a while: both are shown.

Example:
  kubectl peerpods describe web-0 --namespace shop";

/// Objects whose events are asked for at once.
const QUESTIONS: usize = 4;

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The pod.
    pod: String,
    /// Its namespace; by default that of the context.
    #[arg(long, short)]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// All that is known of one pod's VM.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    namespace: String,
    pod: String,
    /// Absent where the pod has gone and its VM has not.
    pod_phase: Option<String>,
    /// Why the pod is not further, where Kubernetes says so.
    waits_for: Option<String>,
    machines: Vec<Machine>,
    stages: Vec<Stage>,
    node: Option<NodeRoom>,
    events: Vec<Happening>,
}

/// What a node has.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeRoom {
    name: String,
    /// How many VMs it may have.
    capacity: Option<String>,
    /// How many it has; absent where the PeerPods of other namespaces may not be listed.
    machines: Option<usize>,
}

/// One event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Happening {
    time: Option<Timestamp>,
    kind: String,
    severity: String,
    reason: String,
    message: String,
    count: i32,
}

pub(crate) async fn run(arguments: Arguments, format: Format) -> Result<()> {
    let cluster = arguments.cluster.connect().await?;
    let namespace = arguments.namespace.unwrap_or_else(|| cluster.namespace.clone());
    let name = arguments.pod;
    let pods: Api<Pod> = cluster.api(Some(&namespace));
    let pod = ask(
        &format!("read pod {name} of namespace {namespace}"),
        pods.get_opt(&name),
    )
    .await?;
    let mut objects = cluster.peer_pods(Some(&namespace)).await?;
    objects.retain(|object| pod_of(object) == name);
    if objects.is_empty() {
        check_is_peer_pod(pod.as_ref(), &namespace, &name)?;
    }
    let annotations = pod.as_ref().and_then(|pod| pod.metadata.annotations.as_ref());
    let machines: Vec<_> = objects
        .iter()
        .map(|object| Machine::of(object, annotations))
        .collect();
    let on_node = machines.iter().find_map(|machine| machine.node.clone());
    let on_node = on_node.or_else(|| pod.as_ref()?.spec.as_ref()?.node_name.clone());
    let node = match on_node {
        Some(node) => room(&cluster, node).await?,
        None => None,
    };
    let description = Description {
        pod_phase: pod.as_ref().and_then(|pod| pod.status.as_ref()?.phase.clone()),
        waits_for: pod.as_ref().and_then(waits_for),
        stages: stages::of(pod.as_ref(), objects.last()),
        events: events(&cluster, &namespace, pod.as_ref(), &objects).await?,
        machines,
        node,
        namespace,
        pod: name,
    };
    print(format, &description)
}

/// A pod of another class has no VM, which is no fault; a pod that is not there is one.
fn check_is_peer_pod(pod: Option<&Pod>, namespace: &str, name: &str) -> Result<()> {
    let Some(pod) = pod else {
        bail!(
            "there is no pod {name} in namespace {namespace}: `kubectl peerpods list --all-namespaces` shows all peer pods"
        );
    };
    let class = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.runtime_class_name.as_deref());
    match class {
        Some(RUNTIME_CLASS) => Ok(()),
        Some(other) => Err(anyhow!(
            "pod {name} is no peer pod: its runtimeClassName is {other}, and not {RUNTIME_CLASS}"
        )),
        None => Err(anyhow!(
            "pod {name} is no peer pod: it has no runtimeClassName {RUNTIME_CLASS}"
        )),
    }
}

/// What Kubernetes says of the first condition that does not hold, or of a container that waits.
fn waits_for(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let mut unscheduled =
        conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(message) = unscheduled.find_map(|condition| condition.message.clone()) {
        return Some(message);
    }
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    containers.into_iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        let message = waiting.message.as_deref().unwrap_or_default();
        Some(
            format!("{}: {reason} {message}", container.name)
                .trim_end()
                .to_owned(),
        )
    })
}

async fn room(cluster: &Cluster, name: String) -> Result<Option<NodeRoom>> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = ask(&format!("read node {name}"), nodes.get_opt(&name)).await?;
    let Some(node) = node else {
        return Ok(None);
    };
    let capacity = node.status.and_then(|status| status.capacity);
    let capacity = capacity.and_then(|capacity| Some(capacity.get(VM_RESOURCE)?.0.clone()));
    // Who may see one namespace alone is told the rest all the same.
    let all = cluster.peer_pods(None).await.ok();
    let machines = all.map(|all| {
        let here = all
            .iter()
            .filter(|object| object.spec.node_name.as_ref() == Some(&name));
        here.count()
    });
    Ok(Some(NodeRoom {
        name,
        capacity,
        machines,
    }))
}

/// The events of the pod and of its VMs, the oldest first.
async fn events(
    cluster: &Cluster,
    namespace: &str,
    pod: Option<&Pod>,
    objects: &[PeerPod],
) -> Result<Vec<Happening>> {
    let api: Api<Event> = cluster.api(Some(namespace));
    let uids = pod.and_then(|pod| pod.meta().uid.clone()).into_iter();
    let uids = uids.chain(objects.iter().filter_map(|object| object.metadata.uid.clone()));
    let found: Vec<Vec<Event>> = stream::iter(uids)
        .map(|uid| {
            let parameters = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
            let api = &api;
            async move { all("list events", parameters, async |page| api.list(page).await).await }
        })
        .buffered(QUESTIONS)
        .try_collect()
        .await?;
    let mut events: Vec<_> = found.into_iter().flatten().map(Happening::from).collect();
    events.sort_by_key(|event| event.time);
    Ok(events)
}

impl From<Event> for Happening {
    fn from(event: Event) -> Self {
        let last = event.last_timestamp.map(|time| time.0);
        let precise = event.event_time.map(|time| time.0);
        Self {
            time: last.or(precise).or(event.first_timestamp.map(|time| time.0)),
            kind: event.involved_object.kind.unwrap_or_default(),
            severity: event.type_.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
            count: event.count.unwrap_or(1),
        }
    }
}
