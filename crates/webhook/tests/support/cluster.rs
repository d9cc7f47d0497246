//! A real API server with what the table of cases needs: namespaces and runtime classes.

use std::time::Duration;

use peerpods_testkit::{ApiServer, wait_for};
use serde_json::{Value, json};

use crate::support::{Outcome, cases};

/// An API server takes up a registration within seconds.
const REGISTRATION_LIMIT: Duration = Duration::from_secs(30);
/// A namespace that is excluded: what a pod would be without us is seen there.
const EXCLUDED: &str = "kube-system";

pub(crate) struct Cluster<'a> {
    server: &'a ApiServer,
}

impl<'a> Cluster<'a> {
    pub(crate) fn prepare(server: &'a ApiServer) -> Self {
        let cluster = Self { server };
        let namespaces = [
            "kube-system",
            "openshift-monitoring",
            "openshift-monitoring-of-mine",
        ];
        for name in namespaces {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            server.apply(&namespace).text();
        }
        for name in ["kata-remote", "kata-remote-2", "other"] {
            let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": name,
                               "metadata": {"name": name}});
            server.apply(&class).text();
        }
        cluster
    }

    /// Creates a pod as far as its admission, and no further.
    pub(crate) fn create(&self, namespace: &str, pod: &Value) -> Result<Value, String> {
        let mut pod = pod.clone();
        pod["metadata"]["namespace"] = json!(namespace);
        self.server
            .create_at(&format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"), &pod)
    }

    pub(crate) fn wait_until_changed(&self) {
        wait_for("peer pods are changed", REGISTRATION_LIMIT, || {
            match self.create("default", &pod_of(Some("kata-remote"))) {
                Ok(pod) if pod["spec"]["containers"][0]["resources"]["limits"]["cpu"].is_null() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Panics with the first case that is not as the table says.
    pub(crate) fn check_table(&self) {
        for case in cases() {
            let pod = case.pod();
            let after = match self.create(&case.namespace, &pod) {
                Ok(after) => after,
                Err(refusal) => {
                    case.check_refusal(&refusal);
                    continue;
                }
            };
            if matches!(case.outcome, Outcome::Refused(_)) {
                panic!("{}: not refused: {after:#}", case.name());
            }
            let before = self
                .create(EXCLUDED, &pod)
                .expect("without us the pod is created");
            let after = comparable(after);
            case.check_pod(&comparable(before), &after);
            let again = self
                .create(&case.namespace, &after)
                .expect("what was created once is created again");
            assert_eq!(
                comparable(again),
                after,
                "{}: it is not changed again",
                case.name()
            );
        }
    }

    /// Panics unless a pod of very many containers is changed as any other.
    pub(crate) fn check_large_pod(&self) {
        let many = |prefix: &str, more: Value| -> Vec<Value> {
            let one = |number| {
                let mut one = json!({
                    "name": format!("{prefix}{number}"), "image": "example.com/image:1",
                    "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "32Mi"}},
                });
                if more.is_string() {
                    one["restartPolicy"] = more.clone();
                }
                one
            };
            (0..20).map(one).collect()
        };
        let mut pod = pod_of(Some("kata-remote"));
        pod["spec"]["containers"] = many("c", Value::Null).into();
        pod["spec"]["initContainers"] = many("s", json!("Always")).into();
        let after = self.create("default", &pod).expect("a large pod is created");
        let annotations = &after["metadata"]["annotations"];
        assert_eq!(
            annotations["io.katacontainers.config.hypervisor.default_vcpus"],
            "20"
        );
        assert_eq!(
            annotations["io.katacontainers.config.hypervisor.default_memory"],
            "2560"
        );
        let kept = annotations["kata.peerpods.io/resources"]
            .as_str()
            .expect("resources are kept");
        assert_eq!(kept.matches("500m").count(), 40);
    }
}

/// A pod of a class that asks for a CPU.
pub(crate) fn pod_of(class: Option<&str>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "pod-"},
        "spec": {"containers": [{"name": "main", "image": "example.com/image:1", "resources": {"limits": {"cpu": "1"}}}]},
    });
    if let Some(class) = class {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    pod
}

/// Without what is different for every pod, or follows from its resources.
fn comparable(mut pod: Value) -> Value {
    if let Some(pod) = pod.as_object_mut() {
        pod.remove("status");
    }
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        for field in [
            "uid",
            "creationTimestamp",
            "managedFields",
            "namespace",
            "resourceVersion",
        ] {
            metadata.remove(field);
        }
    }
    pod
}
