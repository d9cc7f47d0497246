//! Installing, repeating, failing and removing, on a node in a temporary folder.

use std::{cell::RefCell, env, fs, path::PathBuf, process::Command, time::Duration};

use peerpods_api::names::node_folders;

use super::{
    Extent, NodeRoot, NodeRuntimeError, RESTART_DUE, RestartWay, SHIM, Work, configuration::ContainerRuntime,
    perform, perform_with, restart::Restart,
};

/// A node, and whether its container runtime starts with what it is told.
struct TestNode {
    folder: tempfile::TempDir,
    /// The results of the next restarts; when there are none left, they succeed.
    restarts_fail: RefCell<Vec<bool>>,
    restarts: RefCell<usize>,
}

impl Restart for TestNode {
    fn restart(&self, runtime: ContainerRuntime) -> Result<(), NodeRuntimeError> {
        *self.restarts.borrow_mut() += 1;
        match self.restarts_fail.borrow_mut().pop() {
            Some(true) => Err(NodeRuntimeError::Silent {
                runtime: runtime.name(),
                socket: "/s".into(),
                limit: Duration::ZERO,
            }),
            Some(false) | None => Ok(()),
        }
    }
}

impl TestNode {
    fn with_file(path: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("shim"), "shim 1").unwrap();
        let node = Self {
            folder,
            restarts_fail: RefCell::default(),
            restarts: RefCell::default(),
        };
        node.write(path, text);
        node
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(format!("root{path}"))
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn perform(&self, work: Work) -> Result<(), NodeRuntimeError> {
        let root = NodeRoot::new(self.folder.path().join("root"));
        perform_with(&root, &self.folder.path().join("shim"), self, work)
    }

    fn restarts(&self) -> usize {
        *self.restarts.borrow()
    }

    /// All files below the node's root.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &std::path::Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), found);
                } else {
                    found.push(entry.path().display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.at(""), &mut found);
        let root = self.at("").display().to_string();
        let mut found: Vec<_> = found
            .iter()
            .map(|path| path.replacen(root.trim_end_matches('/'), "", 1))
            .collect();
        found.sort();
        found
    }
}

const MAIN: &str = "/etc/containerd/config.toml";
const DROP_IN: &str = "/etc/containerd/conf.d/50-kata-remote.toml";
const OLD: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"pause\"\n";
const NEW: &str = "imports = ['/etc/containerd/conf.d/*.toml'] # more\nversion = 3\n[plugins]\n";

#[test]
fn the_runtime_is_installed_once_and_restarted_once() {
    let node = TestNode::with_file(MAIN, OLD);
    node.perform(Work::Install).unwrap();
    let text = node.read(MAIN);
    assert!(text.starts_with(OLD), "{text}");
    assert!(
        text.contains("[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata-remote]"),
        "{text}"
    );
    assert_eq!(node.read(SHIM), "shim 1");
    assert!(!node.at(RESTART_DUE).exists());
    node.perform(Work::Install).unwrap();
    assert_eq!((node.restarts(), node.read(MAIN)), (1, text));
}

#[test]
fn removal_leaves_every_file_as_it_was() {
    for (main, text) in [
        (MAIN, OLD),
        (MAIN, NEW),
        ("/etc/containerd/other", ""),
        ("/etc/crio/crio.conf", "[crio]\n"),
    ] {
        let node = TestNode::with_file(main, text);
        let before = node.files();
        node.perform(Work::Install).unwrap();
        assert_ne!(node.files(), before);
        node.perform(Work::Remove).unwrap();
        assert_eq!((node.files(), node.read(main).as_str()), (before, text));
        assert!(!node.at("/opt/peerpods").exists());
        node.perform(Work::Remove).unwrap();
        assert_eq!(node.restarts(), 2);
    }
}

