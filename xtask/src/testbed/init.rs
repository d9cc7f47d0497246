//! PID 1 of the bed. It makes the node out of empty namespaces, then keeps its daemons running.

mod bring_up;
mod daemons;
mod links;
mod mounts;
mod pki;
mod progress;
mod supervisor;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use self::progress::step;
use super::{
    cgroups, chart, holder,
    layout::{CONTAINERD, NODE, NODE_CREDENTIALS, State},
    plan::Plan,
};

/// `up` notes at once whom it started; an `up` that was ended before that leaves no bed that nobody knows.
const NOTED_LIMIT: Duration = Duration::from_secs(10);
const PAGE: &str = "the outside world\n";

/// Runs as PID 1 of new namespaces, or, with `bring_up`, as its child.
pub(crate) fn init(folder: &Path, bring_up: bool) -> Result<()> {
    let state = State::from(folder);
    let result = if bring_up { child(&state) } else { pid1(&state) };
    if let Err(error) = &result {
        fs::write(state.failed(), format!("{error:#}\n")).context("cannot tell why the start failed")?;
    }
    result
}

fn pid1(state: &State) -> Result<()> {
    ensure!(
        std::process::id() == 1,
        "this is PID 1 of the test bed; `up` starts it"
    );
    let start = Instant::now();
    while !holder::record(state).exists() {
        ensure!(
            start.elapsed() < NOTED_LIMIT,
            "the `up` that started this bed is gone"
        );
        sleep(Duration::from_millis(5));
    }
    let plan = Plan::read(state)?;
    let path = plan.path(state);
    step(state, "mounts, links and cgroups", || {
        rustix::system::sethostname(NODE.as_bytes()).context("cannot set the host name")?;
        mounts::prepare(state)?;
        links::prepare()?;
        cgroups::make(&plan.cgroup)?;
        cgroups::mount_second_version(&plan.cgroup)
    })?;
    step(state, "certificates and configuration", || {
        fs::create_dir_all(state.file("outside"))?;
        fs::write(state.file("outside/index.html"), PAGE)?;
        pki::prepare(state)?;
        plan.configure(state)?;
        place(state, "node-credentials.json", NODE_CREDENTIALS)?;
        place(state, "containerd.toml", CONTAINERD)
    })?;
    let program: PathBuf = std::env::current_exe().context("cannot tell which program this is")?;
    // Waited for by the supervisor, with all other processes; what it has to tell is in its files.
    Command::new(program)
        .args([
            "testbed-init".as_ref(),
            "--bring-up".as_ref(),
            state.0.as_os_str(),
        ])
        .env("PATH", &path)
        .env("KUBECONFIG", state.kubeconfig("admin"))
        .env("KUBECACHEDIR", state.file("kube-cache"))
        .spawn()
        .context("cannot start the second part of the start")?;
    supervisor::supervise(daemons::all(&plan, state), &path, state)
}

/// Copies a configuration file to where the node has it.
fn place(state: &State, name: &str, path: &str) -> Result<()> {
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::copy(state.file("config").join(name), path)
        .map(drop)
        .with_context(|| format!("cannot make {path}"))
}

/// Brings what is installed in the cluster up to date; runs in the bed.
pub(crate) fn refresh(folder: &Path) -> Result<()> {
    let state = State::from(folder);
    chart::refresh(&Plan::read(&state)?, &state)
}

fn child(state: &State) -> Result<()> {
    bring_up::bring_up(&Plan::read(state)?, state)
}
