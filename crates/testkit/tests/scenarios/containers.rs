//! Kinds of containers, and what they see of each other and of the pod.

use peerpods_testkit::{PodBuilder, container, scenario};
use serde_json::json;

scenario!(init_containers_and_sidecars_run_in_their_order, bed, runtime, {
    let mount = json!([{"name": "notes", "mountPath": "/notes"}]);
    let with_notes = |name: &str, script: &str| {
        let mut one = container(name, script);
        one["volumeMounts"] = mount.clone();
        one
    };
    let first = with_notes("first", "echo first >> /notes/order");
    let mut sidecar = with_notes(
        "sidecar",
        "echo sidecar >> /notes/order; trap 'exit 0' TERM; while :; do sleep 0.1; done",
    );
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] =
        json!({"exec": {"command": ["test", "-s", "/notes/order"]}, "periodSeconds": 1});
    let last = with_notes("last", "echo last >> /notes/order");
    let main = with_notes("main", "echo main >> /notes/order; cat /notes/order");
    let pod = PodBuilder::new("order", runtime, vec![main])
        .spec("initContainers", json!([first, sidecar, last]))
        .spec("restartPolicy", json!("Never"))
        .spec("volumes", json!([{"name": "notes", "emptyDir": {}}]))
        .create(bed);
    // The sidecar does not keep the pod from its end.
    pod.wait_phase("Succeeded");
    assert_eq!(pod.logs(&["-c", "main"]).text(), "first\nsidecar\nlast\nmain");
    let status = pod.status();
    let sidecar = &status["initContainerStatuses"][1];
    assert_eq!(sidecar["state"]["terminated"]["exitCode"], 0, "{sidecar}");
});

scenario!(an_init_container_that_fails_fails_the_pod, bed, runtime, {
    let pod = PodBuilder::new("bad-init", runtime, vec![container("main", "echo never")])
        .spec(
            "initContainers",
            json!([container("init", "echo no >&2; exit 4")]),
        )
        .spec("restartPolicy", json!("Never"))
        .create(bed);
    pod.wait_phase("Failed");
    let status = pod.status();
    let init = &status["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(init["exitCode"], 4);
    assert_eq!(pod.logs(&["-c", "init"]).text(), "no");
});

scenario!(processes_are_shared_where_the_pod_says_so, bed, runtime, {
    let containers = vec![
        container("main", "exec sleep 4711"),
        container(
            "second",
            "trap 'echo told; exit 5' USR1; while :; do sleep 0.1; done",
        ),
    ];
    let pod = PodBuilder::new("processes", runtime, containers)
        .spec("shareProcessNamespace", json!(true))
        .start(bed);
    assert_ne!(pod.shell("ps | grep '[s]leep 4711' | awk '{ print $1 }'"), "1");
    // One container signals the other's process.
    pod.shell("kill -USR1 $(ps | grep '[e]cho told' | awk '{ print $1 }')");
    let status = pod.wait_status("the second container was restarted", |status| {
        status["containerStatuses"].as_array().is_some_and(|all| {
            all.iter().any(|one| {
                one["name"] == "second" && one["restartCount"].as_u64().is_some_and(|count| count > 0)
            })
        })
    });
    let second = status["containerStatuses"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "second"))
        .unwrap();
    assert_eq!(second["lastState"]["terminated"]["exitCode"], 5, "{second}");
    assert!(
        pod.shell("ps").contains("sleep 4711"),
        "the other container goes on"
    );
});

scenario!(processes_are_apart_where_it_does_not, bed, runtime, {
    let containers = vec![
        container("main", "exec sleep 4711"),
        container("second", "exec sleep 4712"),
    ];
    let pod = PodBuilder::new("apart", runtime, containers).start(bed);
    let seen = pod.shell("ps");
    assert!(
        seen.contains("1 root") && seen.contains("4711") && !seen.contains("4712"),
        "{seen}"
    );
});

scenario!(names_and_resolver_are_those_of_the_spec, bed, runtime, {
    let pod = PodBuilder::new("names", runtime, vec![container("main", "sleep 1000")])
        .spec("hostname", json!("alpha"))
        .spec("subdomain", json!("greek"))
        .spec("hostAliases", json!([{"ip": "192.0.2.7", "hostnames": ["omega", "omega.example"]}]))
        .spec("dnsPolicy", json!("None"))
        .spec(
            "dnsConfig",
            json!({"nameservers": ["192.0.2.53"], "searches": ["example.com"], "options": [{"name": "ndots", "value": "2"}]}),
        )
        .start(bed);
    assert_eq!(pod.shell("hostname"), "alpha");
    let hosts = pod.shell("cat /etc/hosts");
    assert!(hosts.contains("alpha.greek.default.svc.cluster.local"), "{hosts}");
    assert!(hosts.contains("192.0.2.7\tomega\tomega.example"), "{hosts}");
    let resolver = pod.shell("cat /etc/resolv.conf");
    assert_eq!(
        resolver,
        "search example.com\nnameserver 192.0.2.53\noptions ndots:2"
    );
});

scenario!(a_running_pod_takes_a_container_for_debugging, bed, runtime, {
    let pod = PodBuilder::new("debug", runtime, vec![container("main", "exec sleep 4711")]).start(bed);
    let image = "--image=10.250.0.1:5000/busybox:1.35";
    bed.kubectl(&[
        "debug",
        &pod.name,
        image,
        "--container=look",
        "--",
        "sh",
        "-c",
        "hostname; sleep 1000",
    ])
    .text();
    pod.wait_status("the debug container runs", |status| {
        !status["ephemeralContainerStatuses"][0]["state"]["running"].is_null()
    });
    bed.kubectl(&[
        "debug",
        &pod.name,
        image,
        "--container=join",
        "--target=main",
        "--",
        "sh",
        "-c",
        "sleep 1000",
    ])
    .text();
    pod.wait_status(
        "the one that joins another container's processes runs",
        |status| {
            status["ephemeralContainerStatuses"]
                .as_array()
                .is_some_and(|all| {
                    all.iter()
                        .any(|one| one["name"] == "join" && !one["state"]["running"].is_null())
                })
        },
    );
    assert_eq!(pod.logs(&["-c", "look"]).text(), pod.name);
    let seen = bed.kubectl(&["exec", &pod.name, "-c", "join", "--", "ps"]).text();
    assert!(seen.contains("sleep 4711"), "{seen}");
});
