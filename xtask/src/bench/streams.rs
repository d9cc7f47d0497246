//! Throughput of an exec's streams.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};

use super::{
    command::{ctr_exec, kubectl_exec, time_input, time_output},
    context::Context,
    pod::{Pod, Runtime, alternate},
    process::Meter,
    row::{Goal, Row, Unit},
    samples::Samples,
};

const MEBIBYTE: u64 = 1 << 20;
const STDOUT_MEBIBYTES: u64 = 256;
const STDIN_MEBIBYTES: u64 = 64;
/// Prints what `STDOUT_MEBIBYTES` says.
const WRITER: [&str; 4] = ["dd", "if=/dev/zero", "bs=65536", "count=4096"];
/// Reads all of its input and tells how much it was.
const READER: [&str; 2] = ["wc", "-c"];

/// Speeds of both runtimes, and the CPU that ours takes for one transfer.
#[derive(Default)]
struct Transfers {
    ours: Samples,
    runc: Samples,
    cpu: Samples,
}

/// Output by kubectl, and by `ctr` for what is below it.
pub(super) fn stdout(context: &Context) -> Result<Vec<Row>> {
    let output = |mut command: Command| -> Result<Duration> {
        let (took, bytes) = time_output(&mut command)?;
        ensure!(
            bytes == STDOUT_MEBIBYTES * MEBIBYTE,
            "{bytes} bytes of {STDOUT_MEBIBYTES} MiB came"
        );
        Ok(took)
    };
    let pods = pair(context, "stdout")?;
    let rounds = context.samples(5, 1);
    let kubectl = transfer(context, "stdout", STDOUT_MEBIBYTES, rounds, &pods, |pod, _| {
        let mut command = kubectl_exec(&[], &pod.name, &WRITER);
        command.stderr(std::process::Stdio::null());
        output(command)
    })?;
    let ctr = transfer(
        context,
        "stdout by ctr",
        STDOUT_MEBIBYTES,
        rounds,
        &pods,
        |pod, round| {
            let mut command = ctr_exec(&format!("bench-{round}"), &pod.container, &WRITER);
            command.stderr(std::process::Stdio::null());
            output(command)
        },
    )?;
    pods.into_iter().try_for_each(Pod::end)?;
    Ok(vec![
        speed(
            "stdout",
            "exec stdout, 256 MiB, guest in namespaces",
            kubectl.ours,
        )
        .beside(kubectl.runc)
        .goal(Goal::AtLeast(120.0)),
        cpu(
            "stdout-cpu",
            "  CPU of shim, adaptor and guest for it",
            kubectl.cpu,
        )
        .goal(Goal::AtMost(3.0)),
        speed("stdout-ctr", "  the same by ctr", ctr.ours).beside(ctr.runc),
        cpu(
            "stdout-ctr-cpu",
            "  CPU of shim, adaptor and guest for it",
            ctr.cpu,
        ),
    ])
}

/// Input by kubectl.
pub(super) fn stdin(context: &Context) -> Result<Vec<Row>> {
    let pods = pair(context, "stdin")?;
    let rounds = context.samples(5, 1);
    let kubectl = transfer(context, "stdin", STDIN_MEBIBYTES, rounds, &pods, |pod, _| {
        let mut command = kubectl_exec(&["--stdin"], &pod.name, &READER);
        let bytes = STDIN_MEBIBYTES * MEBIBYTE;
        let (took, told) = time_input(&mut command, bytes)?;
        ensure!(
            told == bytes.to_string(),
            "{told:?} bytes of {STDIN_MEBIBYTES} MiB arrived"
        );
        Ok(took)
    })?;
    pods.into_iter().try_for_each(Pod::end)?;
    Ok(vec![
        speed("stdin", "exec stdin, 64 MiB, guest in namespaces", kubectl.ours)
            .beside(kubectl.runc)
            .goal(Goal::AtLeast(70.0)),
        cpu(
            "stdin-cpu",
            "  CPU of shim, adaptor and guest for it",
            kubectl.cpu,
        ),
    ])
}

fn pair<'context>(context: &'context Context, name: &str) -> Result<[Pod<'context>; 2]> {
    Ok([
        Pod::start(context, name, Runtime::Namespaces)?,
        Pod::start(context, name, Runtime::Runc)?,
    ])
}

fn transfer(
    context: &Context,
    what: &str,
    mebibytes: u64,
    rounds: usize,
    pods: &[Pod<'_>; 2],
    run: impl Fn(&Pod<'_>, usize) -> Result<Duration>,
) -> Result<Transfers> {
    let mut transfers = Transfers::default();
    let processes = context.node.processes_of(&pods[0])?;
    alternate(context, rounds, pods, |pod, round| {
        let meter = Meter::start(&processes)?;
        let took = run(pod, round)?;
        let used = meter.stop()?;
        let speed = mebibytes as f64 / took.as_secs_f64();
        let seconds: Vec<f64> = used.iter().map(Duration::as_secs_f64).collect();
        match pod.runtime {
            Runtime::Runc => {
                context.say(&format!("{what}: runc {speed:.0} MiB/s"));
                transfers.runc.push(speed);
            }
            Runtime::Namespaces | Runtime::Vm => {
                context.say(&format!(
                    "{what}: {speed:.0} MiB/s, CPU of shim, adaptor, guest: {seconds:.2?} s"
                ));
                transfers.ours.push(speed);
                transfers.cpu.push(seconds.iter().sum());
            }
        }
        Ok(())
    })?;
    Ok(transfers)
}

fn speed(name: &'static str, what: &str, samples: Samples) -> Row {
    Row::new(name, what, Unit::MebibytesPerSecond, samples)
}

fn cpu(name: &'static str, what: &str, samples: Samples) -> Row {
    Row::new(name, what, Unit::CpuSeconds, samples)
}
