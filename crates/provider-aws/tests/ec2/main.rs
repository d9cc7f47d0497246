//! The provider against EC2 on loopback: moto's server behind the test kit's proxy.
#![allow(clippy::unwrap_used)]

mod addresses;
mod bed;
mod conformance;
mod doubt;
mod ends;
mod launch;
mod prerequisites;
mod seeded;
mod start;
