//! `peerpods-guest`: PID 1 of a peer pod VM.
//!
//! - [`boot`] makes a system of a kernel and this program: mounts, modules, network, boot payload.
//! - [`agent`] serves the Kata agent API to the pod's worker, over mutual TLS.
//! - [`container`] runs containers: each creation and each exec is a single-threaded process of its own, because
//!   libcontainer forks, which a process with threads must not do.
//! - [`ec2`] is how a VM on EC2 gets its address and its boot payload.
//! - [`image`] pulls images.
//! - [`scratch`] is where images and what containers write go: on a disk, where the VM has one.
//! - `warm` is for a VM that is launched before its pod is known.

mod agent;
mod boot;
pub mod clock;
mod container;
pub mod ec2;
mod error;
pub mod image;
mod lease;
mod life;
mod scratch;
mod unsafe_register;
mod warm;

pub use life::main;
