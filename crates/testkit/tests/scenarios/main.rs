//! What a user of peer pods sees, on the real Kubernetes of the test bed.
#![allow(clippy::unwrap_used)]

mod containers;
mod controllers;
mod exec;
mod failures;
mod files;
mod health;
mod lifecycle;
mod logs;
mod network;
mod nothing_left;
mod peer_pods;
mod port_forward;
mod refusals;
mod registries;
mod resources;
mod scratch;
mod security;
mod seeing;
mod streams;
mod volumes;
mod workload;
