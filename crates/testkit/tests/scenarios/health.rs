//! Probes, hooks, and a container's last words.

use peerpods_testkit::{PodBuilder, container, scenario};
use serde_json::{Value, json};

fn restarts(status: &Value) -> u64 {
    status["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or(0)
}

scenario!(probes_of_every_kind_see_into_the_pod, bed, runtime, {
    let script = "mkdir /www; echo fine > /www/health; touch /started; httpd -f -p 8080 -h /www";
    let mut main = container("main", script);
    main["startupProbe"] = json!({"exec": {"command": ["test", "-e", "/started"]}, "periodSeconds": 1});
    main["livenessProbe"] =
        json!({"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2});
    main["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    let pod = PodBuilder::new("probes", runtime, vec![main]).start(bed);
    assert_eq!(restarts(&pod.status()), 0);
    pod.shell("rm /www/health");
    pod.wait_status("the container was restarted by its liveness probe", |status| {
        restarts(status) > 0
    });
    assert!(pod.events().contains("Liveness probe failed"), "{}", pod.events());
    pod.wait_ready();
});

scenario!(a_grpc_probe_is_answered, bed, runtime, {
    let mut main = container("main", "");
    main["image"] = json!("10.250.0.1:5000/probe:1");
    main["command"] = json!(["/probe", "serve", "50051"]);
    main["readinessProbe"] = json!({"grpc": {"port": 50051, "service": "web"}, "periodSeconds": 1});
    let pod = PodBuilder::new("grpc", runtime, vec![main]).start(bed);
    pod.exec(&["/probe", "set", "50051", "not-serving"]).text();
    pod.wait_status("the pod is not ready any more", |status| {
        status["conditions"].as_array().is_some_and(|all| {
            all.iter()
                .any(|one| one["type"] == "Ready" && one["status"] == "False")
        })
    });
});

scenario!(a_probe_that_hangs_is_ended_and_hinders_nobody, bed, runtime, {
    let mut main = container("main", "sleep 1000");
    main["readinessProbe"] =
        json!({"exec": {"command": ["sleep", "1000"]}, "periodSeconds": 1, "timeoutSeconds": 1});
    let pod = PodBuilder::new("hang", runtime, vec![main]).create(bed);
    pod.wait_phase("Running");
    peerpods_testkit::wait_for("the probe failed", std::time::Duration::from_secs(30), || {
        let events = pod.events();
        if events.contains("Readiness probe") {
            Ok(())
        } else {
            Err(events)
        }
    });
    assert_eq!(pod.shell("echo alive"), "alive");
    let left: usize = pod.shell("ps | grep -c '[s]leep 1000'").parse().unwrap();
    assert!(left <= 4, "{left} processes of the probe are left");
});

scenario!(hooks_run_after_the_start_and_before_the_end, bed, runtime, {
    let script = "trap 'cat /notes/hook; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let mut main = container("main", script);
    main["volumeMounts"] = json!([{"name": "notes", "mountPath": "/notes"}]);
    main["lifecycle"] = json!({
        "postStart": {"exec": {"command": ["sh", "-c", "echo begun >> /notes/hook"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo ending >> /notes/hook"]}},
    });
    let pod = PodBuilder::new("hooks", runtime, vec![main])
        .spec("terminationGracePeriodSeconds", json!(30))
        .spec("volumes", json!([{"name": "notes", "emptyDir": {}}]))
        .start(bed);
    assert_eq!(pod.shell("cat /notes/hook"), "begun");
    let mut follow = bed.kubectl_in_background(&["logs", "--follow", &pod.name]);
    pod.delete();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut follow.stdout.take().expect("a pipe"), &mut text).unwrap();
    follow.wait().unwrap();
    assert_eq!(text, "ready\nbegun\nending\n");
});

scenario!(last_words_are_told_by_both_policies, bed, runtime, {
    let file = container("file", "echo the disk is full > /dev/termination-log; exit 1");
    let mut elsewhere = container("elsewhere", "echo -n by another path > /tmp/words; exit 1");
    elsewhere["terminationMessagePath"] = json!("/tmp/words");
    let mut logs = container("logs", "echo a line; echo and the last one; exit 1");
    logs["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    let pod = PodBuilder::new("words", runtime, vec![file, elsewhere, logs])
        .spec("restartPolicy", json!("Never"))
        .create(bed);
    pod.wait_phase("Failed");
    let message = |name: &str| pod.container_status(name)["state"]["terminated"]["message"].clone();
    assert_eq!(message("file"), "the disk is full\n");
    assert_eq!(message("elsewhere"), "by another path");
    assert_eq!(message("logs"), "a line\nand the last one\n");
});
