//! Peer pod VMs as QEMU processes on the worker node itself.
//!
//! For one machine: development, tests, demonstrations, and nodes that are large enough to hold their VMs.
//!
//! The state directory holds one directory per instance, named by a hash of the launch token, so that
//! launching twice meets the first launch's directory. What makes every call safe against crashes:
//!
//! - One file lock over the state directory orders all calls, of all processes. Whoever holds it may take
//!   a directory without a started VM for the remains of a crash, and clean it away.
//! - The instance's record, with owner and address, is on disk before QEMU starts.
//! - The QEMU process holds a file lock from its first instruction to its last: the file `alive` is its
//!   standard output. Whether a VM lives is asked of the kernel, never inferred from a process number, and
//!   a VM whose launcher died in the middle is found by the same file.
//! - The tap device belongs to the QEMU process (it is its standard input) and vanishes with it. So does the scratch
//!   disk, which has no name on the node.
//!
//! ```text
//! STATE/lock                  orders all calls
//! STATE/accelerator.json      what the KVM probe found
//! STATE/qemu-HASH/record.json token, owner, address, phase
//! STATE/qemu-HASH/alive       locked while the VM lives
//! STATE/qemu-HASH/console.log the guest's serial console, bounded
//! STATE/qemu-HASH/qemu.log    what QEMU itself says
//! STATE/qemu-HASH/user-data   the boot payload; removed as soon as QEMU has read it
//! STATE/qemu-HASH/entropy     random bytes for a VM that is resumed; likewise
//! ```
//!
//! VMs of the default size are resumed from one that was saved, where the settings say where to (`template`).
//!
//! The VMs are no children that end with the adaptor: each has its own process group, and a restarted
//! adaptor finds them by their directories. Nor do they end with the adaptor's container ([`Placement::Node`]).

mod accelerator;
mod console;
mod error;
mod instance;
mod lock;
mod machine;
mod placement;
mod process;
mod provider;
mod qmp;
mod scratch;
mod settings;
mod shape;
mod spawn;
mod tap;
mod template;
mod unsafe_inherit;
mod unsafe_leave;
mod unsafe_loop;
mod unsafe_tap;

pub use provider::QemuProvider;
pub use settings::{
    Accelerator, InvalidAccelerator, NodePlacement, Placement, QemuSettings, ScratchSettings,
};
