//! The test bed: a real Kubernetes on this machine, with peer pods, in namespaces of its own.
//!
//! One process, PID 1 of the new namespaces, runs etcd, the control plane, containerd, the kubelet, a registry and
//! what else a node has. Peer pods are installed as in any cluster, by the chart. All that they do to network, mounts and
//! processes ends with it; the rest is a state folder and a parent cgroup, both named for this checkout, so that two
//! checkouts can have beds at the same time.

mod artifacts;
mod cgroups;
mod chart;
mod debian;
mod ec2;
mod holder;
mod images;
mod init;
mod install;
mod layout;
mod lock;
mod plan;
mod programs;
mod wrappers;

use std::{
    env, fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::{
    artifacts::{Artifacts, Product, Profile, disk_for_arm, prepare, product},
    chart::{CHART, NAMESPACE, kubectl},
    debian::{firmware, promtool},
    init::{init, refresh},
    layout::{image, second_cgroup},
    plan::Provider,
    programs::helm,
};
use self::{chart::Packed, holder::Holder, layout::State, plan::Plan};
use crate::{process::output, tools};

/// A start takes 10 s; a machine busy with something else takes several times that.
const START_LIMIT: Duration = Duration::from_secs(180);
const INTERVAL: Duration = Duration::from_millis(50);
/// How much of a log is shown after a failure, in lines.
const LOG_TAIL: usize = 25;
/// Emulation works on every machine, also where nested virtualization is offered and then fails.
const DEFAULT_ACCELERATOR: &str = "tcg";

/// Whether pods can be made.
pub(crate) fn is_up() -> bool {
    let state = State(layout::state());
    Holder::find(&state).is_some() && state.ready().exists()
}

/// Starts the bed, or brings the programs of one that runs up to date.
pub(crate) fn up(profile: Profile, provider: Provider) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the test bed needs root: it makes namespaces, mounts and cgroups"
    );
    let artifacts = prepare(profile)?;
    if provider == Provider::Aws {
        tools::moto()?;
    }
    let plan = plan(&artifacts, provider)?;
    let start = Instant::now();
    let _lock = lock::take(&layout::folder().join("lock"))?;
    let state = State(layout::state());
    let holder = match Holder::find(&state) {
        Some(holder) if state.failed().exists() => {
            holder.kill()?;
            remove_rest(&state)?;
            begin(&state, &artifacts, &plan)?
        }
        Some(holder) => {
            println!("the test bed runs already");
            bring_up_to_date(&state, &artifacts, plan)?;
            holder
        }
        None => {
            remove_rest(&state)?;
            begin(&state, &artifacts, &plan)?
        }
    };
    wait_ready(&state, holder)?;
    wrappers::write(&state, holder, &artifacts.programs)?;
    println!(
        "up after {:.1} s: {}/kubectl, enter, push-image",
        start.elapsed().as_secs_f64(),
        layout::folder().display()
    );
    Ok(())
}

/// Ends the bed and removes all of it. Without a bed it removes what an earlier one left.
pub(crate) fn down() -> Result<()> {
    let start = Instant::now();
    let _lock = lock::take(&layout::folder().join("lock"))?;
    let state = State(layout::state());
    if let Some(holder) = Holder::find(&state) {
        holder.kill()?;
    }
    remove_rest(&state)?;
    println!(
        "down after {:.1} s: no process, cgroup, mount or file of the test bed is left",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn begin(state: &State, artifacts: &Artifacts, plan: &Plan) -> Result<Holder> {
    for folder in ["bin", "log"] {
        let path = state.file(folder);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    install::programs(state, &artifacts.ours)?;
    install::namespaces_shim(state)?;
    install::xtask(state)?;
    plan.write(state)?;
    Holder::start(state)
}

fn plan(artifacts: &Artifacts, provider: Provider) -> Result<Plan> {
    Ok(Plan {
        programs: artifacts.programs.clone(),
        registry: artifacts.registry.clone(),
        pause: artifacts.pause.clone(),
        busybox: artifacts.busybox.clone(),
        probe: artifacts.probe.clone(),
        product: artifacts.product.iter().map(Packed::from).collect(),
        cgroup: layout::cgroup(),
        provider,
        cli: artifacts.ours.join("peerpodctl"),
        disk: artifacts.disk.clone(),
        firmware: artifacts.firmware.clone(),
        moto: tools::moto_folder()?,
        accelerator: env::var("QEMU_ACCELERATOR").unwrap_or_else(|_| DEFAULT_ACCELERATOR.to_owned()),
    })
}

/// Installs what changed, as a cluster gets a new version: a new adaptor takes up the pods of the old one.
fn bring_up_to_date(state: &State, artifacts: &Artifacts, plan: Plan) -> Result<()> {
    let changed = install::programs(state, &artifacts.ours)?;
    install::xtask(state)?;
    let before = Plan::read(state)?;
    let now = Plan {
        accelerator: before.accelerator.clone(),
        ..plan
    };
    if !is_up() {
        return Ok(());
    }
    let enter = layout::folder().join("enter");
    if changed.contains(&"cloud-api-adaptor") {
        // That of runtime class kata-namespaces, which is no part of the cluster.
        output(Command::new(&enter).args(["pkill", "-TERM", "-x", "-P", "1", "cloud-api-adapt"]))
            .context("cannot restart cloud-api-adaptor")?;
    }
    if now.product != before.product || now.provider != before.provider {
        println!("installing what changed");
        now.write(state)?;
        chart::refresh_from_outside(&enter, state)?;
    }
    Ok(())
}

/// Shows what PID 1 has to tell until pods can be made.
fn wait_ready(state: &State, holder: Holder) -> Result<()> {
    if state.ready().exists() {
        return Ok(());
    }
    let (start, mut shown) = (Instant::now(), 0);
    loop {
        // In this order: what was told before the bed was ready is shown.
        let (ready, lives) = (state.ready().exists(), holder.lives());
        let told = fs::read_to_string(state.progress()).unwrap_or_default();
        // A line that is being written is shown the next time.
        let complete = &told[..told.rfind('\n').map_or(0, |last| last + 1)];
        print!("{}", &complete[shown..]);
        shown = complete.len();
        if ready {
            return Ok(());
        }
        let reason = fs::read_to_string(state.failed()).ok();
        if reason.is_some() || !lives || start.elapsed() > START_LIMIT {
            let reason = reason.unwrap_or_else(|| format!("not ready after {:.0?}", start.elapsed()));
            show_tail(state);
            bail!(
                "{}\nlogs: {}\nremove what there is with `make down`",
                reason.trim_end(),
                state.text("log")
            );
        }
        sleep(INTERVAL);
    }
}

fn show_tail(state: &State) {
    let text = fs::read_to_string(state.log("init")).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LOG_TAIL)..] {
        println!("  | {line}");
    }
}

/// Removes what a bed leaves that is no more, and checks that nothing of it is left.
fn remove_rest(state: &State) -> Result<()> {
    wrappers::remove()?;
    cgroups::remove(&layout::cgroup())?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let folder = state.0.display().to_string();
    let left: Vec<_> = mounts.lines().filter(|line| line.contains(&folder)).collect();
    ensure!(
        left.is_empty(),
        "mounts of the test bed are left:\n{}",
        left.join("\n")
    );
    if state.0.exists() {
        fs::remove_dir_all(&state.0).with_context(|| format!("cannot remove {folder}"))?;
    }
    Ok(())
}
