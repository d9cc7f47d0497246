//! A place for a test that changes networks and mounts: namespaces that go when it ends.
#![allow(clippy::unwrap_used)] // A test stops where its place fails.

use std::{
    thread,
    time::{Duration, Instant},
};

use rtnetlink::{LinkBridge, new_connection};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::unsafe_namespaces;

/// How often [`until`] looks at its condition, which costs little.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Runs a story on a thread with network and mount namespaces of its own. Without the rights for it says so, and passes.
pub fn in_namespaces<Story: Future<Output = ()>>(story: impl FnOnce() -> Story + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: making namespaces needs root");
        return;
    }
    thread::scope(|scope| {
        let told = scope.spawn(|| {
            unsafe_namespaces::enter_new().unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            run_async(story());
        });
        told.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Runs a future to its end on this thread, in whose namespaces its sockets are made.
pub fn run_async<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Makes a bridge in the network namespace of this thread.
pub async fn make_bridge(name: &str) {
    let (connection, handle, _) = new_connection().unwrap();
    tokio::spawn(connection);
    let bridge = LinkBridge::new(name).up().build();
    handle.link().add(bridge).execute().await.unwrap();
}

/// How many network devices of this thread's namespace have names that begin with `prefix`.
pub fn devices(prefix: &str) -> usize {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let lines = text.lines();
    lines.filter(|line| line.trim_start().starts_with(prefix)).count()
}

/// Waits until `condition` holds, at most for `limit`; other tasks of the story go on meanwhile.
pub async fn until(what: &str, limit: Duration, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
