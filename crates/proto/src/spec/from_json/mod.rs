//! From the specification's JSON to the wire: everything but the Linux section.
//!
//! Words (of capabilities, namespaces, actions) go on as they are: whoever carries them out knows which there are.

mod linux;
mod read;

use serde_json::Value;

use self::read::{
    Read, flag, list, map, needed_text, number, number32, numbers32, object, signed, text, texts,
};
pub(super) use self::{linux::resources, read::Fault};
use crate::oci;

pub(super) fn spec(json: &Value) -> Read<oci::Spec> {
    Ok(oci::Spec {
        Version: needed_text(json, "ociVersion")?,
        Process: object(json, "process", process)?,
        Root: object(json, "root", root)?,
        Hostname: text(json, "hostname")?,
        Mounts: list(json, "mounts", mount)?,
        Hooks: object(json, "hooks", hooks)?,
        Annotations: map(json, "annotations")?,
        Linux: object(json, "linux", linux::linux)?,
        ..Default::default()
    })
}

fn root(json: &Value) -> Read<oci::Root> {
    Ok(oci::Root {
        Path: text(json, "path")?,
        Readonly: flag(json, "readonly")?,
        ..Default::default()
    })
}

pub(super) fn process(json: &Value) -> Read<oci::Process> {
    Ok(oci::Process {
        Terminal: flag(json, "terminal")?,
        ConsoleSize: object(json, "consoleSize", console_size)?,
        User: object(json, "user", user)?,
        Args: texts(json, "args")?,
        Env: texts(json, "env")?,
        Cwd: needed_text(json, "cwd")?,
        Capabilities: object(json, "capabilities", capabilities)?,
        Rlimits: list(json, "rlimits", resource_limit)?,
        NoNewPrivileges: flag(json, "noNewPrivileges")?,
        ApparmorProfile: text(json, "apparmorProfile")?,
        OOMScoreAdj: signed(json, "oomScoreAdj")?,
        SelinuxLabel: text(json, "selinuxLabel")?,
        ..Default::default()
    })
}

fn console_size(json: &Value) -> Read<oci::Box> {
    Ok(oci::Box {
        Height: number32(json, "height")?,
        Width: number32(json, "width")?,
        ..Default::default()
    })
}

fn user(json: &Value) -> Read<oci::User> {
    Ok(oci::User {
        UID: number32(json, "uid")?,
        GID: number32(json, "gid")?,
        AdditionalGids: numbers32(json, "additionalGids")?,
        Username: text(json, "username")?,
        ..Default::default()
    })
}

fn capabilities(json: &Value) -> Read<oci::LinuxCapabilities> {
    Ok(oci::LinuxCapabilities {
        Bounding: texts(json, "bounding")?,
        Effective: texts(json, "effective")?,
        Inheritable: texts(json, "inheritable")?,
        Permitted: texts(json, "permitted")?,
        Ambient: texts(json, "ambient")?,
        ..Default::default()
    })
}

fn resource_limit(json: &Value) -> Read<oci::POSIXRlimit> {
    Ok(oci::POSIXRlimit {
        Type: needed_text(json, "type")?,
        Hard: number(json, "hard")?,
        Soft: number(json, "soft")?,
        ..Default::default()
    })
}

fn mount(json: &Value) -> Read<oci::Mount> {
    Ok(oci::Mount {
        destination: needed_text(json, "destination")?,
        source: text(json, "source")?,
        type_: text(json, "type")?,
        options: texts(json, "options")?,
        ..Default::default()
    })
}

fn hooks(json: &Value) -> Read<oci::Hooks> {
    Ok(oci::Hooks {
        Prestart: list(json, "prestart", hook)?,
        Poststart: list(json, "poststart", hook)?,
        Poststop: list(json, "poststop", hook)?,
        CreateRuntime: list(json, "createRuntime", hook)?,
        CreateContainer: list(json, "createContainer", hook)?,
        StartContainer: list(json, "startContainer", hook)?,
        ..Default::default()
    })
}

fn hook(json: &Value) -> Read<oci::Hook> {
    Ok(oci::Hook {
        Path: needed_text(json, "path")?,
        Args: texts(json, "args")?,
        Env: texts(json, "env")?,
        Timeout: signed(json, "timeout")?,
        ..Default::default()
    })
}
