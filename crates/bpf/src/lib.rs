//! Small eBPF programs: instructions to write them with, and the system call that loads and attaches them.
//!
//! The programs of this project have a few dozen instructions; they need no compiler, and no library to load them. The
//! kernel runs none that it cannot prove harmless.

pub mod instruction;
mod unsafe_bpf;

pub use instruction::Instruction;
pub use unsafe_bpf::{Kind, attach_to_control_group, attach_to_namespace, load, make_socket_map, put_socket};
