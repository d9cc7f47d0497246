//! The operator's program against a real API server, with no rights but its own.
//!
//! Nodes, and pods of DaemonSets, are objects that the test makes: what a kubelet and the controllers would do is played.
//! `PEERPODS_TEST_KUBERNETES` names the folder with the server; without it these tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod disruptions;
mod image;
mod lab;
mod large;
mod life;
mod machine_config_operator;
mod openshift;
mod process;
mod reaper;
