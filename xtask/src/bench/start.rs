//! From a pod's creation to its container's start, on a watch of the API server: the same for runc and for ours.
//!
//! The node has runc's image already; a peer pod's guest pulls it from the registry beside the node.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    adjusted::Adjusted,
    boot,
    context::Context,
    pod::{Pod, Runtime},
    row::{Goal, Row, Unit},
    samples::Samples,
};

/// How many VMs wait: the one that a pod takes, and one more for the pod that comes while another is brought up.
const WARM_VMS: usize = 2;

/// The guest in namespaces: what the stack itself takes.
pub(super) fn namespaces(context: &Context) -> Result<Vec<Row>> {
    let rounds = context.samples(11, 2);
    let started = compare(context, Runtime::Namespaces, rounds, |_| Ok(()))?;
    Ok(vec![
        Row::new(
            "start-namespaces",
            "pod created -> container started, guest in namespaces",
            Unit::Seconds,
            started.ours,
        )
        .beside(started.runc)
        .goal(Goal::AtMostAboveRunc(0.12)),
    ])
}

/// A VM that is resumed from one that was saved.
pub(super) fn resumed(context: &Context) -> Result<Vec<Row>> {
    let adjusted = Adjusted::with(context, "QEMU_RESUME", "on")?;
    // It may have been saved by an adaptor before: the first pod, which does not count, shows that it is there.
    Pod::start(context, "start", Runtime::Vm)?.end()?;
    let started = compare(context, Runtime::Vm, context.samples(7, 2), |pod| {
        let console = context.node.console_of(pod)?;
        ensure!(
            console.contains("after the VM was resumed"),
            "the VM was not resumed:\n{console}"
        );
        Ok(())
    })?;
    drop(adjusted);
    Ok(vec![
        Row::new(
            "start-resumed",
            "pod created -> container started, VM resumed from a saved one",
            Unit::Seconds,
            started.ours,
        )
        .beside(started.runc),
    ])
}

/// A VM that waited.
pub(super) fn warm(context: &Context) -> Result<Vec<Row>> {
    let adjusted = Adjusted::with(context, "WARM_VMS", &WARM_VMS.to_string())?;
    let full = || {
        adjusted.wait_for(
            "the pool of warm VMs is full",
            &["is being claimed", "a warm VM is ended"],
        )
    };
    full()?;
    let started = compare(context, Runtime::Vm, context.samples(7, 2), |pod| {
        let console = context.node.console_of(pod)?;
        ensure!(
            console.contains("after the claim"),
            "the VM did not wait for the pod:\n{console}"
        );
        // What fills the pool again is none of the next pod's start.
        full()
    })?;
    Ok(vec![
        Row::new(
            "start-warm",
            "pod created -> container started, VM that waited",
            Unit::Seconds,
            started.ours,
        )
        .beside(started.runc)
        .goal(Goal::AtMost(2.0)),
    ])
}

/// A cold VM, and how much of it is the guest's.
pub(super) fn vm(context: &Context) -> Result<Vec<Row>> {
    let _adjusted = Adjusted::with(context, "QEMU_RESUME", "off")?;
    let rounds = context.samples(7, 2);
    let mut boots = Samples::default();
    let started = compare(context, Runtime::Vm, rounds, |pod| {
        boots.push(boot::time(&context.node.console_of(pod)?)?.as_secs_f64());
        Ok(())
    })?;
    Ok(vec![
        Row::new(
            "start-vm",
            "pod created -> container started, cold VM",
            Unit::Seconds,
            started.ours,
        )
        .beside(started.runc)
        .goal(Goal::AtMost(5.0)),
        Row::new(
            "boot",
            "guest: kernel hands over -> agent answers, in a VM",
            Unit::Seconds,
            boots,
        )
        .goal(Goal::AtMost(0.7)),
    ])
}

struct Started {
    ours: Samples,
    runc: Samples,
}

fn compare(
    context: &Context,
    runtime: Runtime,
    rounds: usize,
    mut look: impl FnMut(&Pod<'_>) -> Result<()>,
) -> Result<Started> {
    // Once each before it counts: images of the node and caches of everybody.
    for runtime in [runtime, Runtime::Runc] {
        Pod::start(context, "start", runtime)?.end()?;
    }
    let mut started = Started {
        ours: Samples::default(),
        runc: Samples::default(),
    };
    for round in 1..=rounds {
        let pod = Pod::start(context, "start", runtime)?;
        let ours = pod.started_in;
        look(&pod)?;
        pod.end()?;
        let pod = Pod::start(context, "start", Runtime::Runc)?;
        let runc = pod.started_in;
        pod.end()?;
        tell(context, round, rounds, ours, runc);
        started.ours.push(ours.as_secs_f64());
        started.runc.push(runc.as_secs_f64());
    }
    Ok(started)
}

fn tell(context: &Context, round: usize, rounds: usize, ours: Duration, runc: Duration) {
    context.say(&format!(
        "start {round}/{rounds}: {:.3} s, runc {:.3} s",
        ours.as_secs_f64(),
        runc.as_secs_f64()
    ));
}
