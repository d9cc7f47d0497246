//! Credentials of image registries: where they are kept, which of them an image needs, and how they reach the VM.
//!
//! ```text
//! Secret, auth.json ─► DockerConfig ─► Keyring ─► ImageAccess ─► wire: adaptor ─► shim ─► guest
//! ```
//!
//! Only what matches an image leaves the adaptor. What holds a secret is wiped when dropped and never shown.

mod access;
mod config;
mod keyring;
mod location;
mod repository;

pub use access::{CREDENTIALS_LIMIT, Credential, ImageAccess, InvalidAccess, REMARKS_LIMIT, Secret};
pub use config::{CONFIG_LIMIT, ConfigError, DockerConfig, UnusableEntry};
pub use keyring::Keyring;
pub use repository::{InvalidImage, Repository};
