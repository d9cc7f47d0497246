//! `delete`: what is left to do when the shim died, or never came up.

use std::{fs, time::SystemTime};

use containerd_shim_protos::api::DeleteResponse;

use crate::{
    annotations::{Annotations, ContainerKind},
    bootstrap,
    command_line::CommandLine,
    error::Error,
    events::timestamp,
    hypervisor::Hypervisor,
    info, spec,
};

/// Exit status of a process that nobody can ask any more: as if it had been killed.
const KILLED: u32 = 137;

/// Ends the pod's virtual machine if this was its sandbox, and reports the container as killed.
pub(crate) fn delete(command: &CommandLine) -> Result<(), Error> {
    let bundle = bootstrap::bundle(command)?;
    if owns_machine(&bundle) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::System {
            action: "start the runtime",
            source,
        })?;
        // The answer does not depend on it: a machine without a shim ends itself when its lease lapses,
        // and refusing the cleanup would leave the pod terminating for ever.
        if let Err(error) = runtime.block_on(Hypervisor::from_environment().stop(&command.id)) {
            eprintln!("containerd-shim-kata-v2: {}", error.chain());
        }
        if let Some(socket) = bootstrap::recorded_socket(&bundle) {
            let _ = fs::remove_file(socket);
        }
    }
    info::print_message(&DeleteResponse {
        pid: std::process::id(),
        exit_status: KILLED,
        exited_at: Some(timestamp(SystemTime::now())).into(),
        ..Default::default()
    })
}

/// A container inside a sandbox has no machine of its own. Where the spec is gone the question to the
/// adaptor does no harm, since it ignores ids that it does not know.
fn owns_machine(bundle: &std::path::Path) -> bool {
    let Ok(spec) = spec::load(bundle) else { return true };
    let kind = Annotations(&spec.Annotations).kind();
    !matches!(kind, Ok(ContainerKind::InSandbox(_)))
}
