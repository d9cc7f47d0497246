//! Limits, what happens at them, and figures of what a pod uses.

use std::time::Duration;

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, scenario, wait_for};
use serde_json::{Value, json};

/// The kubelet measures every ten seconds.
const FIGURES_LIMIT: Duration = Duration::from_secs(60);

fn with_limits(name: &str, script: &str, limits: Value) -> Value {
    let mut one = container(name, script);
    one["resources"] = json!({"limits": limits, "requests": {"cpu": "10m", "memory": "16Mi"}});
    one
}

scenario!(
    memory_beyond_the_limit_ends_the_container_as_oom_killed,
    bed,
    runtime,
    {
        // The shell itself holds the memory.
        let script = "x=a; while :; do x=$x$x; done";
        let pod = PodBuilder::new(
            "greedy",
            runtime,
            vec![with_limits("main", script, json!({"memory": "32Mi"}))],
        )
        .spec("restartPolicy", json!("Never"))
        .create(bed);
        pod.wait_phase("Failed");
        let ended = &pod.container_status("main")["state"]["terminated"];
        assert_eq!(
            (&ended["reason"], &ended["exitCode"]),
            (&json!("OOMKilled"), &json!(137))
        );
    }
);

scenario!(a_killed_child_leaves_its_container_running, bed, runtime, {
    let script = "sleep 1000";
    let pod = PodBuilder::new(
        "child",
        runtime,
        vec![with_limits("main", script, json!({"memory": "48Mi"}))],
    )
    .start(bed);
    let killed = pod.exec(&["sh", "-c", "x=a; while :; do x=$x$x; done"]);
    assert_eq!(killed.code, 137, "{}", killed.stderr);
    assert_eq!(pod.shell("echo alive"), "alive");
});

#[test]
fn limits_are_those_of_the_containers_in_the_vm() {
    let bed = Bed::connect();
    let limits = json!({"memory": "64Mi", "cpu": "500m"});
    let pod = PodBuilder::new(
        "limits",
        Runtime::PeerPod,
        vec![
            with_limits("main", "sleep 1000", limits),
            container("second", "sleep 1000"),
        ],
    )
    .start(&bed);
    assert_eq!(pod.shell("cat /sys/fs/cgroup/memory.max"), "67108864");
    assert_eq!(pod.shell("cat /sys/fs/cgroup/cpu.max"), "50000 100000");
    let second = bed.kubectl(&[
        "exec",
        &pod.name,
        "-c",
        "second",
        "--",
        "cat",
        "/sys/fs/cgroup/memory.max",
    ]);
    assert_eq!(second.text(), "max");
}

/// As the webhook leaves a pod: no resources, and what they were in an annotation.
fn after_admission(name: &str, script: &str, own: &Value) -> PodBuilder {
    let annotation = json!({"containers": {"main": own}}).to_string();
    let containers = vec![container("main", script), container("second", "sleep 1000")];
    PodBuilder::new(name, Runtime::PeerPod, containers).annotation("kata.peerpods.io/resources", &annotation)
}

#[test]
fn limits_that_admission_kept_hold_in_the_vm() {
    let bed = Bed::connect();
    let own = json!({"limits": {"memory": "64Mi", "cpu": "1500m"}, "requests": {"cpu": "500m"}});
    let pod = after_admission("kept", "sleep 1000", &own).start(&bed);
    assert_eq!(pod.shell("cat /sys/fs/cgroup/memory.max"), "67108864");
    assert_eq!(pod.shell("cat /sys/fs/cgroup/cpu.max"), "150000 100000");
    let second = [
        "exec",
        &pod.name,
        "-c",
        "second",
        "--",
        "cat",
        "/sys/fs/cgroup/memory.max",
    ];
    assert_eq!(bed.kubectl(&second).text(), "max");
}

#[test]
fn memory_beyond_a_limit_that_admission_kept_is_an_oom_kill() {
    let bed = Bed::connect();
    let script = "x=a; while :; do x=$x$x; done";
    let pod = after_admission("kept-greedy", script, &json!({"limits": {"memory": "32Mi"}}))
        .spec("restartPolicy", json!("Never"))
        .create(&bed);
    let ended = pod.wait_status("the container has ended", |status| {
        let all = status["containerStatuses"].as_array().into_iter().flatten();
        all.into_iter()
            .any(|one| one["state"]["terminated"]["reason"] == "OOMKilled")
    });
    assert!(ended.to_string().contains("\"exitCode\":137"), "{ended:#}");
}

#[test]
fn an_annotation_that_cannot_be_read_is_refused_by_admission() {
    let bed = Bed::connect();
    let refusal = PodBuilder::new(
        "kept-broken",
        Runtime::PeerPod,
        vec![container("main", "sleep 1000")],
    )
    .annotation("kata.peerpods.io/resources", "cpu=2")
    .refused(&bed);
    assert!(
        refusal.contains("annotation kata.peerpods.io/resources is not valid"),
        "{refusal}"
    );
}

#[test]
fn the_vm_rests_on_little_memory() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("rest", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    let script = "awk '/^MemTotal/ { total = $2 } /^MemAvailable/ { free = $2 } END { print total - free }' /proc/meminfo";
    let used: u64 = pod.shell(script).parse().unwrap();
    assert!(
        used <= 128 * 1024,
        "the VM uses {used} KiB with one idle container"
    );
}

scenario!(the_summary_shows_what_containers_use, bed, runtime, {
    let script = "while :; do :; done";
    let pod = PodBuilder::new("busy", runtime, vec![container("main", script)]).start(bed);
    wait_for("the summary has the container's figures", FIGURES_LIMIT, || {
        let summary = bed
            .kubectl(&["get", "--raw", "/api/v1/nodes/lab-node/proxy/stats/summary"])
            .text();
        let summary: Value = serde_json::from_str(&summary).expect("the summary is JSON");
        let find = |all: &Value, name: &str, of: fn(&Value) -> &Value| {
            all.as_array()
                .and_then(|all| all.iter().find(|one| of(one) == name))
                .cloned()
                .unwrap_or(Value::Null)
        };
        let of_pod = find(&summary["pods"], &pod.name, |pod| &pod["podRef"]["name"]);
        let main = find(&of_pod["containers"], "main", |container| &container["name"]);
        let cpu = main["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap_or(0);
        let memory = main["memory"]["workingSetBytes"].as_u64().unwrap_or(0);
        if cpu > 100_000_000 && memory > 4096 {
            Ok(())
        } else {
            Err(format!("{of_pod:#}"))
        }
    });
});
