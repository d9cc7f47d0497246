//! Peer pod VMs as EC2 instances.
//!
//! EC2 itself is the record: an instance carries whose it is in its tags, from the call that launches it on. What makes
//! every call safe:
//!
//! - **One instance per token.** The launch token is EC2's client token, the same for every type and subnet that is tried:
//!   within a zone EC2 answers a repetition with the first instance, or refuses it where parameters differ, and then the
//!   instance is looked for. Client tokens count per zone, so with several subnets a token that this process has not seen
//!   is looked for before it is used.
//! - **A launch that nobody waits for any more goes on** to its answer, and [`peerpods_provider::Provider::find`] waits for
//!   that. Only a lost answer or a crash leaves a doubt.
//! - **Absence is believed late.** What EC2 has made it may not show for a while ([`Timing::visibility`]), so "no such
//!   instance" counts only after that time since a launch without an answer, or since this process started.
//! - **An end is confirmed**: an instance counts as ended when EC2 says `terminated`, or does not know it.
//! - **An elastic address is its instance's.** It is made for an instance that is there, and carries from that call on whose
//!   it is. So it is found again, instead of a second one made, and given up after the instance's end, before that counts.
//!
//! ```text
//! settings   peer-pods-cm and peer-pods-secret, parsed: everything wrong is named at once
//! worker     what the worker's own instance says where settings do not
//! types      instance types with sizes and prices, and the choice among them
//! image      what a VM image says of its disk
//! request    from all of these to RunInstances
//! launches   what this process knows of launches
//! watch      one DescribeInstances for all of a node's VMs, one DescribeSpotInstanceRequests for all spot instances
//! addresses  elastic addresses: those that there are, those that are missing, and when they were asked for
//! spot       what EC2 says of taking an instance back
//! tags       an owner as tags, and back
//! ```

mod actions;
mod addresses;
mod answers;
mod claims;
mod error;
mod image;
mod launches;
mod provider;
mod request;
mod settings;
mod spot;
mod tags;
mod timing;
mod types;
mod watch;
mod worker;

pub use actions::ACTIONS;
pub use provider::{AwsProvider, AwsReaper};
pub use settings::{
    AwsArguments, AwsProviderSettings, ConfidentialVm, InstanceProfile, Interfaces, InvalidSetting,
    InvalidSettings, LaunchTemplate, Market, Tenancy,
};
pub use timing::Timing;
