//! EC2 and what belongs to it, on loopback, for tests of what speaks to AWS; and instances, for tests of what runs on them.
//! [`Cloud`] is both together: EC2 whose instances run.

mod account;
mod addresses;
mod cloud;
mod emulator;
mod faults;
mod images;
mod instances;
mod limits;
mod machine;
mod metadata;
mod moto;
mod snapshot;
mod spot;
mod subnet;
mod time;
mod worker;
mod xml;

pub use cloud::{Cloud, CloudSettings};
pub use emulator::{Emulator, Fault, REGION, Request};
pub use images::ImageRegistry;
pub use machine::{Machine, MachineInterface, MachineSettings, Processors};
pub use metadata::{InstanceFacts, InterfaceFacts, METADATA_ADDRESS, MetadataService};
pub use moto::Moto;
pub use subnet::{Subnet, SubnetSettings};
pub use time::{Answer, TIME_ADDRESS, TimeServer};
