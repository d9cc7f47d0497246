//! The OCI runtime specification on the wire of the agent protocol, and back.
//!
//! The protocol's messages mirror the specification's JSON, with two differences: names begin with a capital, and zero
//! stands for "unset". Both directions therefore go through the JSON form, which is what the specification defines.

mod from_wire;
mod linux;
mod to_wire;

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::oci;

/// Annotation of a container's spec: the id of the container whose processes it sees, for `kubectl debug --target`. The
/// protocol itself knows only the processes of the container's own and those of the whole pod.
pub const TARGET_CONTAINER: &str = "io.peerpods.target-container";

/// A spec that is not what the specification says, with the field's name.
#[derive(Debug, thiserror::Error)]
#[error("the container's {part} is not valid: {source}")]
pub struct SpecError {
    /// Which part of the request.
    part: &'static str,
    /// The field and what is wrong with it.
    #[source]
    source: serde_json::Error,
}

/// A spec as the wire carries it; what the wire has no field for (time offsets, unified cgroup keys) is left out.
pub fn spec_to_wire(spec: &Spec) -> oci::Spec {
    to_wire::spec(&json(spec))
}

/// A spec from the wire.
///
/// # Errors
/// [`SpecError`] where a word is not one that the specification knows.
pub fn spec_from_wire(spec: &oci::Spec) -> Result<Spec, SpecError> {
    typed("spec", from_wire::spec(spec))
}

/// A process as the wire carries it.
pub fn process_to_wire(process: &Process) -> oci::Process {
    to_wire::process(&json(process))
}

/// A process from the wire.
///
/// # Errors
/// [`SpecError`] where a word is not one that the specification knows.
pub fn process_from_wire(process: &oci::Process) -> Result<Process, SpecError> {
    typed("process", from_wire::process(process))
}

/// Resource limits as the wire carries them.
pub fn resources_to_wire(resources: &LinuxResources) -> oci::LinuxResources {
    linux::resources_to_wire(&json(resources))
}

/// Resource limits from the wire.
///
/// # Errors
/// [`SpecError`] where a word is not one that the specification knows.
pub fn resources_from_wire(resources: &oci::LinuxResources) -> Result<LinuxResources, SpecError> {
    typed("resources", linux::resources_from_wire(resources))
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("the specification's types are plain data with text keys")
}

fn typed<T: DeserializeOwned>(part: &'static str, value: Value) -> Result<T, SpecError> {
    serde_json::from_value(value).map_err(|source| SpecError { part, source })
}

/// Reading members of JSON objects, absent ones as zero.
mod read {
    use std::collections::HashMap;

    use serde_json::Value;

    pub(super) fn text(value: &Value, key: &str) -> String {
        value[key].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn texts(value: &Value, key: &str) -> Vec<String> {
        list(value, key, |item| item.as_str().unwrap_or_default().to_owned())
    }

    pub(super) fn number(value: &Value, key: &str) -> u64 {
        value[key].as_u64().unwrap_or_default()
    }

    pub(super) fn number32(value: &Value, key: &str) -> u32 {
        number(value, key).try_into().unwrap_or(u32::MAX)
    }

    pub(super) fn signed(value: &Value, key: &str) -> i64 {
        value[key].as_i64().unwrap_or_default()
    }

    pub(super) fn flag(value: &Value, key: &str) -> bool {
        value[key].as_bool().unwrap_or_default()
    }

    pub(super) fn list<T>(value: &Value, key: &str, item: impl Fn(&Value) -> T) -> Vec<T> {
        value[key]
            .as_array()
            .map(|items| items.iter().map(item).collect())
            .unwrap_or_default()
    }

    pub(super) fn map(value: &Value, key: &str) -> HashMap<String, String> {
        let entries = value[key].as_object().into_iter().flatten();
        entries
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect()
    }

    pub(super) fn object<T>(
        value: &Value,
        key: &str,
        convert: impl FnOnce(&Value) -> T,
    ) -> protobuf::MessageField<T> {
        let member = &value[key];
        if member.is_object() {
            protobuf::MessageField::some(convert(member))
        } else {
            protobuf::MessageField::none()
        }
    }
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
