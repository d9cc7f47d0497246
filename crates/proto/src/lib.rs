//! Wire formats: the hypervisor and agent protocols, and the boot payload of a peer pod VM.

#[allow(
    warnings,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::restriction
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/mod.rs"));
}
/// Messages of `registry.proto`.
pub use generated::registry as registry_wire;
pub use generated::*;

pub mod id;
pub mod payload;
pub mod registry;
pub mod shim_settings;
pub mod spec;
