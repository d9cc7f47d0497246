//! Warm VMs: a pool of them is kept on the node, booted and without identity, for pods that would otherwise wait for a boot.
//!
//! ```text
//! Launching{token} -> Waiting{instance} -- taken --> the state of a sandbox (`sandbox/state.rs`)
//!        \_________________|
//!                  v
//!                ended
//! ```
//!
//! - A member's record is durable before its VM is launched, and goes when the VM has ended or is a sandbox's: the record
//!   moves with the VM, in one transaction. So each VM has one owner at any moment, and no crash hides or shares one.
//! - One task keeps the pool: it launches one VM at a time, and never one more than is missing. The pool and what is about to
//!   leave it together never exceed its size.
//! - Every member has credentials of its own: an authority, a join secret, and the key that its guest made. The claim
//!   replaces all three.
//! - Which pods a member serves, the provider says: those whose VM would be of the same kind.

mod keeper;
mod member;
mod pool;

pub(crate) use keeper::keep;
#[cfg(test)]
pub(crate) use member::MemberState;
pub(crate) use member::{Member, WarmVm};
pub(crate) use pool::{Pool, PoolSettings};

#[cfg(test)]
mod tests;
