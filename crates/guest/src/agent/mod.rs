//! The Kata agent API, for the pod's worker.

mod change;
mod container;
mod copy;
mod forward;
mod health;
mod limit;
mod offers;
mod pod_network;
mod publish;
mod resolver;
mod sandbox;
mod server;
mod service;
mod statistics;
mod storage;
mod unsupported;

pub(crate) use forward::forward;
pub(crate) use sandbox::Sandbox;
pub(crate) use server::serve;
