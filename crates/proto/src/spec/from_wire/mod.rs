//! From the wire to the specification's JSON: everything but the Linux section.

mod linux;

use serde_json::{Value, json};

pub(super) use self::linux::resources;
use crate::oci;

pub(super) fn spec(wire: &oci::Spec) -> Value {
    without_unset(json!({
        "ociVersion": wire.Version,
        "process": wire.Process.as_ref().map(process),
        "root": wire.Root.as_ref().map(|root| json!({"path": root.Path, "readonly": root.Readonly})),
        "hostname": wire.Hostname,
        "mounts": wire.Mounts.iter().map(mount).collect::<Vec<_>>(),
        "hooks": wire.Hooks.as_ref().map(hooks),
        "annotations": wire.Annotations,
        "linux": wire.Linux.as_ref().map(linux::linux),
    }))
}

pub(super) fn process(wire: &oci::Process) -> Value {
    let mut value = without_unset(json!({
        "terminal": wire.Terminal,
        "consoleSize": wire.ConsoleSize.as_ref().map(|size| json!({"height": size.Height, "width": size.Width})),
        "args": wire.Args,
        "env": wire.Env,
        "cwd": wire.Cwd,
        "capabilities": wire.Capabilities.as_ref().map(|sets| json!({
            "bounding": sets.Bounding,
            "effective": sets.Effective,
            "inheritable": sets.Inheritable,
            "permitted": sets.Permitted,
            "ambient": sets.Ambient,
        })),
        "rlimits": wire.Rlimits.iter().map(|limit| {
            json!({"type": limit.Type, "hard": limit.Hard, "soft": limit.Soft})
        }).collect::<Vec<_>>(),
        "noNewPrivileges": wire.NoNewPrivileges,
        "apparmorProfile": wire.ApparmorProfile,
        "oomScoreAdj": wire.OOMScoreAdj,
        "selinuxLabel": wire.SelinuxLabel,
    }));
    value["user"] = wire
        .User
        .as_ref()
        .map_or_else(|| json!({"uid": 0, "gid": 0}), user);
    value
}

/// A user's zeros are values: root.
fn user(wire: &oci::User) -> Value {
    let mut value = json!({"uid": wire.UID, "gid": wire.GID});
    if !wire.AdditionalGids.is_empty() {
        value["additionalGids"] = json!(wire.AdditionalGids);
    }
    if !wire.Username.is_empty() {
        value["username"] = json!(wire.Username);
    }
    value
}

fn mount(wire: &oci::Mount) -> Value {
    without_unset(json!({
        "destination": wire.destination,
        "source": wire.source,
        "type": wire.type_,
        "options": wire.options,
    }))
}

fn hooks(wire: &oci::Hooks) -> Value {
    let list = |hooks: &[oci::Hook]| hooks.iter().map(hook).collect::<Vec<_>>();
    without_unset(json!({
        "prestart": list(&wire.Prestart),
        "poststart": list(&wire.Poststart),
        "poststop": list(&wire.Poststop),
        "createRuntime": list(&wire.CreateRuntime),
        "createContainer": list(&wire.CreateContainer),
        "startContainer": list(&wire.StartContainer),
    }))
}

fn hook(wire: &oci::Hook) -> Value {
    without_unset(json!({"path": wire.Path, "args": wire.Args, "env": wire.Env, "timeout": wire.Timeout}))
}

/// Removes what stands for "unset" from the members of an object: null, zero, false, and what is empty.
fn without_unset(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, member| match member {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
            Value::Bool(true) => true,
        });
    }
    value
}
