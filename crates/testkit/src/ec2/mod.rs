//! EC2 and what belongs to it, on loopback, for tests of what speaks to AWS.

mod emulator;
mod moto;
mod xml;

pub use emulator::{Emulator, Fault, REGION, Request};
pub use moto::Moto;
