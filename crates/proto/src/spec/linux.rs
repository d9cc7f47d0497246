//! The Linux section, both ways.

use serde_json::{Value, json};

use super::{
    read::{flag, list, map, number, number32, object, signed, text, texts},
    without_unset,
};
use crate::oci;

pub(super) fn to_wire(json: &Value) -> oci::Linux {
    oci::Linux {
        UIDMappings: list(json, "uidMappings", id_mapping_to_wire),
        GIDMappings: list(json, "gidMappings", id_mapping_to_wire),
        Sysctl: map(json, "sysctl"),
        Resources: object(json, "resources", resources_to_wire),
        CgroupsPath: text(json, "cgroupsPath"),
        Namespaces: list(json, "namespaces", |namespace| oci::LinuxNamespace {
            Type: text(namespace, "type"),
            Path: text(namespace, "path"),
            ..Default::default()
        }),
        Devices: list(json, "devices", |device| oci::LinuxDevice {
            Path: text(device, "path"),
            Type: text(device, "type"),
            Major: signed(device, "major"),
            Minor: signed(device, "minor"),
            FileMode: number32(device, "fileMode"),
            UID: number32(device, "uid"),
            GID: number32(device, "gid"),
            ..Default::default()
        }),
        Seccomp: object(json, "seccomp", seccomp_to_wire),
        RootfsPropagation: text(json, "rootfsPropagation"),
        MaskedPaths: texts(json, "maskedPaths"),
        ReadonlyPaths: texts(json, "readonlyPaths"),
        MountLabel: text(json, "mountLabel"),
        ..Default::default()
    }
}

pub(super) fn from_wire(wire: &oci::Linux) -> Value {
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
        "resources": wire.Resources.as_ref().map(resources_from_wire),
        "cgroupsPath": wire.CgroupsPath,
        "namespaces": namespaces.map(|namespace| {
            without_unset(json!({"type": namespace.Type, "path": namespace.Path}))
        }).collect::<Vec<_>>(),
        "devices": wire.Devices.iter().map(device_from_wire).collect::<Vec<_>>(),
        "seccomp": wire.Seccomp.as_ref().map(seccomp_from_wire),
        "rootfsPropagation": wire.RootfsPropagation,
        "maskedPaths": wire.MaskedPaths,
        "readonlyPaths": wire.ReadonlyPaths,
        "mountLabel": wire.MountLabel,
    }))
}

fn id_mapping_to_wire(json: &Value) -> oci::LinuxIDMapping {
    oci::LinuxIDMapping {
        HostID: number32(json, "hostID"),
        ContainerID: number32(json, "containerID"),
        Size: number32(json, "size"),
        ..Default::default()
    }
}

/// A device's numbers and owner may be zero.
fn device_from_wire(wire: &oci::LinuxDevice) -> Value {
    let mut value = json!({
        "path": wire.Path, "type": wire.Type, "major": wire.Major, "minor": wire.Minor,
        "uid": wire.UID, "gid": wire.GID,
    });
    if wire.FileMode != 0 {
        value["fileMode"] = json!(wire.FileMode);
    }
    value
}

pub(super) fn resources_to_wire(json: &Value) -> oci::LinuxResources {
    oci::LinuxResources {
        Devices: list(json, "devices", |rule| oci::LinuxDeviceCgroup {
            Allow: flag(rule, "allow"),
            Type: text(rule, "type"),
            // Unset means every number, which the wire writes as -1.
            Major: rule["major"].as_i64().unwrap_or(-1),
            Minor: rule["minor"].as_i64().unwrap_or(-1),
            Access: text(rule, "access"),
            ..Default::default()
        }),
        Memory: object(json, "memory", |memory| oci::LinuxMemory {
            Limit: signed(memory, "limit"),
            Reservation: signed(memory, "reservation"),
            Swap: signed(memory, "swap"),
            Kernel: signed(memory, "kernel"),
            KernelTCP: signed(memory, "kernelTCP"),
            Swappiness: number(memory, "swappiness"),
            DisableOOMKiller: flag(memory, "disableOOMKiller"),
            ..Default::default()
        }),
        CPU: object(json, "cpu", |cpu| oci::LinuxCPU {
            Shares: number(cpu, "shares"),
            Quota: signed(cpu, "quota"),
            Period: number(cpu, "period"),
            RealtimeRuntime: signed(cpu, "realtimeRuntime"),
            RealtimePeriod: number(cpu, "realtimePeriod"),
            Cpus: text(cpu, "cpus"),
            Mems: text(cpu, "mems"),
            ..Default::default()
        }),
        Pids: object(json, "pids", |pids| oci::LinuxPids {
            Limit: signed(pids, "limit"),
            ..Default::default()
        }),
        HugepageLimits: list(json, "hugepageLimits", |limit| oci::LinuxHugepageLimit {
            Pagesize: text(limit, "pageSize"),
            Limit: number(limit, "limit"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn resources_from_wire(wire: &oci::LinuxResources) -> Value {
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

fn seccomp_to_wire(json: &Value) -> oci::LinuxSeccomp {
    oci::LinuxSeccomp {
        DefaultAction: text(json, "defaultAction"),
        Architectures: texts(json, "architectures"),
        Flags: texts(json, "flags"),
        Syscalls: list(json, "syscalls", |rule| oci::LinuxSyscall {
            Names: texts(rule, "names"),
            Action: text(rule, "action"),
            ErrnoRet: rule["errnoRet"]
                .as_u64()
                .and_then(|code| code.try_into().ok())
                .map(oci::linux_syscall::ErrnoRet::Errnoret),
            Args: list(rule, "args", |argument| oci::LinuxSeccompArg {
                Index: number(argument, "index"),
                Value: number(argument, "value"),
                ValueTwo: number(argument, "valueTwo"),
                Op: text(argument, "op"),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn seccomp_from_wire(wire: &oci::LinuxSeccomp) -> Value {
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