#[test]
fn containerd_that_imports_a_folder_has_a_file_there() {
    let node = TestNode::with_file(MAIN, NEW);
    node.perform(Work::Install).unwrap();
    assert_eq!(node.read(MAIN), NEW);
    assert!(
        node.read(DROP_IN)
            .starts_with("version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".containerd")
    );
}

#[test]
fn crio_has_a_file_in_its_folder() {
    let node = TestNode::with_file("/etc/crio/crio.conf", "[crio]\n");
    node.perform(Work::Install).unwrap();
    let text = node.read("/etc/crio/crio.conf.d/50-kata-remote");
    assert!(
        text.contains("[crio.runtime.runtimes.kata-remote]") && text.contains("runtime_type = \"vm\""),
        "{text}"
    );
    // CRI-O leaves out a handler of this type whose program is called otherwise.
    let program = text.lines().find_map(|line| line.strip_prefix("runtime_path = "));
    let program = program.unwrap().trim_matches('"').rsplit('/').next().unwrap();
    assert!(
        program.starts_with("containerd-shim-") && program.ends_with("-v2"),
        "{program}"
    );
}

#[test]
fn the_shim_alone_comes_and_goes_without_a_restart() {
    let node = TestNode::with_file("/etc/crio/crio.conf.d/50-kata-remote", "of MachineConfig");
    let (before, root) = (node.files(), NodeRoot::new(node.folder.path().join("root")));
    let perform = |work| {
        let shim = node.folder.path().join("shim");
        perform(&root, &shim, RestartWay::Auto, work, Extent::Shim).unwrap();
    };
    perform(Work::Install);
    assert_eq!(node.read(SHIM), "shim 1");
    perform(Work::Remove);
    assert_eq!(node.files(), before);
    assert_eq!(
        node.read("/etc/crio/crio.conf.d/50-kata-remote"),
        "of MachineConfig"
    );
}

#[test]
fn the_adaptors_folder_goes_when_it_remembers_nothing() {
    let node = TestNode::with_file(MAIN, OLD);
    node.perform(Work::Install).unwrap();
    fs::create_dir_all(node.at(node_folders::SCRATCH)).unwrap();
    node.write(&format!("{}/0123/memory", node_folders::TEMPLATES), "a VM");
    node.perform(Work::Remove).unwrap();
    assert!(!node.at(node_folders::JOURNAL).exists());
}

#[test]
fn what_an_adaptor_remembers_stays() {
    let node = TestNode::with_file(MAIN, OLD);
    let journal = format!("{}/sandboxes.redb", node_folders::JOURNAL);
    node.write(&journal, "a VM");
    let template = format!("{}/0123/memory", node_folders::TEMPLATES);
    node.write(&template, "another");
    node.perform(Work::Install).unwrap();
    node.perform(Work::Remove).unwrap();
    assert_eq!([node.read(&journal), node.read(&template)], ["a VM", "another"]);
}

#[test]
fn an_adaptor_that_ends_is_waited_for() {
    let node = TestNode::with_file(MAIN, OLD);
    node.perform(Work::Install).unwrap();
    let journal = format!("{}/sandboxes.redb", node_folders::JOURNAL);
    node.write(&journal, "");
    let held = fs::File::open(node.at(&journal)).unwrap();
    held.try_lock().unwrap();
    let (shim, path) = (node.at(SHIM), node.at(&journal));
    // It goes on until the rest is gone.
    let adaptor = std::thread::spawn(move || {
        while shim.exists() {
            std::thread::yield_now();
        }
        fs::remove_file(path).unwrap();
        drop(held);
    });
    node.perform(Work::Remove).unwrap();
    adaptor.join().unwrap();
    assert!(!node.at(node_folders::JOURNAL).exists());
}

#[test]
fn a_new_shim_is_placed_without_a_restart() {
    let node = TestNode::with_file(MAIN, OLD);
    node.perform(Work::Install).unwrap();
    let running = fs::File::open(node.at(SHIM)).unwrap();
    fs::write(node.folder.path().join("shim"), "shim 2").unwrap();
    node.perform(Work::Install).unwrap();
    assert_eq!((node.read(SHIM).as_str(), node.restarts()), ("shim 2", 1));
    assert_eq!(std::io::read_to_string(running).unwrap(), "shim 1");
}

#[test]
fn a_restart_that_was_due_when_it_was_killed_is_made_up_for() {
    let node = TestNode::with_file(MAIN, OLD);
    node.perform(Work::Install).unwrap();
    node.write(RESTART_DUE, "");
    node.perform(Work::Install).unwrap();
    assert_eq!(node.restarts(), 2);
}

#[test]
fn a_configuration_that_the_runtime_does_not_start_with_is_taken_back() {
    let node = TestNode::with_file(MAIN, OLD);
    // The last one is the first to be tried.
    node.restarts_fail.replace(vec![false, true]);
    let error = node.perform(Work::Install).unwrap_err().to_string();
    assert!(
        error.contains("containerd does not start with the configuration of peerpods"),
        "{error}"
    );
    assert_eq!((node.read(MAIN).as_str(), node.restarts()), (OLD, 2));
    assert!(!node.at(RESTART_DUE).exists());
    node.restarts_fail.replace(vec![true, true]);
    let error = node.perform(Work::Install).unwrap_err().to_string();
    assert!(error.contains("with or without peerpods"), "{error}");
    assert!(node.at(RESTART_DUE).exists());
}

#[test]
fn a_handler_of_somebody_else_and_a_broken_block_are_not_touched() {
    let other = format!("{OLD}[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.\"kata-remote\"]\n");
    let node = TestNode::with_file(MAIN, &other);
    let error = node.perform(Work::Install).unwrap_err().to_string();
    assert!(error.contains("not of peerpods"), "{error}");
    let node = TestNode::with_file(MAIN, OLD);
    node.perform(Work::Install).unwrap();
    let broken = node.read(MAIN).replace("# END peerpods\n", "");
    node.write(MAIN, &broken);
    let error = node.perform(Work::Remove).unwrap_err().to_string();
    assert!(error.contains("remove them"), "{error}");
    assert_eq!(node.read(MAIN), broken);
}

#[test]
fn a_node_without_a_container_runtime_says_so() {
    let node = TestNode::with_file("/etc/hostname", "one");
    let error = node.perform(Work::Install).unwrap_err().to_string();
    assert!(error.contains("neither /etc/crio nor containerd"), "{error}");
}

/// What containerd makes of its configuration, all parts of it joined; none where there is no containerd.
fn read_by_containerd(node: &TestNode) -> Option<String> {
    let Some(programs) = env::var_os("PEERPODS_TEST_KUBERNETES") else {
        eprintln!("skipped: PEERPODS_TEST_KUBERNETES names no folder with containerd");
        return None;
    };
    // Its folder is that of this machine.
    let imports = node.at("/etc/containerd/conf.d").display().to_string();
    let copy = node.at("/copy.toml");
    fs::write(&copy, node.read(MAIN).replace("/etc/containerd/conf.d", &imports)).unwrap();
    let mut containerd = Command::new(PathBuf::from(programs).join("containerd"));
    let output = containerd
        .arg("--config")
        .arg(copy)
        .args(["config", "dump"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn containerd_itself_finds_the_handler_and_keeps_what_it_had() {
    let new = format!("{NEW}[plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = 'pause'\n");
    for (file, text, had) in [
        (MAIN, OLD, "'pause'"),
        (MAIN, &new, "'pause'"),
        ("/etc/containerd/other", "", ""),
    ] {
        let node = TestNode::with_file(file, text);
        node.perform(Work::Install).unwrap();
        let Some(read) = read_by_containerd(&node) else {
            return;
        };
        assert!(read.contains("containerd.runtimes.kata-remote]"), "{read}");
        assert!(
            read.contains(&format!("runtime_path = '{SHIM}'")) && read.contains(had),
            "{read}"
        );
    }
}
