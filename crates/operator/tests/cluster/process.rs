//! The operator as a process.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use peerpods_testkit::wait_for;

/// Long enough for a program that is built without optimizations, on a machine that builds others.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running operator; it is killed when this is dropped.
pub(crate) struct OperatorProcess {
    child: Child,
    port: u16,
}

impl OperatorProcess {
    /// Starts one; it may not lead yet.
    pub(crate) fn start(kubeconfig: &Path, pod: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(kubeconfig.with_extension(pod))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_peerpods-operator"))
            .arg("run")
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAME", pod)
            .env("RELATED_IMAGE_CAA", "adaptor:1")
            .env("RELATED_IMAGE_PEERPODS_WEBHOOK", "webhook:1")
            .env("RELATED_IMAGE_PEERPODS_NODE_RUNTIME", "operator:1")
            .env("RELATED_IMAGE_PEERPODS_VM_IMAGE", "vm-image:1")
            .env("HEALTH_ADDRESS", format!("127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the operator can be started");
        Self { child, port }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as Kubernetes does; gives whether it ended well.
    pub(crate) fn terminate(mut self) -> bool {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }

    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Waits until it leads.
    pub(crate) fn lead(self) -> Self {
        wait_for("the operator leads", START_LIMIT, || {
            self.figure("peerpods_operator_leader 1").map(drop)
        });
        self
    }

    fn figure(&self, line: &str) -> Result<String, String> {
        let text = self.get("/metrics").ok_or("it does not answer")?;
        if text.lines().any(|one| one == line) {
            Ok(text)
        } else {
            Err(text)
        }
    }

    /// How many actions it has done so far: each is a call of the API server.
    pub(crate) fn actions(&self) -> u64 {
        let text = self.get("/metrics").expect("it answers");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("peerpods_operator_actions_total{"));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Resident memory that is its own, in KiB: pages of the program's file are not, which a release has few of.
    pub(crate) fn resident(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        (field("RssAnon:"), field("VmRSS:"))
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        // One that ended is waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
