//! The running test bed, shown as a shell session.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::process::{output, root, run};

/// The bed that `make up` left running.
pub(super) struct Bed {
    kubectl: String,
    enter: String,
}

impl Bed {
    pub(super) fn connect() -> Result<Self> {
        let folder = root().join("target/testbed");
        ensure!(
            folder.join("kubectl").exists(),
            "the test bed is not up: run `make up`"
        );
        let path = |name: &str| folder.join(name).display().to_string();
        Ok(Self {
            kubectl: path("kubectl"),
            enter: path("enter"),
        })
    }

    /// Runs kubectl and gives what it printed.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(&self.kubectl).args(arguments))
    }

    /// Runs kubectl for its effect.
    pub(super) fn quiet(&self, arguments: &[&str]) -> Result<()> {
        self.kubectl(arguments).map(drop)
    }

    /// Shows the command and what it prints.
    pub(super) fn show(&self, arguments: &[&str]) -> Result<()> {
        anstream::println!("\x1b[2m$ kubectl {}\x1b[0m", arguments.join(" "));
        run(Command::new(&self.kubectl).args(arguments).stdin(Stdio::null()))
    }

    /// Runs a command on the node and gives what it printed.
    pub(super) fn on_node(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(&self.enter).args(arguments))
    }

    /// Shows a command on the node and what it prints.
    pub(super) fn show_on_node(&self, arguments: &[&str]) -> Result<()> {
        anstream::println!("\x1b[2mnode$ {}\x1b[0m", arguments.join(" "));
        run(Command::new(&self.enter).args(arguments).stdin(Stdio::null()))
    }

    /// `kubectl apply -f -`, shown under the name of a file.
    pub(super) fn apply(&self, file: &str, objects: &str) -> Result<()> {
        anstream::println!("\x1b[2m$ kubectl apply -f {file}\x1b[0m");
        let mut child = Command::new(&self.kubectl)
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        child
            .stdin
            .take()
            .context("kubectl has no input")?
            .write_all(objects.as_bytes())?;
        ensure!(child.wait()?.success(), "kubectl apply failed");
        Ok(())
    }

    /// The id of the sandbox that runs the pod `name`.
    pub(super) fn sandbox_of(&self, name: &str) -> Result<String> {
        let script = format!(
            "cd /run/containerd/io.containerd.runtime.v2.task/k8s.io && \
             for s in $(ls /run/peerpod/pods); do grep -q '\"{name}\"' $s/config.json && echo $s; done; true"
        );
        let found = self.on_node(&["sh", "-c", &script])?;
        Ok(found
            .lines()
            .next()
            .context("no sandbox of the pod is on the node")?
            .to_owned())
    }

    /// The line of `ps` that shows the VM.
    pub(super) fn vm_process(&self) -> Result<String> {
        let script = "ps -eo pid,rss,etime,args --no-headers | grep '[q]emu-system' | cut -c1-150";
        let found = self.on_node(&["sh", "-c", script])?;
        ensure!(!found.is_empty(), "no VM is on the node");
        Ok(found)
    }
}
