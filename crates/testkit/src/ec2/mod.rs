//! EC2 and what belongs to it, on loopback, for tests of what speaks to AWS.

mod moto;

pub use moto::Moto;
