//! PID 1 of a peer pod VM: boot, network, agent, images, containers.

pub mod image;
