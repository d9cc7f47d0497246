//! What makes pods, making peer pods.

use std::time::Duration;

use peerpods_testkit::{Bed, wait_for};
use serde_json::{Value, json};

const IMAGE: &str = "10.250.0.1:5000/busybox:1.35";
const LIMIT: Duration = Duration::from_secs(120);

fn template(app: &str, script: &str, restart: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {
            "runtimeClassName": "kata-remote", "restartPolicy": restart, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", script]}],
        },
    })
}

/// An object that is deleted with its pods at the end of a test.
struct Owned<'bed> {
    bed: &'bed Bed,
    kind: &'static str,
    name: String,
}

impl<'bed> Owned<'bed> {
    fn make(bed: &'bed Bed, kind: &'static str, version: &str, name: &str, spec: Value) -> Self {
        bed.apply(&json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}));
        let name = name.to_owned();
        Self { bed, kind, name }
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        wait_for(&format!("{} {}: {what}", self.kind, self.name), LIMIT, || {
            let object = self.bed.get(self.kind, &self.name).unwrap_or(Value::Null);
            if condition(&object["status"]) {
                Ok(())
            } else {
                Err(format!("{:#}", object["status"]))
            }
        });
    }

    fn pods(&self) -> Vec<String> {
        let selector = format!("app={}", self.name);
        let output = self.bed.kubectl(&[
            "get",
            "pods",
            "-l",
            &selector,
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ]);
        output.text().split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        self.bed.kubectl(&[
            "delete",
            self.kind,
            &self.name,
            "--wait=false",
            "--cascade=foreground",
        ]);
    }
}

#[test]
fn a_job_of_peer_pods_completes() {
    let bed = Bed::connect();
    let spec = json!({"completions": 2, "parallelism": 2, "template": template("job", "echo done", "Never")});
    let job = Owned::make(&bed, "Job", "batch/v1", "job", spec);
    job.wait("two pods succeeded", |status| status["succeeded"] == 2);
    let pod = &job.pods()[0];
    assert_eq!(bed.kubectl(&["logs", pod]).text(), "done");
}

#[test]
fn a_cron_job_makes_peer_pods() {
    let bed = Bed::connect();
    let spec = json!({
        "schedule": "0 0 1 1 *",
        "jobTemplate": {"spec": {"template": template("cron", "exit 0", "OnFailure")}},
    });
    let _cron = Owned::make(&bed, "CronJob", "batch/v1", "cron", spec);
    bed.kubectl(&["delete", "job", "cron-now", "--ignore-not-found"])
        .text();
    bed.kubectl(&["create", "job", "cron-now", "--from=cronjob/cron"])
        .text();
    wait_for("the job completes", LIMIT, || {
        let job = bed.get("job", "cron-now").unwrap_or(Value::Null);
        if job["status"]["succeeded"] == 1 {
            Ok(())
        } else {
            Err(format!("{:#}", job["status"]))
        }
    });
    bed.kubectl(&["delete", "job", "cron-now"]).text();
}

#[test]
fn a_deployment_is_updated_to_new_peer_pods() {
    let bed = Bed::connect();
    let spec = |script: &str| {
        json!({
            "replicas": 1, "selector": {"matchLabels": {"app": "rolling"}},
            "template": template("rolling", script, "Always"),
        })
    };
    let deployment = Owned::make(&bed, "Deployment", "apps/v1", "rolling", spec("sleep 1000"));
    deployment.wait("it is available", |status| status["availableReplicas"] == 1);
    let before = deployment.pods();
    bed.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "rolling"}, "spec": spec("sleep 2000"),
    }));
    let status = bed.kubectl(&["rollout", "status", "deployment/rolling", "--timeout=120s"]);
    assert!(status.text().contains("successfully rolled out"));
    let after = deployment.pods();
    assert!(
        after.iter().any(|pod| !before.contains(pod)),
        "{before:?} {after:?}"
    );
}

#[test]
fn a_stateful_set_keeps_the_names_of_its_peer_pods() {
    let bed = Bed::connect();
    let spec = json!({
        "replicas": 1, "serviceName": "state", "selector": {"matchLabels": {"app": "state"}},
        "template": template("state", "sleep 1000", "Always"),
    });
    let set = Owned::make(&bed, "StatefulSet", "apps/v1", "state", spec);
    set.wait("it is available", |status| status["availableReplicas"] == 1);
    let first = bed.get("pod", "state-0").expect("the pod has its name")["metadata"]["uid"].clone();
    bed.kubectl(&["delete", "pod", "state-0"]).text();
    wait_for("another pod has its name", LIMIT, || {
        match bed
            .get("pod", "state-0")
            .map(|pod| pod["metadata"]["uid"].clone())
        {
            Some(uid) if uid != first => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    set.wait("it is available again", |status| status["availableReplicas"] == 1);
    assert_eq!(
        bed.kubectl(&["exec", "state-0", "--", "hostname"]).text(),
        "state-0"
    );
}

#[test]
fn a_daemon_set_runs_a_peer_pod_per_node() {
    let bed = Bed::connect();
    let spec = json!({
        "selector": {"matchLabels": {"app": "everywhere"}},
        "template": template("everywhere", "sleep 1000", "Always"),
    });
    let set = Owned::make(&bed, "DaemonSet", "apps/v1", "everywhere", spec);
    set.wait("it is ready on the node", |status| {
        status["numberReady"] == 1 && status["desiredNumberScheduled"] == 1
    });
}
