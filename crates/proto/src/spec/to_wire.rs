//! From the specification's JSON to the wire: everything but the Linux section.

use serde_json::Value;

use super::{
    linux,
    read::{flag, list, map, number, number32, object, signed, text, texts},
};
use crate::oci;

pub(super) fn spec(json: &Value) -> oci::Spec {
    oci::Spec {
        Version: text(json, "ociVersion"),
        Process: object(json, "process", process),
        Root: object(json, "root", |root| oci::Root {
            Path: text(root, "path"),
            Readonly: flag(root, "readonly"),
            ..Default::default()
        }),
        Hostname: text(json, "hostname"),
        Mounts: list(json, "mounts", mount),
        Hooks: object(json, "hooks", hooks),
        Annotations: map(json, "annotations"),
        Linux: object(json, "linux", linux::to_wire),
        ..Default::default()
    }
}

pub(super) fn process(json: &Value) -> oci::Process {
    oci::Process {
        Terminal: flag(json, "terminal"),
        ConsoleSize: object(json, "consoleSize", |size| oci::Box {
            Height: number32(size, "height"),
            Width: number32(size, "width"),
            ..Default::default()
        }),
        User: object(json, "user", |user| oci::User {
            UID: number32(user, "uid"),
            GID: number32(user, "gid"),
            AdditionalGids: list(user, "additionalGids", |gid| {
                gid.as_u64()
                    .and_then(|gid| gid.try_into().ok())
                    .unwrap_or(u32::MAX)
            }),
            Username: text(user, "username"),
            ..Default::default()
        }),
        Args: texts(json, "args"),
        Env: texts(json, "env"),
        Cwd: text(json, "cwd"),
        Capabilities: object(json, "capabilities", |sets| oci::LinuxCapabilities {
            Bounding: texts(sets, "bounding"),
            Effective: texts(sets, "effective"),
            Inheritable: texts(sets, "inheritable"),
            Permitted: texts(sets, "permitted"),
            Ambient: texts(sets, "ambient"),
            ..Default::default()
        }),
        Rlimits: list(json, "rlimits", |limit| oci::POSIXRlimit {
            Type: text(limit, "type"),
            Hard: number(limit, "hard"),
            Soft: number(limit, "soft"),
            ..Default::default()
        }),
        NoNewPrivileges: flag(json, "noNewPrivileges"),
        ApparmorProfile: text(json, "apparmorProfile"),
        OOMScoreAdj: signed(json, "oomScoreAdj"),
        SelinuxLabel: text(json, "selinuxLabel"),
        ..Default::default()
    }
}

fn mount(json: &Value) -> oci::Mount {
    oci::Mount {
        destination: text(json, "destination"),
        source: text(json, "source"),
        type_: text(json, "type"),
        options: texts(json, "options"),
        ..Default::default()
    }
}

fn hooks(json: &Value) -> oci::Hooks {
    oci::Hooks {
        Prestart: list(json, "prestart", hook),
        Poststart: list(json, "poststart", hook),
        Poststop: list(json, "poststop", hook),
        CreateRuntime: list(json, "createRuntime", hook),
        CreateContainer: list(json, "createContainer", hook),
        StartContainer: list(json, "startContainer", hook),
        ..Default::default()
    }
}

fn hook(json: &Value) -> oci::Hook {
    oci::Hook {
        Path: text(json, "path"),
        Args: texts(json, "args"),
        Env: texts(json, "env"),
        Timeout: signed(json, "timeout"),
        ..Default::default()
    }
}
