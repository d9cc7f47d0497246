//! The pod network: one unicast VXLAN per pod, and its two ends.
