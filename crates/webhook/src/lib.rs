//! Changes peer pods as they are created, so that Kubernetes counts what they really take of a node.
//!
//! A peer pod's containers run in a virtual machine beside the node. Counted as an ordinary pod it would take CPU and
//! memory of a node that it does not use; what it takes is one place for a VM. [`mutate`] says what is changed, and is a
//! pure function; [`answer`] puts it behind a review of the API server, and the rest is a server.

mod mutate;
mod own;
mod patch;
mod pod;
mod refusal;
mod review;
mod server;
mod settings;
mod size;

pub use self::{
    mutate::mutate,
    patch::{Operation, Patch},
    pod::Pod,
    refusal::Refusal,
    review::{Answer, Outcome, answer},
    server::{main, metrics},
};
