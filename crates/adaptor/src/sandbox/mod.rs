//! A sandbox: one pod's VM, from the first call to the last trace.
//!
//! ```text
//! Reserved{token} ------------------------------> Launching{token} -> Booting{instance} -> Ready{instance}
//!    |   \   \                                      ^  ^  |            ^   |                 |
//!    |    \   `-> Queued{token} ----- alone -------/   |  |            |   |                 |
//!    |     \        | a VM waits                       |  |            |   |                 |
//!    |      v       v                                  |  |            |   |                 |
//!    |      Claiming{token, warm VM} --- claimed ------|--|------------/   |                 |
//!    |           | not to be had                       |  |                |                 |
//!    |           v                                     |  |                |                 |
//!    |      Discarding{token, warm VM} -- ended -------/  |                |                 |
//!    |___________|________________________________________|________________|_________________|
//!                                      v
//!                      Draining{token, instance?, reason} -> Gone{reason}
//! ```
//!
//! A sandbox is queued where many start at once and the provider launches several VMs with one call; those are warm VMs until
//! they are claimed.
//!
//! A warm VM belongs to the pool ([`crate::warm`]) until a sandbox's state holds it: its record moves from one to the other in
//! one transaction of the journal. From there on it is this sandbox's or ends; the pool never sees it again.
//!
//! - `state` says what follows from what: a pure function.
//! - `driver` owns one sandbox's state: it journals each new state, and then does what that asks for.
//! - `plan` is what is decided once, at creation, and never changes.
//! - `table` knows all sandboxes of the node.

mod driver;
mod effects;
mod plan;
mod reason;
mod state;
mod table;

pub(crate) use effects::{Effects, Limits};
#[cfg(test)]
pub(crate) use plan::example;
pub(crate) use plan::{Plan, SandboxId, attempt_now, launch_token, span};
pub(crate) use reason::{REASON_KEYS, Reason};
pub(crate) use state::{STATE_KEYS, State};
pub(crate) use table::{Record, Sandboxes, TableError};
