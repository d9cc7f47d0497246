//! The Kata agent API, for the pod's worker.

mod container;
mod copy;
mod publish;
mod sandbox;
mod server;
mod service;
mod storage;

pub(crate) use sandbox::Sandbox;
pub(crate) use server::serve;
