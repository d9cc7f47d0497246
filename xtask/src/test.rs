//! `make test`: every test, in the order in which a failure is cheapest to find.

mod fuzz;
mod programs;

use anyhow::Result;

use crate::{
    at_once::run_at_once,
    check,
    process::{cargo, run, step},
    testbed::{self, Profile, Provider},
    tools,
};

/// How many programs of tests run at a time. Each has threads of its own, and most of them wait for something.
const AT_ONCE: usize = 2;

/// Checks, unit and component tests, fuzzing for a moment, and the scenarios on the real Kubernetes.
pub(crate) fn test() -> Result<()> {
    let artifacts = step("what the test bed is made of", || {
        testbed::prepare(Profile::Testbed)
    })?;
    check::check()?;
    let moto = tools::moto()?;
    let promtool = testbed::promtool()?;
    let openshift = tools::openshift_definitions()?;
    let programs = step("unit and component tests, built", programs::build)?;
    step("unit and component tests", || {
        let commands = programs.iter().map(|program| {
            let mut command = program.command();
            command
                .env("PEERPODS_TEST_KERNEL", &artifacts.kernel)
                .env("PEERPODS_TEST_INITRD", &artifacts.initrd)
                .env("PEERPODS_TEST_DISK", &artifacts.disk)
                .env("PEERPODS_TEST_FIRMWARE", &artifacts.firmware)
                .env("PEERPODS_TEST_KERNEL_DEB", &artifacts.kernel_deb)
                .env("PEERPODS_TEST_STUB_DEB", &artifacts.stub_deb)
                .env("PEERPODS_TEST_KUBERNETES", &artifacts.programs)
                .env("PEERPODS_TEST_REGISTRY", &artifacts.registry)
                .env("PEERPODS_TEST_PROMTOOL", &promtool)
                .env("PEERPODS_TEST_OPENSHIFT", &openshift)
                .env("PEERPODS_TEST_MOTO", &moto);
            command
        });
        run_at_once(commands.collect(), AT_ONCE)
    })?;
    step("examples in documents", || {
        run(&mut cargo(&["test", "--workspace", "--doc"]))
    })?;
    step("fuzzing, briefly", fuzz::fuzz)?;
    let was_up = testbed::is_up();
    step("test bed", || testbed::up(Profile::Testbed, Provider::Qemu))?;
    let scenarios = step("scenarios on the real Kubernetes", || {
        scenarios_of("scenarios", "2")
    });
    let soak = step("soak, in short", || scenarios_of("soak", "1"));
    let compatible = step("what stock Kata shims call, on the same bed", || {
        scenarios_of("compatible", "2")
    });
    // Each of these disturbs every pod of the node.
    let disruptions = step("disruptions, one at a time", || scenarios_of("disruptions", "1"));
    let instances = instances();
    if was_up {
        step("test bed, as it was", || {
            testbed::up(Profile::Testbed, Provider::Qemu)
        })?;
    } else {
        step("test bed down", testbed::down)?;
    }
    scenarios
        .and(soak)
        .and(compatible)
        .and(disruptions)
        .and(instances)
}

/// The same bed with another provider: another one would cost another start.
fn instances() -> Result<()> {
    step("test bed with VMs on EC2", || {
        testbed::up(Profile::Testbed, Provider::Aws)
    })?;
    step("VMs on EC2, which is emulated", || scenarios_of("instances", "1"))
}

/// How many sequences of launches and ends a soak makes.
const SEEDED_RUNS: &str = "1000";

/// Where `testbed/packages arm64` puts the UEFI firmware for ARM.
const FIRMWARE_FOR_ARM: &str = "/usr/share/AAVMF";

/// `make soak`: the whole of what `test` does in short, on the bed that is up.
pub(crate) fn soak() -> Result<()> {
    step(
        "launches and ends on EC2's emulator while it fails, by many seeds",
        || {
            let seeded = [
                "test",
                "--package",
                "peerpods-provider-aws",
                "--test",
                "ec2",
                "--",
                "seeded",
                "--nocapture",
            ];
            run(cargo(&seeded)
                .env("PEERPODS_TEST_RUNS", SEEDED_RUNS)
                .env("PEERPODS_TEST_MOTO", tools::moto()?))
        },
    )?;
    step("the VM image for ARM, built and booted", || {
        let package = ["test", "--package", "peerpods-guest", "--test", "ec2"];
        let which = ["--", "disk_for_arm", "--nocapture"];
        run(cargo(&[&package[..], &which[..]].concat())
            .env(
                "PEERPODS_TEST_DISK_ARM64",
                testbed::disk_for_arm(Profile::Testbed)?,
            )
            .env("PEERPODS_TEST_FIRMWARE_ARM64", FIRMWARE_FOR_ARM))
    })?;
    let artifacts = testbed::prepare(Profile::Testbed)?;
    step("an operator with 500 nodes and 5,000 PeerPods", || {
        let package = ["test", "--package", "peerpods-operator", "--test", "cluster"];
        let which = ["--", "large", "--nocapture"];
        run(cargo(&[&package[..], &which[..]].concat())
            .env("PEERPODS_SOAK", "full")
            .env("PEERPODS_TEST_KUBERNETES", &artifacts.programs))
    })?;
    let package = ["test", "--package", "peerpods-testkit", "--features", "scenario"];
    let which = ["--test", "soak", "--", "--test-threads", "1", "--nocapture"];
    run(cargo(&[&package[..], &which[..]].concat()).env("PEERPODS_SOAK", "full"))
}

/// Runs one program of scenarios on the bed that is up.
fn scenarios_of(program: &str, at_once: &str) -> Result<()> {
    let package = ["test", "--package", "peerpods-testkit", "--features", "scenario"];
    let which = ["--test", program, "--", "--test-threads", at_once];
    run(&mut cargo(&[&package[..], &which[..]].concat()))
}
