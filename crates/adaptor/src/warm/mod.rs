//! Warm VMs: booted and without identity. A pool of them is kept on the node, for pods that would otherwise wait for a boot;
//! and those that many pods want at one moment are launched together.
//!
//! ```text
//! Launching{token} -> Waiting{instance} -- taken --> the state of a sandbox (`sandbox/state.rs`)
//!    |      \_______________|      ^   |
//!    |                             |   v
//!    `-----> Booting{instance} ----' ended
//!            one for each that was launched together
//! ```
//!
//! - A member's record is durable before its VM is launched, and goes when the VM has ended or is a sandbox's: the record
//!   moves with the VM, in one transaction. So each VM has one owner at any moment, and no crash hides or shares one.
//! - One task keeps the pool: it launches one VM at a time, and never one more than is missing. The pool and what is about to
//!   leave it together never exceed its size.
//! - What is launched together (`together`) has one token and one record, which the records of its instances replace in one
//!   transaction, before any of them is given away. What a crash leaves of it is ended.
//! - A launch has credentials of its own: an authority and a join secret; the key is made by each guest. The claim replaces
//!   all three.
//! - Which pods a member serves, the provider says: those whose VM would be of the same kind.

mod keeper;
mod member;
mod pool;
mod together;

pub(crate) use keeper::keep;
#[cfg(test)]
pub(crate) use member::MemberState;
pub(crate) use member::{Member, WarmVm};
pub(crate) use pool::{Pool, PoolSettings};
pub(crate) use together::Turn;

#[cfg(test)]
mod tests;
