//! PeerPods when the API server does not let the adaptor write them, and when nobody is there to let them go.

use std::time::Duration;

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, wait_for};
use serde_json::{Value, json};

use crate::{instances_of, kill_daemon};

const ADAPTOR: &str = "cloud-api-adapt";
/// The adaptor's pauses grow to a minute.
const LIMIT: Duration = Duration::from_secs(150);

/// The adaptor's account without its rights, for as long as this lives.
struct WithoutRights<'bed> {
    bed: &'bed Bed,
    binding: Value,
}

const BINDING: [&str; 2] = ["clusterrolebinding", "cloud-api-adaptor"];

impl<'bed> WithoutRights<'bed> {
    fn take(bed: &'bed Bed) -> Self {
        let mut binding = bed.get(BINDING[0], BINDING[1]).expect("the chart has made it");
        for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            binding["metadata"]
                .as_object_mut()
                .expect("an object has metadata")
                .remove(field);
        }
        bed.kubectl(&["delete", BINDING[0], BINDING[1]]).text();
        Self { bed, binding }
    }
}

impl Drop for WithoutRights<'_> {
    fn drop(&mut self) {
        self.bed
            .kubectl_with_input(&["create", "-f", "-"], &self.binding.to_string());
    }
}

/// The PeerPod that a pod owns, where there is one.
fn peer_pod_of(bed: &Bed, pod: &str) -> Option<Value> {
    let text = bed.kubectl(&["get", "peerpods", "--output", "json"]).text();
    let mut list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let all = list["items"].as_array_mut().expect("a list has items");
    let found = all
        .iter_mut()
        .find(|one| one["metadata"]["ownerReferences"][0]["name"] == pod);
    found.map(Value::take)
}

#[test]
fn without_a_word_to_the_api_server_pods_start_and_end_and_their_objects_follow() {
    let bed = Bed::connect();
    let away = WithoutRights::take(&bed);
    let pod = PodBuilder::new("unseen", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    assert_eq!(peer_pod_of(&bed, &pod.name), None);
    drop(away);
    wait_for("the PeerPod follows", LIMIT, || {
        match peer_pod_of(&bed, &pod.name) {
            Some(object) if object["status"]["phase"] == "Ready" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    let away = WithoutRights::take(&bed);
    let name = pod.name.clone();
    let machine = instances_of(&bed, &pod);
    pod.delete();
    wait_for("the VM is gone", LIMIT, || {
        let left = bed.enter(&["ls", "/run/peerpod/instances"]).stdout;
        if machine.iter().any(|one| left.contains(one)) {
            Err(left)
        } else {
            Ok(())
        }
    });
    assert_eq!(
        peer_pod_of(&bed, &name).expect("nobody could let it go")["metadata"]["finalizers"][0],
        "peer.pod/finalizer"
    );
    kill_daemon(&bed, ADAPTOR);
    drop(away);
    wait_for("the PeerPod is gone, too", LIMIT, || {
        match peer_pod_of(&bed, &name) {
            None => Ok(()),
            Some(object) => Err(format!("{object:#}")),
        }
    });
}

#[test]
fn an_object_without_a_vm_is_let_go_by_the_adaptor_of_its_node() {
    let bed = Bed::connect();
    let name = "left-resource-0123456789";
    bed.apply(&json!({
        "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod",
        "metadata": {
            "name": name, "labels": {"peerpods.io/node": "lab-node"}, "finalizers": ["peer.pod/finalizer"],
        },
        "spec": {"cloudProvider": "qemu", "nodeName": "lab-node", "sandboxID": "no-such-sandbox"},
    }));
    // It looks as it starts.
    kill_daemon(&bed, ADAPTOR);
    wait_for("the PeerPod is gone", LIMIT, || match bed.get("peerpod", name) {
        None => Ok(()),
        Some(object) => Err(format!("{object:#}")),
    });
}
