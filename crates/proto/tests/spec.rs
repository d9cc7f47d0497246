//! A container's OCI spec survives the wire: the guest runs what containerd asked for.
#![allow(clippy::unwrap_used)] // A failure here fails the test.

use oci_spec::runtime::{LinuxResources, Process, Spec};
use peerpods_proto::spec::{
    process_from_wire, process_to_wire, resources_from_wire, resources_to_wire, spec_from_wire, spec_to_wire,
};
use serde_json::{Value, json};

/// What containerd's CRI plugin writes for an ordinary container, shortened where a list only repeats its kind.
fn container() -> Value {
    json!({
        "ociVersion": "1.2.1",
        "process": {
            "terminal": true,
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 0, "gid": 0, "additionalGids": [0, 10]},
            "args": ["sh", "-c", "sleep 1"],
            "env": ["PATH=/usr/bin:/bin", "EMPTY="],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"],
                "permitted": ["CAP_CHOWN"], "ambient": ["CAP_KILL"]
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512}],
            "noNewPrivileges": true,
            "apparmorProfile": "cri-containerd.apparmor.d",
            "oomScoreAdj": -997,
            "selinuxLabel": "system_u:system_r:container_t:s0:c1,c2"
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "web",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec"]},
            {"destination": "/etc/hosts", "type": "bind", "source": "/var/lib/kubelet/hosts", "options": ["rbind", "rw"]}
        ],
        "hooks": {"poststop": [{"path": "/bin/hook", "args": ["hook"], "env": ["A=b"], "timeout": 5}]},
        "annotations": {"io.kubernetes.cri.container-type": "container"},
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65_536}],
            "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65_536}],
            "sysctl": {"net.core.somaxconn": "1024"},
            "resources": {
                "devices": [
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 1, "minor": 0, "access": "rw"}
                ],
                "memory": {"limit": 134_217_728, "swap": 134_217_728},
                "cpu": {"shares": 102, "quota": 20_000, "period": 100_000, "cpus": "0-1"},
                "pids": {"limit": 100},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]
            },
            "cgroupsPath": "/kubepods/pod1/container1",
            "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/pod"}],
            "devices": [
                {"path": "/dev/zero-owner", "type": "c", "major": 0, "minor": 0, "fileMode": 438, "uid": 0, "gid": 0}
            ],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [
                    {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                    {
                        "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
                        "args": [{"index": 0, "value": 2_114_060_288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
                    }
                ]
            },
            "rootfsPropagation": "rslave",
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "mountLabel": "system_u:object_r:container_file_t:s0:c1,c2"
        }
    })
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the test's text is a valid spec")
}

#[test]
fn a_whole_spec_survives_the_wire() {
    let sent: Spec = parsed(container());
    let received = spec_from_wire(&spec_to_wire(&sent)).unwrap();
    assert_eq!(received, sent);
}

#[test]
fn root_is_a_user_and_not_the_absence_of_one() {
    let sent: Process = parsed(json!({"user": {"uid": 0, "gid": 0}, "args": ["id"], "cwd": "/"}));
    let received = process_from_wire(&process_to_wire(&sent)).unwrap();
    assert_eq!((received.user().uid(), received.user().gid()), (0, 0));

    let without_user = peerpods_proto::oci::Process {
        Cwd: "/".to_owned(),
        ..Default::default()
    };
    assert_eq!(process_from_wire(&without_user).unwrap().user().uid(), 0);
}

#[test]
fn a_device_rule_for_every_number_stays_one() {
    let sent: LinuxResources = parsed(json!({"devices": [
        {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 5, "access": "r"}
    ]}));
    let wire = resources_to_wire(&sent);
    let numbers: Vec<_> = wire.Devices.iter().map(|rule| (rule.Major, rule.Minor)).collect();
    assert_eq!(numbers, [(-1, -1), (5, -1)]);
    let received = resources_from_wire(&wire).unwrap();
    let rules = received.devices().as_ref().unwrap();
    assert_eq!(
        (rules[0].allow(), rules[0].major(), rules[0].minor()),
        (false, None, None)
    );
    assert_eq!(
        (rules[1].allow(), rules[1].major(), rules[1].minor()),
        (true, Some(5), None)
    );
}

#[test]
fn limits_that_are_not_set_stay_unset() {
    let nothing = resources_from_wire(&resources_to_wire(&LinuxResources::default())).unwrap();
    assert!(nothing.memory().is_none() && nothing.cpu().is_none() && nothing.pids().is_none());

    // A limit without end is a value.
    let sent: LinuxResources =
        parsed(json!({"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}));
    let received = resources_from_wire(&resources_to_wire(&sent)).unwrap();
    assert_eq!(received.memory().as_ref().unwrap().limit(), Some(-1));
    assert_eq!(received.cpu().as_ref().unwrap().quota(), Some(-1));
    assert_eq!(received.pids().as_ref().unwrap().limit(), -1);
}

#[test]
fn a_word_that_the_specification_does_not_know_is_named() {
    let mut wire = spec_to_wire(&parsed(container()));
    wire.Linux.mut_or_insert_default().Namespaces[0].Type = "dreams".to_owned();
    let error = spec_from_wire(&wire).unwrap_err().to_string();
    assert!(
        error.starts_with("the container's spec is not valid: ") && error.contains("dreams"),
        "{error}"
    );
}
