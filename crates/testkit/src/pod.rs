//! Pods of a scenario: made, waited for, looked into, and gone at its end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Bed, Output, Runtime, wait_for};

/// The image of all scenarios, in the test bed's registry.
pub(crate) const IMAGE: &str = "10.250.0.1:5000/busybox:1.35";

/// A VM under emulation boots in seconds; a machine busy with other work takes several times that.
const START_LIMIT: Duration = Duration::from_secs(90);

/// The grace periods of the scenarios are short; the rest is the runtime's own.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A container that runs a shell script.
pub fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "command": ["sh", "-c", script]})
}

/// A pod about to be made.
pub struct PodBuilder {
    name: String,
    object: Value,
}

impl PodBuilder {
    /// A pod of `containers` under `runtime`; its name ends in the runtime's.
    pub fn new(name: &str, runtime: Runtime, containers: Vec<Value>) -> Self {
        let name = format!("{name}-{}", runtime.suffix());
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": containers, "terminationGracePeriodSeconds": 2},
        });
        if let Some(class) = runtime.class() {
            object["spec"]["runtimeClassName"] = json!(class);
        }
        Self { name, object }
    }

    /// Sets a field of the spec.
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.object["spec"][field] = value;
        self
    }

    /// Adds an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.object["metadata"]["annotations"][key] = json!(value);
        self
    }

    /// Makes the pod and does not wait for it.
    #[track_caller]
    pub fn create(self, bed: &Bed) -> Pod<'_> {
        bed.kubectl(&["delete", "pod", &self.name, "--ignore-not-found", "--now"])
            .text();
        match self.try_create(bed) {
            Ok(pod) => pod,
            Err(why) => panic!("{why}"),
        }
    }

    /// Tries to make the pod, and gives the words with which the API server refuses it.
    pub fn try_create<'bed>(&self, bed: &'bed Bed) -> Result<Pod<'bed>, String> {
        let output = bed.kubectl_with_input(&["apply", "-f", "-"], &self.object.to_string());
        match output.code {
            0 => Ok(Pod {
                bed,
                name: self.name.clone(),
            }),
            _ => Err(output.stderr),
        }
    }

    /// Makes a pod that the API server refuses, and gives its words.
    #[track_caller]
    pub fn refused(self, bed: &Bed) -> String {
        match self.try_create(bed) {
            Ok(pod) => panic!("{} is not refused", pod.name),
            Err(why) => why,
        }
    }

    /// Makes the pod and waits until it is ready.
    #[track_caller]
    pub fn start(self, bed: &Bed) -> Pod<'_> {
        let pod = self.create(bed);
        pod.wait_ready();
        pod
    }
}

/// A pod of a scenario; deleted when it goes out of scope.
pub struct Pod<'bed> {
    bed: &'bed Bed,
    /// The pod's name.
    pub name: String,
}

impl Pod<'_> {
    /// Waits until the pod is ready.
    #[track_caller]
    pub fn wait_ready(&self) {
        self.wait_ready_within(START_LIMIT);
    }

    /// Waits until the pod is ready, where that takes longer than with other pods.
    #[track_caller]
    pub fn wait_ready_within(&self, limit: Duration) {
        self.wait_status_within("the pod is ready", limit, |status| {
            status["conditions"].as_array().is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == "Ready" && one["status"] == "True")
            })
        });
    }

    /// Waits until the pod's phase is `phase`.
    #[track_caller]
    pub fn wait_phase(&self, phase: &str) {
        self.wait_status(&format!("the pod's phase is {phase}"), |status| {
            status["phase"] == phase
        });
    }

    /// Waits until the pod's status satisfies `condition`; a failure shows status and events.
    #[track_caller]
    pub fn wait_status(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.wait_status_within(what, START_LIMIT, condition)
    }

    #[track_caller]
    fn wait_status_within(&self, what: &str, limit: Duration, condition: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("{what} ({})", self.name), limit, || {
            let status = self.status();
            if condition(&status) {
                Ok(status)
            } else {
                Err(format!("{status:#}\n{}", self.events()))
            }
        })
    }

    /// The pod's status now.
    pub fn status(&self) -> Value {
        self.bed
            .get("pod", &self.name)
            .map_or(Value::Null, |mut pod| pod["status"].take())
    }

    /// The pod's address.
    pub fn address(&self) -> String {
        self.status()["podIP"]
            .as_str()
            .expect("a ready pod has an address")
            .to_owned()
    }

    /// The process of the peer pod's shim, on the node.
    #[track_caller]
    pub fn shim(&self) -> String {
        let script = format!(
            "sed 's/.*\"sandbox\": *\"\\([^\"]*\\)\".*/\\1/' $(grep -l -a '\"{}\"' /run/peerpod/instances/*/record.json)",
            self.name
        );
        let sandbox = self.bed.enter(&["sh", "-c", &script]).text();
        let pattern = format!("[c]ontainerd-shim-kata-v2.*{sandbox}");
        self.bed.enter(&["pgrep", "--full", &pattern]).text()
    }

    /// The status of the container `name`.
    pub fn container_status(&self, name: &str) -> Value {
        find_container(&self.status(), name)
    }

    /// All events of the pod.
    pub fn events(&self) -> String {
        self.bed.events(&self.name)
    }

    /// `kubectl logs POD ARGS…`
    pub fn logs(&self, arguments: &[&str]) -> Output {
        self.bed.kubectl(&[&["logs", &self.name], arguments].concat())
    }

    /// `kubectl exec POD -- COMMAND…`
    pub fn exec(&self, command: &[&str]) -> Output {
        self.bed.kubectl(&[&["exec", &self.name, "--"], command].concat())
    }

    /// `kubectl exec POD -- sh -c SCRIPT`, its output.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.exec(&["sh", "-c", script]).text()
    }

    /// `kubectl exec -i POD -- COMMAND… < INPUT`
    pub fn exec_with_input(&self, command: &[&str], input: &str) -> Output {
        self.bed
            .kubectl_with_input(&[&["exec", "-i", &self.name, "--"], command].concat(), input)
    }

    /// Deletes the pod as a user does, and waits until it is gone.
    #[track_caller]
    pub fn delete(self) {
        self.bed
            .kubectl(&["delete", "pod", &self.name, "--timeout", "60s"])
            .text();
        wait_for("the pod is gone", END_LIMIT, || {
            match self.bed.get("pod", &self.name) {
                None => Ok(()),
                Some(pod) => Err(pod.to_string()),
            }
        });
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {:#}\n{}", self.name, self.status(), self.events());
        }
        self.bed.kubectl(&[
            "delete",
            "pod",
            &self.name,
            "--ignore-not-found",
            "--now",
            "--wait=false",
        ]);
    }
}

/// The status of the container `name` within a pod's status.
fn find_container(status: &Value, name: &str) -> Value {
    status["containerStatuses"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == name))
        .cloned()
        .unwrap_or(Value::Null)
}
