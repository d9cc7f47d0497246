//! The guest on EC2: its address, its boot payload, and the whole of it, booted from the disk that is published.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::time::Duration;

mod address;
mod clock;
mod disk;
mod external;
mod instance;
mod metadata_access;
mod user_data;

/// The longest that a test waits for anything that takes moments.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(60);
