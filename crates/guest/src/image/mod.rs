//! Container images: pulled from the registry, verified, unpacked, mounted.
//!
//! ```text
//! reference ─► manifest (index ─► this platform's) ─► config ─► layers, some at a time:
//!    registry ─► compressed digest ─► decompress ─► diff id ─► unpack into incoming/ ─► rename to layers/<diff id>
//! ```
//!
//! A layer directory that can be seen under `layers/` is whole and its content was checked against the diff id
//! in the image configuration, which in turn was checked against the manifest. Layers are kept by diff id, so
//! containers that share a layer share one directory and one download.

mod digest;
mod error;
mod failure;
mod layer;
pub mod limits;
mod manifest;
mod overlay;
mod pace;
mod reference;
mod registry;
mod roots;
mod store;
mod unpack;

pub use digest::Digest;
pub use error::{Attempts, ImageError, Unreachable};
pub use overlay::mount_rootfs;
pub use reference::ImageReference;
pub(crate) use registry::install_tls_provider;
pub use roots::write_trusted_roots;
pub use store::{ImageStore, LayerPath, PullSettings, PulledImage};
pub use unpack::unpack_layer;
