//! `make bench`: what the stack costs, beside runc in the same run.
//!
//! Three kinds of pods are compared: runc's, peer pods in VMs, and peer pods whose guest runs in namespaces of the node
//! (`crates/provider-namespaces`), which shows the stack's own cost without emulation. The programs are release builds.
//!
//! The command has two halves. The one that people start brings the test bed up, and runs itself again in the bed's
//! namespaces, where all processes, sockets and files of the node are at hand; that one measures and reports, and ends
//! when its standard input does, which the first one holds: so it removes its pods also when the first one is killed.
//! Samples of ours and of runc alternate, so that what else the machine does meets both; figures are medians.

mod adjusted;
mod api;
mod boot;
mod command;
mod context;
mod exec;
mod figures;
mod fleet;
mod history;
mod launch;
mod network;
mod node;
mod pod;
mod process;
mod row;
mod samples;
mod sizes;
mod start;
mod streams;
mod table;
mod webhook;

use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};

pub(crate) use self::network::sink;
use self::{context::Context, history::Report};
use crate::{
    process::{root, show},
    testbed::{self, Profile, Provider},
    tools,
};

/// How often the half that waits looks whether it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What is measured, in this order unless some are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// What the programs and the VM image weigh.
    Sizes,
    /// From a pod's creation to its container's start, guest in namespaces.
    StartNamespaces,
    /// The same with a VM that boots, and the guest's own part of it.
    StartVm,
    /// The same with a VM that is resumed from a saved one.
    StartResumed,
    /// The same with a VM that waited.
    StartWarm,
    /// `exec true` below kubectl.
    Exec,
    /// Output of an exec.
    Stdout,
    /// Input of an exec.
    Stdin,
    /// The pod network beside a bare VXLAN.
    Network,
    /// Memory and idle CPU of many pods.
    Fleet,
    /// Admission reviews at a steady rate.
    Webhook,
    /// The guest's own part of a boot on EC2's devices, and the kernel's.
    BootEc2,
    /// What the adaptor adds to a launch on EC2.
    Launch,
}

impl Measurement {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What `bench` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Measures only this; can be given several times.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Measurement>,
    /// Few samples: to see that it works, not for figures.
    #[arg(long)]
    quick: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The programs that are measured. Sizes are always those of this profile.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

/// Brings up what is measured, and measures it.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let was_up = testbed::is_up();
    testbed::up(options.profile, Provider::Qemu)?;
    // Fetched before: in the bed's namespaces no registry is reached.
    tools::moto()?;
    let measured = measure_in_the_bed(options);
    if !was_up {
        testbed::down()?;
    }
    measured
}

fn measure_in_the_bed(options: &Options) -> Result<()> {
    let interrupted = interruption()?;
    let mut command = Command::new(root().join("target/testbed/enter"));
    command.arg(own_program()?).arg("bench-node");
    for one in &options.only {
        command.args(["--only", &one.name()]);
    }
    if options.quick {
        command.arg("--quick");
    }
    let value = |value: Option<clap::builder::PossibleValue>| {
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    };
    command.args(["--output", &value(options.output.to_possible_value())]);
    command.args(["--profile", &value(options.profile.to_possible_value())]);
    // A group of its own: an interrupt from the terminal must not end programs that it needs for its end.
    let mut child = command
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", show(&command)))?;
    let mut held = child.stdin.take();
    let status = loop {
        if interrupted.load(Ordering::Relaxed) {
            drop(held.take());
        }
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(LOOK_INTERVAL),
        }
    };
    ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
    ensure!(status.success(), "some of it could not be measured");
    Ok(())
}

/// The half that runs in the bed's namespaces.
pub(crate) fn bench_node(options: &Options) -> Result<()> {
    let context = Context::new(options.quick, options.profile, end_of_input())?;
    let all = Measurement::value_variants();
    let chosen = if options.only.is_empty() {
        all
    } else {
        &options.only
    };
    let (mut report, mut failed) = (Report::new(options.quick, options.profile)?, Vec::new());
    for one in chosen {
        match measure(*one, &context) {
            Ok(rows) => report.rows.extend(rows),
            Err(error) if context.is_interrupted() => bail!("interrupted: {error:#}"),
            Err(error) => {
                eprintln!("{}: {error:#}", one.name());
                failed.push(one.name());
            }
        }
    }
    report.save()?;
    match options.output {
        Output::Table => print!("{}", table::Table(&report)),
        Output::Json => println!("{}", report.to_json()?),
    }
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn measure(measurement: Measurement, context: &Context) -> Result<Vec<row::Row>> {
    match measurement {
        Measurement::Sizes => sizes::measure(context),
        Measurement::StartNamespaces => start::namespaces(context),
        Measurement::StartVm => start::vm(context),
        Measurement::StartResumed => start::resumed(context),
        Measurement::StartWarm => start::warm(context),
        Measurement::Exec => exec::measure(context),
        Measurement::Stdout => streams::stdout(context),
        Measurement::Stdin => streams::stdin(context),
        Measurement::Network => network::measure(context),
        Measurement::Fleet => fleet::measure(context),
        Measurement::Webhook => webhook::measure(context),
        Measurement::BootEc2 => boot::ec2(context),
        Measurement::Launch => launch::measure(context),
    }
}

/// Set once standard input ends.
fn end_of_input() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let ended = flag.clone();
    thread::spawn(move || {
        // Nothing is ever written to it; a failure is an end as well.
        let _ = std::io::stdin().read(&mut [0]);
        ended.store(true, Ordering::Relaxed);
    });
    flag
}

/// Set once somebody asks for the end.
fn interruption() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, flag.clone()).context("cannot handle signals")?;
    }
    Ok(flag)
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot tell which program this is")
}
