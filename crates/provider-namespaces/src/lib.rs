//! The guest program in namespaces instead of a VM. **For benchmarks and tests only: it isolates nothing.**
//!
//! Shim, adaptor, tunnel and guest are the real ones; only the kernel is this node's, and the boot takes no time. So
//! what is seen is what the stack itself costs, on a machine where VMs are emulated or there are none.
//!
//! An instance is a control group (version 2). The launcher enters it, leaves its namespaces, connects the new network
//! namespace with the bridge, and starts the guest as the first process of a pid namespace, on a root file system that
//! holds nothing else. Whether the instance lives is asked of the kernel: the group has processes. Its end is one write.
//!
//! One file lock over the state directory orders all calls, of all processes. The launcher inherits it as its standard
//! input and keeps it until the guest runs: a launch that is cancelled, or whose adaptor is killed, is completed before
//! any other call looks. So a directory without processes is either one whose guest has ended (there is a console) or
//! the remains of a crash.
//!
//! ```text
//! STATE/lock              orders all calls
//! STATE/ns-HASH/record.json   token, owner, address
//! STATE/ns-HASH/order.json    what the launcher is told
//! STATE/ns-HASH/network       the guest's address
//! STATE/ns-HASH/user-data     the boot payload; removed as soon as the guest has its copy
//! STATE/ns-HASH/console.log   what the guest says; there once it was started
//! STATE/ns-HASH/launcher.log  why the launcher failed
//! CGROUP/ns-HASH          the instance
//! ```

mod cgroup;
mod error;
mod instance;
mod order;
mod provider;
mod settings;

pub use order::{CONSOLE, LaunchOrder, NETWORK, ORDER, USER_DATA};
pub use provider::NamespacesProvider;
pub use settings::NamespacesSettings;
