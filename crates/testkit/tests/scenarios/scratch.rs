//! What containers write: on a disk of the VM, and not in its memory.

use std::time::Duration;

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, scenario, wait_for};
use serde_json::{Value, json};

/// A container starts again a second or so after its end.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

fn with_mounts(script: &str, mounts: Value) -> Value {
    let mut main = container("main", script);
    main["volumeMounts"] = mounts;
    main
}

scenario!(
    a_container_writes_more_than_its_memory_limit_and_lives,
    bed,
    runtime,
    {
        let mut main = with_mounts("sleep 1000", json!([{"name": "disk", "mountPath": "/disk"}]));
        main["resources"] = json!({"limits": {"memory": "64Mi"}, "requests": {"memory": "16Mi"}});
        let pod = PodBuilder::new("writes", runtime, vec![main])
            .spec("volumes", json!([{"name": "disk", "emptyDir": {}}]))
            .start(bed);
        for file in ["/big", "/disk/big"] {
            pod.shell(&format!("dd if=/dev/zero of={file} bs=1M count=300 2>/dev/null"));
            assert_eq!(pod.shell(&format!("stat -c %s {file}")), "314572800");
        }
        assert_eq!(pod.container_status("main")["restartCount"], 0);
    }
);

#[test]
fn a_pod_has_a_disk_and_its_configuration_is_not_on_it() {
    let bed = Bed::connect();
    let name = "kept-in-memory";
    bed.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": "xyzzy"},
    }));
    let mounts = json!([
        {"name": "disk", "mountPath": "/disk"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "secret", "mountPath": "/secret"},
    ]);
    let pod = PodBuilder::new("disk", Runtime::PeerPod, vec![with_mounts("sleep 1000", mounts)])
        .spec(
            "volumes",
            json!([
                {"name": "disk", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
                {"name": "secret", "secret": {"secretName": name}},
            ]),
        )
        .start(&bed);
    // Half of the disk's 8 GiB is more than there is of memory in any VM of these tests.
    let size = |path: &str| {
        pod.shell(&format!("df -m {path} | awk 'END {{ print $2 }}'"))
            .parse::<u64>()
            .unwrap()
    };
    assert!(size("/") > 4096 && size("/disk") > 4096);
    assert_eq!(pod.shell("stat -f -c %T /disk"), "ext2/ext3");
    for path in [
        "/memory",
        "/secret/password",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
    ] {
        assert_eq!(pod.shell(&format!("stat -f -c %T {path}")), "tmpfs", "{path}");
    }
}

#[test]
fn no_container_opens_the_disk_under_its_files() {
    let bed = Bed::connect();
    let mut privileged = container("privileged", "sleep 1000");
    privileged["securityContext"] = json!({"privileged": true});
    let containers = vec![container("main", "sleep 1000"), privileged];
    let pod = PodBuilder::new("raw-disk", Runtime::PeerPod, containers).start(&bed);
    let script = "disk=$(cat /sys/block/vda/dev); rm -f /node; \
                  mknod /node b ${disk%:*} ${disk#*:} && head -c 1 /node";
    for name in ["main", "privileged"] {
        let refused = bed.kubectl(&["exec", &pod.name, "-c", name, "--", "sh", "-c", script]);
        assert!(
            refused.stderr.contains("not permitted"),
            "{name}: {} {}",
            refused.stdout,
            refused.stderr
        );
        // Other devices are as ever.
        let other = "mknod /null c 1 3 && echo gone > /null && cat /null";
        let allowed = bed.kubectl(&["exec", &pod.name, "-c", name, "--", "sh", "-c", other]);
        assert_eq!(allowed.text(), "");
    }
}

#[test]
fn a_container_that_starts_again_leaves_the_pods_disk_as_it_was() {
    let bed = Bed::connect();
    let script =
        "[ -e /disk/again ] && exec sleep 1000; touch /disk/again; dd if=/dev/zero of=/big bs=1M count=100";
    let main = with_mounts(script, json!([{"name": "disk", "mountPath": "/disk"}]));
    let pod = PodBuilder::new("again", Runtime::PeerPod, vec![main])
        .spec("volumes", json!([{"name": "disk", "emptyDir": {}}]))
        .create(&bed);
    wait_for("the container runs again", RESTART_LIMIT * 2, || {
        let main = pod.container_status("main");
        if main["restartCount"] == 1 && !main["state"]["running"].is_null() {
            Ok(())
        } else {
            Err(main.to_string())
        }
    });
    let used: u64 = pod.shell("df -m /disk | awk 'END { print $3 }'").parse().unwrap();
    assert!(used < 50, "{used} MiB are in use");
}

/// As the webhook leaves a pod: the runtime is not told what the pod says of its volumes. Where the kubelet would evict the
/// pod some time after, a write beyond the limit fails at once.
#[test]
fn an_empty_dir_on_disk_is_no_larger_than_its_limit() {
    let bed = Bed::connect();
    let mounts = json!([
        {"name": "small", "mountPath": "/small"},
        {"name": "large", "mountPath": "/large"},
        {"name": "small", "mountPath": "/part", "subPath": "part"},
    ]);
    let pod = PodBuilder::new(
        "limited",
        Runtime::PeerPod,
        vec![with_mounts("sleep 1000", mounts)],
    )
    .annotation("kata.peerpods.io/volumes", r#"{"small":"16Mi"}"#)
    .spec(
        "volumes",
        json!([{"name": "small", "emptyDir": {"sizeLimit": "16Mi"}}, {"name": "large", "emptyDir": {}}]),
    )
    .start(&bed);
    assert_eq!(pod.shell("df -m /small | awk 'END { print $2 }'"), "16");
    let write = |path: &str, mebibytes: u32| {
        pod.exec(&[
            "sh",
            "-c",
            &format!("dd if=/dev/zero of={path} bs=1M count={mebibytes}"),
        ])
    };
    assert_eq!(write("/small/fits", 8).code, 0);
    let refused = write("/small/more", 16);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("quota exceeded"), "{}", refused.stderr);
    pod.shell("rm /small/more");
    // A part of the volume is of the volume's size, and the limit of one is not another's.
    assert_ne!(write("/part/more", 16).code, 0);
    assert_eq!(write("/large/more", 32).code, 0);
    pod.shell("rm /part/more /small/fits");
    assert_eq!(write("/part/more", 12).code, 0);
}
