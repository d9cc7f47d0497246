//! The requests that are not answered.
//!
//! No stock shim sends them to the VM of a peer pod, or each goes on without. What the generated code says for a request
//! without an answer is "not found", which shims take for a missing container or process; so these are taken out of the
//! dispatch table, and the server says that they are not implemented.

use std::collections::HashMap;

use ttrpc::asynchronous::Service;

const AGENT_SERVICE: &str = "grpc.AgentService";

const METHODS: [&str; 13] = [
    // The pod's network comes with the boot payload, and its size with the VM's type.
    "UpdateInterface",
    "UpdateRoutes",
    "AddARPNeighbors",
    "OnlineCPUMem",
    "MemHotplugByProbe",
    "AddSwap",
    "UpdateEphemeralMounts",
    "ResizeVolume",
    // Only a VM that was resumed from a template needs them.
    "ReseedRandomDev",
    "SetGuestDateTime",
    // Rules in the guest: nothing reads them yet, and to accept what nobody enforces is worse than to refuse it.
    "SetPolicy",
    "GetIPTables",
    "SetIPTables",
];

/// Takes them out of the agent's dispatch table.
pub(super) fn leave_out(services: &mut HashMap<String, Service>) {
    if let Some(agent) = services.get_mut(AGENT_SERVICE) {
        agent.methods.retain(|name, _| !METHODS.contains(&name.as_str()));
    }
}
