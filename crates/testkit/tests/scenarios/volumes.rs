//! Volumes: what a pod finds in them, with whose rights, and how it follows what changes.

use std::time::Duration;

use peerpods_testkit::{Bed, Pod, PodBuilder, container, scenario, wait_for};
use serde_json::{Value, json};

/// The kubelet looks for changes every ten seconds in the test bed, and at its cache of them as often.
const UPDATE_LIMIT: Duration = Duration::from_secs(90);

fn with_mounts(script: &str, mounts: Value) -> Value {
    let mut main = container("main", script);
    main["volumeMounts"] = mounts;
    main
}

fn apply_config(bed: &Bed, name: &str, data: &Value) {
    bed.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}));
}

/// Waits until a script in the pod prints `expected`.
#[track_caller]
fn wait_shell(pod: &Pod<'_>, script: &str, expected: &str) {
    wait_for(&format!("`{script}` prints {expected:?}"), UPDATE_LIMIT, || {
        let output = pod.exec(&["sh", "-c", script]);
        let printed = output.stdout.trim_end();
        if printed == expected {
            Ok(())
        } else {
            Err(format!("{printed:?} {}", output.stderr))
        }
    });
}

scenario!(
    configuration_has_its_modes_and_owners_and_follows_changes,
    bed,
    runtime,
    {
        let name = format!("settings-{}", runtime.suffix());
        bed.kubectl(&["delete", "configmap", &name, "--ignore-not-found"])
            .text();
        bed.kubectl(&["delete", "secret", &name, "--ignore-not-found"])
            .text();
        apply_config(
            bed,
            &name,
            &json!({"color": "red", "shape": "round", "taste": "sour"}),
        );
        bed.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": "xyzzy"},
        }));
        let mounts = json!([
            {"name": "config", "mountPath": "/config"},
            {"name": "secret", "mountPath": "/secret", "readOnly": true},
            {"name": "all", "mountPath": "/all"},
            {"name": "config", "mountPath": "/one/color", "subPath": "color"},
        ]);
        let mut watching = with_mounts("exec /probe watch /config", mounts);
        watching["image"] = json!("10.250.0.1:5000/probe:1");
        let pod = PodBuilder::new("config", runtime, vec![watching])
            .spec("securityContext", json!({"fsGroup": 2000}))
            .spec(
                "volumes",
                json!([
                    {"name": "config", "configMap": {"name": name, "defaultMode": 0o440}},
                    {"name": "secret", "secret": {"secretName": name, "items": [
                        {"key": "password", "path": "deep/down/password", "mode": 0o400},
                    ]}},
                    {"name": "all", "projected": {"sources": [
                        {"configMap": {"name": name, "items": [{"key": "shape", "path": "shape"}]}},
                        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                        {"serviceAccountToken": {"path": "token", "audience": "tests", "expirationSeconds": 3600}},
                    ]}},
                ]),
            )
            .start(bed);
        assert_eq!(pod.shell("cat /config/color /one/color"), "redred");
        assert_eq!(pod.shell("cat /secret/deep/down/password"), "xyzzy");
        assert_eq!(pod.shell("stat -L -c '%a %u:%g' /config/color"), "440 0:2000");
        assert_eq!(
            pod.shell("stat -L -c '%a %u:%g' /secret/deep/down/password"),
            "440 0:2000"
        );
        assert_eq!(pod.shell("readlink /config/color"), "..data/color");
        assert_eq!(pod.shell("stat -c '%a %u:%g' /config"), "2777 0:2000");
        assert_eq!(pod.shell("cat /all/labels"), format!("app=\"{}\"", pod.name));
        assert_eq!(pod.shell("cat /all/shape; head -c 3 /all/token"), "roundeyJ");
        let refused = pod.exec(&["touch", "/secret/new"]);
        assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);

        // One key changes, one goes, one comes; what is mounted as a sub-path stays as it was.
        bed.kubectl(&["delete", "configmap", &name]).text();
        apply_config(
            bed,
            &name,
            &json!({"color": "blue", "shape": "round", "size": "large"}),
        );
        bed.kubectl(&["label", "pod", &pod.name, "mood=sunny"]).text();
        wait_shell(
            &pod,
            "cat /config/color /config/size; ls /config",
            "bluelargecolor\nshape\nsize",
        );
        assert_eq!(pod.shell("cat /one/color"), "red");
        wait_shell(&pod, "grep mood /all/labels", "mood=\"sunny\"");
        assert_eq!(
            pod.shell("ls -a /config | grep -c '^\\.\\.20'"),
            "1",
            "an old version is left"
        );
        let seen = pod.logs(&[]).text();
        assert!(
            seen.contains("..data"),
            "inotify saw nothing of the change: {seen}"
        );
    }
);

scenario!(
    empty_dirs_are_shared_bounded_and_have_the_pods_group,
    bed,
    runtime,
    {
        let mounts = json!([
            {"name": "disk", "mountPath": "/disk"},
            {"name": "memory", "mountPath": "/memory"},
            {"name": "disk", "mountPath": "/part", "subPath": "some/part"},
        ]);
        let read_only = json!([
            {"name": "disk", "mountPath": "/disk", "readOnly": true},
            {"name": "memory", "mountPath": "/memory"},
        ]);
        let first = with_mounts("sleep 1000", mounts);
        let mut second = with_mounts("sleep 1000", read_only);
        second["name"] = json!("second");
        let pod = PodBuilder::new("scratch", runtime, vec![first, second])
            .spec(
                "securityContext",
                json!({"fsGroup": 2000, "runAsUser": 1000, "runAsGroup": 1000}),
            )
            .spec(
                "volumes",
                json!([
                    {"name": "disk", "emptyDir": {}},
                    {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
                ]),
            )
            .start(bed);
        let in_second =
            |script: &str| bed.kubectl(&["exec", &pod.name, "-c", "second", "--", "sh", "-c", script]);
        pod.shell("echo shared > /disk/file; echo deep > /part/file; echo fast > /memory/file");
        assert_eq!(
            in_second("cat /disk/file /disk/some/part/file /memory/file").text(),
            "shared\ndeep\nfast"
        );
        // The group and its bit come from the volume: a new file has the pod's group.
        assert_eq!(pod.shell("stat -c '%a %g' /disk /memory"), "2777 2000\n3777 2000");
        assert_eq!(
            pod.shell("stat -c '%u:%g' /disk/file /memory/file"),
            "1000:2000\n1000:2000"
        );
        let refused = in_second("touch /disk/new");
        assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
        assert_eq!(pod.shell("stat -f -c %T /memory"), "tmpfs");
        let full = pod.exec(&["dd", "if=/dev/zero", "of=/memory/big", "bs=1M", "count=16"]);
        assert!(full.stderr.contains("No space left"), "{}", full.stderr);
    }
);

scenario!(
    shared_memory_is_shared_by_the_containers_of_the_pod,
    bed,
    runtime,
    {
        let containers = vec![container("main", "sleep 1000"), container("second", "sleep 1000")];
        let pod = PodBuilder::new("shm", runtime, containers).start(bed);
        pod.shell("echo shared > /dev/shm/file");
        let seen = bed.kubectl(&["exec", &pod.name, "-c", "second", "--", "cat", "/dev/shm/file"]);
        assert_eq!(seen.text(), "shared");
        assert_eq!(pod.shell("df -k /dev/shm | awk 'END { print $2 }'"), "65536");
    }
);
