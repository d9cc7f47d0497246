//! Network namespaces for one test, in a thread that has left the machine's: they go when it ends.

use std::{future::Future, os::fd::AsFd, path::PathBuf, process::Command, thread};

use peerpods_testkit::namespaces::in_namespaces;
use peerpods_tunnel::network::create_namespace;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A node with a pod's namespace, and a VM that is reached over a wire.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    /// Runs `story` on a node of its own. Without the rights for it says so and runs nothing.
    pub(crate) fn run<F: Future<Output = ()>>(story: impl FnOnce(Lab) -> F + Send) {
        in_namespaces(|| {
            story(Lab {
                folder: tempfile::tempdir().unwrap(),
            })
        });
    }

    /// The file of a namespace; made on first use.
    pub(crate) fn netns(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        create_namespace(&path).unwrap();
        path
    }

    /// `ip …` on the node.
    #[track_caller]
    pub(crate) fn ip(&self, arguments: &str) -> String {
        run(Command::new("ip").args(arguments.split(' ')))
    }

    /// `ip …` in a namespace.
    #[track_caller]
    pub(crate) fn ip_in(&self, name: &str, arguments: &str) -> String {
        let enter = format!("--net={}", self.netns(name).display());
        run(Command::new("nsenter")
            .arg(enter)
            .arg("ip")
            .args(arguments.split(' ')))
    }

    /// Runs something on a thread inside a namespace, as the VM does for itself.
    pub(crate) fn inside<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.netns(name)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let _ = rustix::mount::unmount(entry.unwrap().path(), rustix::mount::UnmountFlags::DETACH);
        }
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
