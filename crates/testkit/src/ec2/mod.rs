//! EC2 and what belongs to it, on loopback, for tests of what speaks to AWS; and instances, for tests of what runs on them.

mod emulator;
mod images;
mod limits;
mod machine;
mod metadata;
mod moto;
mod subnet;
mod time;
mod xml;

pub use emulator::{Emulator, Fault, REGION, Request};
pub use images::ImageRegistry;
pub use machine::{Machine, MachineSettings};
pub use metadata::{InstanceFacts, METADATA_ADDRESS, MetadataService};
pub use moto::Moto;
pub use subnet::{Subnet, SubnetSettings};
pub use time::{Answer, TIME_ADDRESS, TimeServer};
