//! The way onto the node: a test runs itself again there.

use std::{collections::BTreeSet, future::Future, process::Command, time::Duration};

use peerpods_testkit::{Bed, wait_for};

/// Set where a test runs on the node already.
const ON_NODE: &str = "PEERPODS_TEST_ON_NODE";
/// What a stopped sandbox had is gone in a second; a busy machine takes longer.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Runs the test `name` on the node of the test bed.
#[track_caller]
pub(crate) fn run(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(ON_NODE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        return runtime.unwrap().block_on(test);
    }
    // The harness knows tests without the name of their crate.
    let (_, name) = name.split_once("::").unwrap();
    let program = std::env::current_exe().unwrap();
    let on_node = format!("{ON_NODE}=1");
    let output = Bed::connect().enter(&[
        "env",
        &on_node,
        program.to_str().unwrap(),
        "--exact",
        name,
        "--nocapture",
    ]);
    assert!(
        output.code == 0 && output.stdout.contains("1 passed"),
        "on the node:\n{}\n{}",
        output.stdout,
        output.stderr
    );
}

/// `COMMAND…`, on the node; panics where it fails.
#[track_caller]
pub(crate) fn shell(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Waits until nothing on the node bears a sandbox's id: no process, record, folder or mount.
#[track_caller]
pub(crate) fn wait_nothing_left(sandbox: &str) {
    // A pattern that does not match its own text: the search is a process of the node, too.
    let (first, rest) = sandbox.split_at(1);
    let pattern = format!("[{first}]{rest}");
    let script = format!(
        "grep -l -a '{pattern}' /proc/[0-9]*/cmdline; grep '{pattern}' /proc/mounts; \
         grep -l -r -a '{pattern}' /run/peerpod/instances; find /run /sys/fs/cgroup -name '*{pattern}*'"
    );
    wait_for("nothing of the sandbox is left", END_LIMIT, || {
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let left: BTreeSet<_> = text.lines().collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:#?}"))
        }
    });
}
