//! From the specification's JSON to the wire: the Linux section.

use serde_json::Value;

use super::read::{
    Read, flag, list, map, needed_text, number, number32, object, signed, signed_or, text, texts,
};
use crate::oci;

/// How the wire writes that a device rule is for every number.
const EVERY_NUMBER: i64 = -1;

pub(super) fn linux(json: &Value) -> Read<oci::Linux> {
    Ok(oci::Linux {
        UIDMappings: list(json, "uidMappings", id_mapping)?,
        GIDMappings: list(json, "gidMappings", id_mapping)?,
        Sysctl: map(json, "sysctl")?,
        Resources: object(json, "resources", resources)?,
        CgroupsPath: text(json, "cgroupsPath")?,
        Namespaces: list(json, "namespaces", namespace)?,
        Devices: list(json, "devices", device)?,
        Seccomp: object(json, "seccomp", seccomp)?,
        RootfsPropagation: text(json, "rootfsPropagation")?,
        MaskedPaths: texts(json, "maskedPaths")?,
        ReadonlyPaths: texts(json, "readonlyPaths")?,
        MountLabel: text(json, "mountLabel")?,
        ..Default::default()
    })
}

fn id_mapping(json: &Value) -> Read<oci::LinuxIDMapping> {
    Ok(oci::LinuxIDMapping {
        HostID: number32(json, "hostID")?,
        ContainerID: number32(json, "containerID")?,
        Size: number32(json, "size")?,
        ..Default::default()
    })
}

fn namespace(json: &Value) -> Read<oci::LinuxNamespace> {
    Ok(oci::LinuxNamespace {
        Type: needed_text(json, "type")?,
        Path: text(json, "path")?,
        ..Default::default()
    })
}

fn device(json: &Value) -> Read<oci::LinuxDevice> {
    Ok(oci::LinuxDevice {
        Path: needed_text(json, "path")?,
        Type: needed_text(json, "type")?,
        Major: signed(json, "major")?,
        Minor: signed(json, "minor")?,
        FileMode: number32(json, "fileMode")?,
        UID: number32(json, "uid")?,
        GID: number32(json, "gid")?,
        ..Default::default()
    })
}

pub(in crate::spec) fn resources(json: &Value) -> Read<oci::LinuxResources> {
    Ok(oci::LinuxResources {
        Devices: list(json, "devices", device_rule)?,
        Memory: object(json, "memory", memory)?,
        CPU: object(json, "cpu", cpu)?,
        Pids: object(json, "pids", pids)?,
        HugepageLimits: list(json, "hugepageLimits", hugepage_limit)?,
        ..Default::default()
    })
}

fn device_rule(json: &Value) -> Read<oci::LinuxDeviceCgroup> {
    Ok(oci::LinuxDeviceCgroup {
        Allow: flag(json, "allow")?,
        Type: text(json, "type")?,
        Major: signed_or(json, "major", EVERY_NUMBER)?,
        Minor: signed_or(json, "minor", EVERY_NUMBER)?,
        Access: text(json, "access")?,
        ..Default::default()
    })
}

fn memory(json: &Value) -> Read<oci::LinuxMemory> {
    Ok(oci::LinuxMemory {
        Limit: signed(json, "limit")?,
        Reservation: signed(json, "reservation")?,
        Swap: signed(json, "swap")?,
        Kernel: signed(json, "kernel")?,
        KernelTCP: signed(json, "kernelTCP")?,
        Swappiness: number(json, "swappiness")?,
        DisableOOMKiller: flag(json, "disableOOMKiller")?,
        ..Default::default()
    })
}

fn cpu(json: &Value) -> Read<oci::LinuxCPU> {
    Ok(oci::LinuxCPU {
        Shares: number(json, "shares")?,
        Quota: signed(json, "quota")?,
        Period: number(json, "period")?,
        RealtimeRuntime: signed(json, "realtimeRuntime")?,
        RealtimePeriod: number(json, "realtimePeriod")?,
        Cpus: text(json, "cpus")?,
        Mems: text(json, "mems")?,
        ..Default::default()
    })
}

fn pids(json: &Value) -> Read<oci::LinuxPids> {
    Ok(oci::LinuxPids {
        Limit: signed(json, "limit")?,
        ..Default::default()
    })
}

fn hugepage_limit(json: &Value) -> Read<oci::LinuxHugepageLimit> {
    Ok(oci::LinuxHugepageLimit {
        Pagesize: needed_text(json, "pageSize")?,
        Limit: number(json, "limit")?,
        ..Default::default()
    })
}

fn seccomp(json: &Value) -> Read<oci::LinuxSeccomp> {
    Ok(oci::LinuxSeccomp {
        DefaultAction: needed_text(json, "defaultAction")?,
        Architectures: texts(json, "architectures")?,
        Flags: texts(json, "flags")?,
        Syscalls: list(json, "syscalls", system_call)?,
        ..Default::default()
    })
}

fn system_call(json: &Value) -> Read<oci::LinuxSyscall> {
    let code = match json["errnoRet"].is_null() {
        true => None,
        false => Some(oci::linux_syscall::ErrnoRet::Errnoret(number32(
            json, "errnoRet",
        )?)),
    };
    Ok(oci::LinuxSyscall {
        Names: texts(json, "names")?,
        Action: needed_text(json, "action")?,
        ErrnoRet: code,
        Args: list(json, "args", system_call_argument)?,
        ..Default::default()
    })
}

fn system_call_argument(json: &Value) -> Read<oci::LinuxSeccompArg> {
    Ok(oci::LinuxSeccompArg {
        Index: number(json, "index")?,
        Value: number(json, "value")?,
        ValueTwo: number(json, "valueTwo")?,
        Op: needed_text(json, "op")?,
        ..Default::default()
    })
}
