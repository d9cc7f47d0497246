//! What the providers have alike whose instances run on this node itself: a state directory with one directory per
//! instance, ordered by one lock.
//!
//! ```text
//! STATE/lock                     orders all calls, of all processes
//! STATE/PREFIX-HASH/record.json  what the instance is; on disk before it starts
//! STATE/PREFIX-HASH/user-data    the boot payload; removed as soon as the guest has it
//! ```

mod console;
mod end;
mod error;
mod files;
mod lock;
mod name;

pub use console::tail;
pub use end::terminate;
pub use error::LocalError;
pub use files::{
    make_private_directory, network_document, read_record, remove_directory, remove_file, write_private,
    write_record,
};
pub use lock::{StateLock, open_lock};
pub use name::{InstanceName, Names};

/// The file of a state directory that is its lock.
pub const LOCK: &str = "lock";

/// The file of an instance's directory that holds its boot payload, which holds a secret.
pub const USER_DATA: &str = "user-data";
