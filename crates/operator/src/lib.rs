//! `peerpods-operator`: from one KataConfig to nodes that run, and count, peer pods.
//!
//! ```text
//! watches ─► observed ─► plan ─► perform ─► the API server ─► watches …
//! ```
//!
//! - [`mod@plan`] is the heart: a pure function from all that is [`observed`] to what is to be done.
//! - `observe` keeps one small picture of the cluster, and `perform` does what a plan says; neither decides anything.
//! - [`node_runtime`] is another program's heart in the same binary: it runs on nodes, and puts the runtime there.
//! - [`permissions`] is all that the operator may do, made from the tables that it acts by.

pub mod certificate;
mod command_line;
mod daemon;
pub mod health;
pub mod installation;
pub mod leader;
pub mod managed;
pub mod manifests;
pub mod metrics;
pub mod names;
pub mod node_runtime;
mod observe;
pub mod observed;
mod operator;
mod perform;
pub mod permissions;
pub mod plan;

pub use self::{daemon::main, operator::Operator, perform::Providers};
