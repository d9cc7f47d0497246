//! What stock Kata shims, the Go one and the Rust one, ask of the adaptor and of the agent in the VM: their calls in their
//! order, by plain ttrpc clients. Nothing of our own shim is in the way.
#![allow(clippy::unwrap_used)]

/// Defines a test that runs on the node, where the sockets and the pods' network are.
macro_rules! on_node {
    ($(#[$meta:meta])* async fn $name:ident() $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::node::run(concat!(module_path!(), "::", stringify!($name)), async $body);
        }
    };
}

mod agent;
mod container;
mod files;
mod go_shim;
mod hostile;
mod hypervisor;
mod network;
mod node;
mod pod;
mod processes;
mod requests;
mod rust_shim;
mod sandbox;
