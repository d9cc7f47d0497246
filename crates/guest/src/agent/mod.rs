//! The Kata agent API, for the pod's worker.

mod container;
mod copy;
mod forward;
mod publish;
mod sandbox;
mod server;
mod service;
mod storage;

pub(crate) use forward::forward;
pub(crate) use sandbox::Sandbox;
pub(crate) use server::serve;
