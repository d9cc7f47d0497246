//! Security contexts: with whose rights a container runs, and what it may not do.

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, scenario};
use serde_json::{Value, json};

fn with_context(script: &str, context: Value) -> Value {
    let mut main = container("main", script);
    main["securityContext"] = context;
    main
}

scenario!(
    users_groups_and_capabilities_are_those_of_the_security_context,
    bed,
    runtime,
    {
        let context = json!({
            "runAsNonRoot": true, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        });
        let pod = PodBuilder::new("rights", runtime, vec![with_context("sleep 1000", context)])
            .spec(
                "securityContext",
                json!({"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 2000, "supplementalGroups": [3000]}),
            )
            .spec("volumes", json!([{"name": "scratch", "emptyDir": {}}]))
            .start(bed);
        assert_eq!(pod.shell("id -u; id -g; id -G"), "1000\n1001\n1001 2000 3000");
        let status = |field: &str| pod.shell(&format!("grep {field} /proc/1/status | cut -f 2"));
        assert_eq!(status("NoNewPrivs"), "1");
        // CAP_NET_BIND_SERVICE is bit 10, for the bounding set alone: the user is not root.
        assert_eq!(status("CapBnd"), "0000000000000400");
        assert_eq!(status("CapEff"), "0000000000000000");
        let refused = pod.exec(&["touch", "/new"]);
        assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
    }
);

scenario!(a_user_who_may_not_be_root_is_not, bed, runtime, {
    let context = json!({"runAsNonRoot": true});
    let pod = PodBuilder::new("not-root", runtime, vec![with_context("sleep 1000", context)]).create(bed);
    pod.wait_status("the container is refused", |status| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    });
});

scenario!(seccomp_profiles_hold, bed, runtime, {
    // The kubelet looks for profiles below its own folder, seccomp.
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    });
    let write = format!(
        "mkdir -p /var/lib/kubelet/seccomp; echo '{profile}' > /var/lib/kubelet/seccomp/no-folders.json"
    );
    bed.enter(&["sh", "-c", &write]).text();
    let mut default = with_context(
        "sleep 1000",
        json!({"seccompProfile": {"type": "RuntimeDefault"}}),
    );
    default["name"] = json!("default");
    let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "no-folders.json"}});
    let mut local = with_context("sleep 1000", local);
    local["name"] = json!("local");
    let unconfined = json!({"seccompProfile": {"type": "Unconfined"}});
    let mut unconfined = with_context("sleep 1000", unconfined);
    unconfined["name"] = json!("unconfined");
    let pod = PodBuilder::new("seccomp", runtime, vec![default, local, unconfined]).start(bed);
    let run = |container: &str, script: &str| {
        bed.kubectl(&["exec", &pod.name, "-c", container, "--", "sh", "-c", script])
    };
    let mode = "grep Seccomp: /proc/self/status | cut -f 2";
    assert_eq!(run("unconfined", mode).text(), "0");
    assert_eq!(run("default", mode).text(), "2");
    assert_eq!(run("local", mode).text(), "2");
    assert_eq!(run("default", "mkdir /tmp/folder && echo made").text(), "made");
    let refused = run("local", "mkdir /tmp/folder");
    assert!(refused.stderr.contains("not implemented"), "{}", refused.stderr);
    // The runtime's default lets nobody make namespaces.
    let refused = run("default", "unshare -U true");
    assert!(refused.stderr.contains("not permitted"), "{}", refused.stderr);
});

scenario!(sysctls_of_the_pod_are_set_for_the_pod, bed, runtime, {
    let pod = PodBuilder::new("sysctl", runtime, vec![container("main", "sleep 1000")])
        .spec(
            "securityContext",
            json!({"sysctls": [
                {"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"},
                {"name": "kernel.shm_rmid_forced", "value": "1"},
            ]}),
        )
        .start(bed);
    let read = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    assert_eq!(pod.shell(read), "80\n1");
});

#[test]
fn a_privileged_container_is_privileged_in_its_vm_alone() {
    let bed = Bed::connect();
    let main = with_context("sleep 1000", json!({"privileged": true}));
    let pod = PodBuilder::new("privileged", Runtime::PeerPod, vec![main]).start(&bed);
    // All that the node's container runtime could give.
    let all = bed
        .enter(&["sh", "-c", "grep CapEff /proc/self/status | cut -f 2"])
        .text();
    assert_eq!(pod.shell("grep CapEff /proc/1/status | cut -f 2"), all);
    // Of its own kernel it may mount, make devices and write settings.
    let script = "mkdir /mnt; mount -t tmpfs none /mnt && echo mounted; mknod /tmp/null c 1 3 && echo hello > /tmp/null && echo made; \
                  echo 7 > /proc/sys/vm/swappiness && cat /proc/sys/vm/swappiness";
    assert_eq!(pod.shell(script), "mounted\nmade\n7");
    let node = bed.enter(&["cat", "/proc/sys/vm/swappiness"]).text();
    assert_ne!(node, "7", "the node's kernel is another");
}
