//! `exec true`: below kubectl, whose own start would hide the rest.

use anyhow::Result;

use super::{
    command::{ctr_exec, kubectl_exec, time},
    context::Context,
    pod::{Pod, Runtime, alternate},
    process::FineMeter,
    row::{Goal, Row, Unit},
    samples::Samples,
};

/// By `ctr` and by kubectl, and the CPU that it takes.
pub(super) fn measure(context: &Context) -> Result<Vec<Row>> {
    let pods = [
        Pod::start(context, "exec", Runtime::Namespaces)?,
        Pod::start(context, "exec", Runtime::Runc)?,
    ];
    let rounds = context.samples(40, 5);
    context.say(&format!("exec: {rounds} times with ctr"));
    let mut ctr = [Samples::default(), Samples::default()];
    let processes = context.node.processes_of(&pods[0])?;
    let mut meter = FineMeter::start(&processes)?;
    alternate(context, rounds, &pods, |pod, round| {
        let id = format!("bench-{round}");
        let took = time(&mut ctr_exec(&id, &pod.container, &["true"]))?;
        ctr[of(pod)].push(took.as_secs_f64() * 1000.0);
        meter.observe()
    })?;
    let cpu = meter.stop()?.as_secs_f64() * 1000.0 / rounds as f64;

    let rounds = context.samples(15, 3);
    context.say(&format!("exec: {rounds} times with kubectl"));
    let mut kubectl = [Samples::default(), Samples::default()];
    alternate(context, rounds, &pods, |pod, _| {
        let took = time(&mut kubectl_exec(&[], &pod.name, &["true"]))?;
        kubectl[of(pod)].push(took.as_secs_f64() * 1000.0);
        Ok(())
    })?;
    for pod in pods {
        pod.end()?;
    }
    let ([ctr, ctr_runc], [kubectl, kubectl_runc]) = (ctr, kubectl);
    Ok(vec![
        Row::new(
            "exec",
            "exec true, by ctr, guest in namespaces",
            Unit::Milliseconds,
            ctr,
        )
        .beside(ctr_runc)
        .goal(Goal::AtMost(25.0)),
        Row::new(
            "exec-cpu",
            "  CPU of shim, adaptor and guest for each",
            Unit::Milliseconds,
            Samples::one(cpu),
        ),
        Row::new(
            "exec-kubectl",
            "  the same by kubectl",
            Unit::Milliseconds,
            kubectl,
        )
        .beside(kubectl_runc),
    ])
}

/// The pod's place in a pair of ours and runc's.
fn of(pod: &Pod<'_>) -> usize {
    match pod.runtime {
        Runtime::Namespaces | Runtime::Vm => 0,
        Runtime::Runc => 1,
    }
}
