//! From the wire to the specification's JSON: the Linux section.

use serde_json::{Value, json};

use super::without_unset;
use crate::oci;

pub(super) fn linux(wire: &oci::Linux) -> Value {
    let mappings = |mappings: &[oci::LinuxIDMapping]| {
        mappings
            .iter()
            .map(|mapping| {
                json!({"hostID": mapping.HostID, "containerID": mapping.ContainerID, "size": mapping.Size})
            })
            .collect::<Vec<_>>()
    };
    let namespaces = wire.Namespaces.iter();
    without_unset(json!({
        "uidMappings": mappings(&wire.UIDMappings),
        "gidMappings": mappings(&wire.GIDMappings),
        "sysctl": wire.Sysctl,
        "resources": wire.Resources.as_ref().map(resources),
        "cgroupsPath": wire.CgroupsPath,
        "namespaces": namespaces.map(|namespace| {
            without_unset(json!({"type": namespace.Type, "path": namespace.Path}))
        }).collect::<Vec<_>>(),
        "devices": wire.Devices.iter().map(device).collect::<Vec<_>>(),
        "seccomp": wire.Seccomp.as_ref().map(seccomp),
        "rootfsPropagation": wire.RootfsPropagation,
        "maskedPaths": wire.MaskedPaths,
        "readonlyPaths": wire.ReadonlyPaths,
        "mountLabel": wire.MountLabel,
    }))
}

/// A device's numbers and owner may be zero.
fn device(wire: &oci::LinuxDevice) -> Value {
    let mut value = json!({
        "path": wire.Path, "type": wire.Type, "major": wire.Major, "minor": wire.Minor,
        "uid": wire.UID, "gid": wire.GID,
    });
    if wire.FileMode != 0 {
        value["fileMode"] = json!(wire.FileMode);
    }
    value
}

pub(in crate::spec) fn resources(wire: &oci::LinuxResources) -> Value {
    let number = |number: i64| (number != -1).then_some(number);
    let devices = wire.Devices.iter().map(|rule| {
        let mut value = without_unset(json!({"type": rule.Type, "access": rule.Access}));
        value["allow"] = json!(rule.Allow);
        for (key, number) in [("major", number(rule.Major)), ("minor", number(rule.Minor))] {
            if let Some(number) = number {
                value[key] = json!(number);
            }
        }
        value
    });
    let memory = wire.Memory.as_ref().map(|memory| {
        without_unset(json!({
            "limit": memory.Limit, "reservation": memory.Reservation, "swap": memory.Swap,
            "swappiness": memory.Swappiness, "disableOOMKiller": memory.DisableOOMKiller,
        }))
    });
    let cpu = wire.CPU.as_ref().map(|cpu| {
        without_unset(json!({
            "shares": cpu.Shares, "quota": cpu.Quota, "period": cpu.Period, "cpus": cpu.Cpus, "mems": cpu.Mems,
            "realtimeRuntime": cpu.RealtimeRuntime, "realtimePeriod": cpu.RealtimePeriod,
        }))
    });
    let hugepages = wire.HugepageLimits.iter();
    let limits = hugepages.map(|limit| json!({"pageSize": limit.Pagesize, "limit": limit.Limit}));
    without_unset(json!({
        "devices": devices.collect::<Vec<_>>(),
        "memory": memory,
        "cpu": cpu,
        "pids": wire.Pids.as_ref().filter(|pids| pids.Limit != 0).map(|pids| json!({"limit": pids.Limit})),
        "hugepageLimits": limits.collect::<Vec<_>>(),
    }))
}

fn seccomp(wire: &oci::LinuxSeccomp) -> Value {
    let syscalls = wire.Syscalls.iter().map(|rule| {
        let arguments = rule.Args.iter();
        let arguments = arguments.map(|argument| {
            json!({"index": argument.Index, "value": argument.Value, "valueTwo": argument.ValueTwo, "op": argument.Op})
        });
        let mut value = without_unset(json!({"args": arguments.collect::<Vec<_>>()}));
        value["names"] = json!(rule.Names);
        value["action"] = json!(rule.Action);
        if let Some(oci::linux_syscall::ErrnoRet::Errnoret(code)) = rule.ErrnoRet {
            value["errnoRet"] = json!(code);
        }
        value
    });
    without_unset(json!({
        "defaultAction": wire.DefaultAction,
        "architectures": wire.Architectures,
        "flags": wire.Flags,
        "syscalls": syscalls.collect::<Vec<_>>(),
    }))
}
