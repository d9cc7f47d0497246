//! The start of a peer pod, step by step, as its objects tell it.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodStatus},
    jiff::Timestamp,
};
use peerpods_api::PeerPod;
use serde::Serialize;

/// One step that was reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stage {
    pub(super) stage: String,
    pub(super) time: Timestamp,
    /// Since the pod was created, or since the first step that is known.
    pub(super) seconds: i64,
}

/// The steps that were reached, in the order in which they were.
pub(super) fn of(pod: Option<&Pod>, object: Option<&PeerPod>) -> Vec<Stage> {
    let mut reached: Vec<(String, Timestamp)> = Vec::new();
    let mut add = |stage: &str, time: Option<Timestamp>| {
        reached.extend(time.map(|time| (stage.to_owned(), time)));
    };
    let status = pod.and_then(|pod| pod.status.as_ref());
    add(
        "pod created",
        pod.and_then(|pod| Some(pod.metadata.creation_timestamp.as_ref()?.0)),
    );
    add(
        "pod scheduled",
        status.and_then(|status| since(status, "PodScheduled")),
    );
    if let Some(machine) = object.and_then(|object| object.status.as_ref()) {
        let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            time.as_ref().map(|time| time.0)
        };
        add("VM asked for", time(&machine.launch_time));
        add("VM exists", time(&machine.boot_time));
        add("VM answers", time(&machine.ready_time));
    }
    if let Some(status) = status {
        let containers = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten();
        for container in containers {
            add(
                &format!("container {} started", container.name),
                started(container),
            );
        }
        add("pod ready", since(status, "Ready"));
    }
    // The sort is stable: of one second, the order above is the order of things.
    reached.sort_by_key(|(_, time)| *time);
    let first = reached.first().map(|(_, time)| time.as_second());
    let stage = |(stage, time): (String, Timestamp)| Stage {
        stage,
        time,
        seconds: time.as_second() - first.unwrap_or_default(),
    };
    reached.into_iter().map(stage).collect()
}

/// Since when a condition holds.
fn since(status: &PodStatus, kind: &str) -> Option<Timestamp> {
    let mut conditions = status.conditions.iter().flatten();
    let holds = conditions.find(|condition| condition.type_ == kind && condition.status == "True")?;
    holds.last_transition_time.as_ref().map(|time| time.0)
}

fn started(container: &ContainerStatus) -> Option<Timestamp> {
    let state = container.state.as_ref()?;
    let running = state.running.as_ref().and_then(|one| one.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|one| one.started_at.as_ref());
    running.or(ended).map(|time| time.0)
}
