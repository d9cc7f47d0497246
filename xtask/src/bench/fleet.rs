//! Many pods that do nothing: what they hold of memory and use of CPU.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    context::Context,
    pod::{Pod, Runtime, end_all},
    process::{FineMeter, Memory, ProcessId},
    row::{Goal, Row, Unit},
    samples::Samples,
};

/// What a start leaves to be done is done by then.
const SETTLING_TIME: Duration = Duration::from_secs(10);
/// Threads for single tasks live ten seconds longer than those: none ends unseen.
const OBSERVATION_INTERVAL: Duration = Duration::from_secs(1);
/// Runc's pods beside ours; more would tell nothing more.
const RUNC_PODS: usize = 3;

/// The pods, and the processes that serve them.
struct Fleet<'context> {
    pods: Vec<Pod<'context>>,
    shims: Vec<ProcessId>,
    guests: Vec<ProcessId>,
}

/// Memory of shims and adaptor, and CPU at rest.
pub(super) fn measure(context: &Context) -> Result<Vec<Row>> {
    let (first, more) = (context.samples(10, 3), context.samples(5, 2));
    let adaptor = context.node.adaptor_of(Runtime::Namespaces)?;
    let mut ours = Fleet::new();
    ours.grow(context, Runtime::Namespaces, first)?;
    let adaptor_memory = adaptor.memory()?;
    let mut runc = Fleet::new();
    runc.grow(context, Runtime::Runc, RUNC_PODS)?;

    let seconds = context.samples(60, 10);
    context.say(&format!("{first} pods at rest, for {seconds} s"));
    sleep(SETTLING_TIME);
    let idle = idle_cpu(
        context,
        &ours,
        &runc,
        adaptor,
        Duration::from_secs(seconds as u64),
    )?;
    let (shims, runc_shims) = (memory(&ours.shims)?, memory(&runc.shims)?);
    let guests = memory(&ours.guests)?;

    ours.grow(context, Runtime::Namespaces, more)?;
    let grown = adaptor.memory()?.resident_kibibytes as f64 - adaptor_memory.resident_kibibytes as f64;
    ours.pods.append(&mut runc.pods);
    end_all(context, ours.pods)?;
    let mut rows = memory_rows(&shims, &runc_shims, &guests);
    rows.push(
        Row::new(
            "adaptor-memory",
            &format!("adaptor, resident, with {first} sandboxes"),
            Unit::Mebibytes,
            Samples::one(adaptor_memory.resident_kibibytes as f64 / 1024.0),
        )
        .goal(Goal::AtMost(16.0)),
    );
    rows.push(
        Row::new(
            "adaptor-memory-each",
            &format!("  each of {more} more"),
            Unit::Kibibytes,
            Samples::one(grown / more as f64),
        )
        .goal(Goal::AtMost(256.0)),
    );
    rows.extend(idle);
    Ok(rows)
}

impl<'context> Fleet<'context> {
    fn new() -> Self {
        Self {
            pods: Vec::new(),
            shims: Vec::new(),
            guests: Vec::new(),
        }
    }

    fn grow(&mut self, context: &'context Context, runtime: Runtime, by: usize) -> Result<()> {
        for _ in 0..by {
            let name = format!("fleet-{}", self.pods.len());
            let pod = Pod::start(context, &name, runtime)?;
            context.say(&format!(
                "{} runs after {:.3} s",
                pod.name,
                pod.started_in.as_secs_f64()
            ));
            self.shims.push(context.node.shim_of(&pod)?);
            match runtime {
                Runtime::Namespaces => self.guests.push(context.node.guest_of(&pod)?.process),
                Runtime::Runc | Runtime::Vm => {}
            }
            self.pods.push(pod);
        }
        Ok(())
    }
}

fn memory(processes: &[ProcessId]) -> Result<Vec<Memory>> {
    processes.iter().map(|process| process.memory()).collect()
}

fn memory_rows(shims: &[Memory], runc_shims: &[Memory], guests: &[Memory]) -> Vec<Row> {
    let resident = |all: &[Memory]| -> Samples {
        all.iter()
            .map(|one| one.resident_kibibytes as f64 / 1024.0)
            .collect()
    };
    let private = |all: &[Memory]| -> Samples {
        all.iter()
            .map(|one| one.private_kibibytes as f64 / 1024.0)
            .collect()
    };
    vec![
        Row::new(
            "shim-memory",
            "shim per pod, resident",
            Unit::Mebibytes,
            resident(shims),
        )
        .beside(resident(runc_shims))
        .goal(Goal::AtMost(6.0)),
        Row::new(
            "shim-memory-private",
            "  of it private",
            Unit::Mebibytes,
            private(shims),
        )
        .beside(private(runc_shims))
        .goal(Goal::AtMost(2.5)),
        Row::new(
            "guest-memory",
            "guest program, resident, in namespaces",
            Unit::Mebibytes,
            resident(guests),
        ),
    ]
}

/// The CPU per pod and minute, of all processes and of each kind.
fn idle_cpu(
    context: &Context,
    ours: &Fleet<'_>,
    runc: &Fleet<'_>,
    adaptor: ProcessId,
    time: Duration,
) -> Result<Vec<Row>> {
    let adaptors = [adaptor];
    let mut shims = FineMeter::start(&ours.shims)?;
    let mut guests = FineMeter::start(&ours.guests)?;
    let mut adaptor = FineMeter::start(&adaptors)?;
    let mut runc_shims = FineMeter::start(&runc.shims)?;
    let start = Instant::now();
    while start.elapsed() < time {
        context.check()?;
        sleep(OBSERVATION_INTERVAL);
        for meter in [&mut shims, &mut guests, &mut adaptor, &mut runc_shims] {
            meter.observe()?;
        }
    }
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let per_minute =
        |meter: FineMeter<'_>| -> Result<f64> { Ok(meter.stop()?.as_secs_f64() * 1000.0 / minutes) };
    let (shims, guests) = (per_minute(shims)?, per_minute(guests)?);
    let (adaptor, runc_shims) = (per_minute(adaptor)?, per_minute(runc_shims)?);
    let pods = ours.pods.len() as f64;
    let row = |name, what, value| {
        Row::new(
            name,
            what,
            Unit::CpuMillisecondsPerMinute,
            Samples::one(value / pods),
        )
    };
    let runc = Samples::one(runc_shims / runc.pods.len() as f64);
    Ok(vec![
        row("idle-cpu", "idle CPU per pod, shim and adaptor", shims + adaptor)
            .beside(runc)
            .goal(Goal::AtMost(5.0)),
        row("idle-cpu-shim", "  shim alone", shims),
        row("idle-cpu-adaptor", "  adaptor alone", adaptor),
        row("idle-cpu-guest", "  guest, not on the node of a VM", guests),
    ])
}
