//! A container's OCI spec survives the wire: the guest runs what containerd asked for.
#![allow(clippy::unwrap_used)] // A failure here fails the test.

use std::collections::BTreeSet;

use oci_spec::runtime::{LinuxResources, Process, Spec};
use peerpods_proto::{
    oci,
    spec::{
        process_from_json, process_from_wire, resources_from_json, resources_from_wire, spec_from_json,
        spec_from_wire,
    },
};
use serde::Serialize;
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

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn spec_to_wire(spec: &Spec) -> oci::Spec {
    spec_from_json(&text(spec)).unwrap()
}

fn process_to_wire(process: &Process) -> oci::Process {
    process_from_json(&text(process)).unwrap()
}

fn resources_to_wire(resources: &LinuxResources) -> oci::LinuxResources {
    resources_from_json(&text(resources)).unwrap()
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

/// What container runtimes write, without what is peculiar to the node that they wrote it on.
const BUNDLES: [(&str, &str); 4] = [
    ("a pod's first container", include_str!("bundles/sandbox.json")),
    (
        "a container with volumes and limits",
        include_str!("bundles/container.json"),
    ),
    ("a privileged container", include_str!("bundles/privileged.json")),
    (
        "a container with seccomp and a user",
        include_str!("bundles/confined.json"),
    ),
];

#[test]
fn a_runtimes_bundle_means_the_same_with_the_specifications_types_and_without() {
    for (name, bundle) in BUNDLES {
        let typed: Spec = serde_json::from_str(bundle).unwrap();
        let direct = spec_from_json(bundle.as_bytes()).unwrap();
        assert!(
            in_order(direct.clone()) == in_order(spec_to_wire(&typed)),
            "{name}"
        );
        assert!(spec_from_wire(&direct).is_ok(), "{name}");
    }
}

/// Each member of a whole spec left out, one at a time, and made null.
#[test]
fn a_spec_without_one_of_its_members_means_the_same_with_the_specifications_types_and_without() {
    let whole = container();
    let (mut compared, mut refused) = (0, BTreeSet::new());
    for pointer in pointers(&whole) {
        for (changed, how) in [
            (without(&whole, &pointer), "without"),
            (with(&whole, &pointer, Value::Null), "null"),
        ] {
            let Ok(typed) = serde_json::from_value::<Spec>(changed.clone()) else {
                continue;
            };
            match spec_from_json(&text(&changed)) {
                Ok(direct) => {
                    let is_same = in_order(direct) == in_order(spec_to_wire(&typed));
                    assert!(is_same, "{how} {pointer}");
                    compared += 1;
                }
                Err(_) => drop(refused.insert(pointer.clone())),
            }
        }
    }
    // Without these their objects mean nothing: the specification says that they are needed, its types do not insist.
    let needed = [
        "/linux/devices/0/path",
        "/linux/resources/hugepageLimits/0/pageSize",
        "/ociVersion",
    ];
    assert_eq!(refused, needed.map(str::to_owned).into());
    assert!(compared > 100, "only {compared} were compared");
}

#[test]
fn a_member_of_the_wrong_kind_is_named() {
    let whole = container();
    for (pointer, value, named) in [
        ("/process/args/1", json!(5), "process.args is not a list of texts"),
        (
            "/process/user/uid",
            json!(-1),
            "process.user.uid is not a whole number of 32 bits",
        ),
        (
            "/process/oomScoreAdj",
            json!(1.5),
            "process.oomScoreAdj is not a whole number",
        ),
        (
            "/mounts/1/destination",
            json!(""),
            "mounts[1].destination is not a text that is not empty",
        ),
        ("/mounts/0", json!("proc"), "mounts[0] is not an object"),
        (
            "/annotations",
            json!({"a": 1}),
            "annotations is not an object of texts",
        ),
        (
            "/linux/resources/memory",
            json!([]),
            "linux.resources.memory is not an object",
        ),
        (
            "/linux/resources/memory/limit",
            json!("1Gi"),
            "linux.resources.memory.limit is not a whole number",
        ),
        (
            "/linux/resources/devices/0/allow",
            json!("yes"),
            "linux.resources.devices[0].allow is not true or false",
        ),
        (
            "/linux/namespaces/0/type",
            json!(null),
            "linux.namespaces[0].type is not a text that is not empty",
        ),
        (
            "/linux/seccomp/syscalls/1/errnoRet",
            json!(-38),
            "linux.seccomp.syscalls[1].errnoRet is not a whole number of 32 bits",
        ),
    ] {
        let error = spec_from_json(&text(&with(&whole, pointer, value))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the container's spec is not valid: {named}")
        );
    }
    for nothing in ["", "{", "[]", "{}", "null", "\"spec\""] {
        assert!(spec_from_json(nothing.as_bytes()).is_err(), "{nothing}");
    }
}

/// The specification's types keep capabilities in no order, in which they are no list but a set.
fn in_order(mut spec: oci::Spec) -> oci::Spec {
    if let Some(sets) = spec
        .Process
        .as_mut()
        .and_then(|process| process.Capabilities.as_mut())
    {
        for set in [
            &mut sets.Bounding,
            &mut sets.Effective,
            &mut sets.Inheritable,
            &mut sets.Permitted,
            &mut sets.Ambient,
        ] {
            set.sort();
        }
    }
    spec
}

/// The JSON pointers of all members, outermost first.
fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    children
        .into_iter()
        .flat_map(|(key, child)| {
            let inner = pointers(child)
                .into_iter()
                .map(|inner| format!("/{key}{inner}"))
                .collect::<Vec<_>>();
            std::iter::once(format!("/{key}")).chain(inner)
        })
        .collect()
}

fn with(whole: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = whole.clone();
    *changed.pointer_mut(pointer).unwrap() = value;
    changed
}

fn without(whole: &Value, pointer: &str) -> Value {
    let mut changed = whole.clone();
    let (outer, key) = pointer.rsplit_once('/').unwrap();
    match changed.pointer_mut(outer).unwrap() {
        Value::Object(members) => drop(members.remove(&key.replace("~1", "/").replace("~0", "~"))),
        Value::Array(items) => drop(items.remove(key.parse().unwrap())),
        _ => unreachable!("only objects and arrays have members"),
    }
    changed
}
