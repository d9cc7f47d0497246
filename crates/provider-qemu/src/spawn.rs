//! From a machine's description to a QEMU process.

use std::{fs::File, os::fd::OwnedFd, path::Path, process::Stdio};

use tokio::process::{Child, Command};

use crate::{
    QemuSettings, error::QemuError, lock, machine::Machine, scratch::ScratchDisk, tap, unsafe_inherit,
};

/// Files of a machine's directory, beside those that it reads.
pub(crate) const ALIVE: &str = "alive";
pub(crate) const QEMU_LOG: &str = "qemu.log";
pub(crate) const CONSOLE: &str = "console.log";

/// Starts QEMU in `directory`, with a tap device of the name `tap` and, where the settings ask for it, a scratch disk. A
/// `state` that it is to take in is inherited under the number that it has here. QEMU runs where the settings place it.
pub(crate) async fn spawn(
    settings: &QemuSettings,
    directory: &Path,
    tap: &str,
    machine: Machine<'_>,
    state: Option<OwnedFd>,
) -> Result<Child, QemuError> {
    let tap = tap::create(tap, &settings.bridge, settings.mtu).await?;
    let alive = lock::claim(&directory.join(ALIVE))?
        .ok_or_else(|| QemuError::Ended("another process holds its lock".to_owned()))?;
    let log = directory.join(QEMU_LOG);
    let log = File::create(&log).map_err(QemuError::file("make", log))?;
    let placement = &settings.placement;
    let scratch = settings.scratch.as_ref();
    let scratch = scratch
        .map(|scratch| ScratchDisk::make(scratch, placement))
        .transpose()?;
    let machine = Machine {
        plan: &machine.plan.seen_from(placement),
        scratch: scratch.as_ref().map(ScratchDisk::descriptor),
        ..machine
    };
    let mut command = Command::new(&settings.binary);
    command
        .args(machine.arguments())
        .stdin(Stdio::from(tap))
        .stdout(Stdio::from(alive))
        .stderr(Stdio::from(log))
        .process_group(0);
    if let Some(scratch) = scratch {
        scratch.pass_to(&mut command);
    }
    if let Some(state) = state {
        unsafe_inherit::inherit(&mut command, state);
    }
    placement.settle(&mut command, directory)?;
    // What QEMU inherited is QEMU's alone once `command` is gone.
    command.spawn().map_err(|source| QemuError::Spawn {
        binary: settings.binary.clone(),
        source,
    })
}
