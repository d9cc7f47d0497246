//! The OCI runtime specification on the wire of the agent protocol, and back.
//!
//! The protocol's messages mirror the specification's JSON, with two differences: names begin with a capital, and zero
//! stands for "unset". The worker goes from a bundle's JSON to the wire, without the specification's types: they bring more
//! into a program than a shim may weigh. The guest goes from the wire, by the JSON form, to those types, which know every
//! word.

mod from_json;
mod from_wire;

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::oci;

/// Annotation of a container's spec: the id of the container whose processes it sees, for `kubectl debug --target`. The
/// protocol itself knows only the processes of the container's own and those of the whole pod.
pub const TARGET_CONTAINER: &str = "io.peerpods.target-container";

/// What is not what the specification says, with the member's name.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It is no JSON, or has a word that the specification does not know.
    #[error("the container's {part} is not valid: {source}")]
    Json {
        /// Which part of the request.
        part: &'static str,
        /// Where, and what is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A member is of another kind than the specification says, or missing.
    #[error("the container's {part} is not valid: {path} is not {expected}")]
    Member {
        /// Which part of the request.
        part: &'static str,
        /// The member: names from the outermost, separated by dots.
        path: String,
        /// What the specification wants there.
        expected: &'static str,
    },
}

/// A bundle's `config.json` as the wire carries it; what the wire has no field for (time offsets, unified cgroup keys) is
/// left out.
///
/// # Errors
/// [`SpecError`] where a member is of the wrong kind.
pub fn spec_from_json(text: &[u8]) -> Result<oci::Spec, SpecError> {
    read("spec", text, from_json::spec)
}

/// A process's JSON as the wire carries it.
///
/// # Errors
/// [`SpecError`] where a member is of the wrong kind.
pub fn process_from_json(text: &[u8]) -> Result<oci::Process, SpecError> {
    read("process", text, from_json::process)
}

/// Resource limits' JSON as the wire carries them.
///
/// # Errors
/// [`SpecError`] where a member is of the wrong kind.
pub fn resources_from_json(text: &[u8]) -> Result<oci::LinuxResources, SpecError> {
    read("resources", text, from_json::resources)
}

/// A spec from the wire.
///
/// # Errors
/// [`SpecError`] where a word is not one that the specification knows.
pub fn spec_from_wire(spec: &oci::Spec) -> Result<Spec, SpecError> {
    typed("spec", from_wire::spec(spec))
}

/// A process from the wire.
///
/// # Errors
/// [`SpecError`] where a word is not one that the specification knows.
pub fn process_from_wire(process: &oci::Process) -> Result<Process, SpecError> {
    typed("process", from_wire::process(process))
}

/// Resource limits from the wire.
///
/// # Errors
/// [`SpecError`] where a word is not one that the specification knows.
pub fn resources_from_wire(resources: &oci::LinuxResources) -> Result<LinuxResources, SpecError> {
    typed("resources", from_wire::resources(resources))
}

fn read<T>(
    part: &'static str,
    text: &[u8],
    convert: fn(&Value) -> Result<T, from_json::Fault>,
) -> Result<T, SpecError> {
    let json = serde_json::from_slice(text).map_err(|source| SpecError::Json { part, source })?;
    convert(&json).map_err(|fault| SpecError::Member {
        part,
        path: fault.path,
        expected: fault.expected,
    })
}

fn typed<T: DeserializeOwned>(part: &'static str, value: Value) -> Result<T, SpecError> {
    serde_json::from_value(value).map_err(|source| SpecError::Json { part, source })
}
