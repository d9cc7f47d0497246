//! The running test bed, as a shell would use it.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

/// Where everything of ours is installed.
pub const NAMESPACE: &str = "openshift-sandboxed-containers-operator";
/// Below the folder of pods' logs.
const ADAPTOR_LOGS: &str = "*_peerpodconfig-ctrl-caa-daemon-*/cloud-api-adaptor/*.log";

/// The test bed of this checkout.
pub struct Bed {
    directory: PathBuf,
}

/// What a command printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit code; 128 + signal where a signal ended it.
    pub code: i32,
}

impl Output {
    /// Standard output without the last line break; panics where the command failed.
    #[track_caller]
    pub fn text(&self) -> String {
        assert_eq!(
            self.code, 0,
            "the command failed\nstdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stdout.trim_end_matches(['\n', '\r']).to_owned()
    }
}

impl Bed {
    /// The bed that `make up` started; panics with what to do where there is none.
    pub fn connect() -> Self {
        let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/testbed"));
        assert!(
            directory.join("kubectl").exists(),
            "the test bed is not up: run `make up`, or `make test` for everything"
        );
        Self { directory }
    }

    /// `kubectl ARGS…`
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        run(self.command("kubectl", arguments), "")
    }

    /// `kubectl ARGS… < INPUT`
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Output {
        run(self.command("kubectl", arguments), input)
    }

    /// A `kubectl` that runs on while the test does something else.
    pub fn kubectl_in_background(&self, arguments: &[&str]) -> std::process::Child {
        self.command("kubectl", arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl of the test bed starts")
    }

    /// A command in the node's namespaces.
    pub fn enter(&self, arguments: &[&str]) -> Output {
        run(self.command("enter", arguments), "")
    }

    /// The processes of a daemon, of the node or in a pod; its name as the kernel keeps it, cut to 15 characters. A process that
    /// a daemon has started and that is not yet another program does not count, nor does the bed's second adaptor, for
    /// benchmarks.
    pub fn daemons(&self, name: &str) -> Vec<String> {
        let script = format!(
            "for p in $(pgrep --exact {name}); do \
             parent=$(ps -o ppid= -p $p) && [ \"$(cat /proc/$((parent))/comm)\" != {name} ] && \
             ! grep -q CLOUD_PROVIDER=namespaces /proc/$p/environ && echo $p; done"
        );
        let found = self.enter(&["sh", "-c", &script]);
        found.stdout.lines().map(str::to_owned).collect()
    }

    /// How many scratch disks of VMs the node has: files without names in the bed's folder, behind loop devices.
    pub fn scratch_disks(&self) -> usize {
        // By the folder's name, as the adaptor's container sees it; it is that of the bed, for other beds have theirs.
        let folder = format!("/scratch-{}/", self.control_group());
        let devices = fs::read_dir("/sys/block").expect("/sys is mounted").flatten();
        devices
            .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok())
            .filter(|file| file.contains(&folder))
            .count()
    }

    /// How many VMs run on the node.
    pub fn machines(&self) -> usize {
        let found = self.enter(&["pgrep", "--count", "[q]emu-system"]);
        found.stdout.trim().parse().expect("pgrep counts")
    }

    /// The name of the control group of all that the bed runs.
    fn control_group(&self) -> String {
        let plan = fs::read(self.directory.join("state/plan.json")).expect("a bed has a plan");
        let plan: Value = serde_json::from_slice(&plan).expect("the plan is JSON");
        plan["cgroup"].as_str().expect("the plan has a name").to_owned()
    }

    /// All that the adaptor has logged, as far as the node keeps it, in the order of its starts.
    pub fn adaptor_log(&self) -> String {
        let script = format!(
            "cd {} && cat $(ls -tr {ADAPTOR_LOGS}) | cut -d ' ' -f 4-",
            self.program("state/log/pods")
        );
        self.enter(&["sh", "-c", &script]).stdout
    }

    /// All that a daemon of the node has logged.
    pub fn log(&self, name: &str) -> String {
        let path = self.directory.join(format!("state/log/{name}.log"));
        fs::read_to_string(path).expect("a daemon of the bed has a log")
    }

    /// The path of a program of the bed, for use inside another command line.
    pub fn program(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Applies one object.
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        self.kubectl_with_input(&["apply", "-f", "-"], &object.to_string())
            .text();
    }

    /// One object as the API server has it, or `None` where it is not there.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.kubectl(&["get", kind, name, "--output", "json", "--ignore-not-found"]);
        (output.code == 0 && !output.stdout.trim().is_empty())
            .then(|| serde_json::from_str(&output.stdout).expect("kubectl prints JSON"))
    }

    /// The messages of all events of one object, newest last.
    pub fn events(&self, name: &str) -> String {
        let selector = format!("involvedObject.name={name}");
        self.kubectl(&[
            "get",
            "events",
            "--field-selector",
            &selector,
            "--output",
            "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
        ])
        .text()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.directory.join(program));
        command.args(arguments);
        command
    }
}

pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a program of the test bed starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program that ends without reading its input is no failure of the test.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child
        .wait_with_output()
        .expect("the program's output can be read");
    writer.join().expect("the writer does not panic");
    use std::os::unix::process::ExitStatusExt;
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output
            .status
            .code()
            .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
    }
}
