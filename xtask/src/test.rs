//! `make test`: every test, in the order in which a failure is cheapest to find.

mod fuzz;

use anyhow::Result;

use crate::{
    check,
    process::{cargo, run, step},
    testbed::{self, Profile},
};

/// Checks, unit and component tests, fuzzing for a moment, and the scenarios on the real Kubernetes.
pub(crate) fn test() -> Result<()> {
    let artifacts = step("what the test bed is made of", || {
        testbed::prepare(Profile::Testbed)
    })?;
    check::check()?;
    step("unit and component tests", || {
        run(cargo(&["test", "--workspace"])
            .env("PEERPODS_TEST_KERNEL", &artifacts.kernel)
            .env("PEERPODS_TEST_INITRD", &artifacts.initrd)
            .env("PEERPODS_TEST_KERNEL_DEB", &artifacts.kernel_deb)
            .env("PEERPODS_TEST_REGISTRY", &artifacts.registry))
    })?;
    step("fuzzing, briefly", fuzz::fuzz)?;
    let was_up = testbed::is_up();
    step("test bed", || testbed::up(Profile::Testbed))?;
    let scenarios = step("scenarios on the real Kubernetes", || {
        let arguments = [
            "test",
            "--package",
            "peerpods-testkit",
            "--features",
            "scenario",
            "--",
            "--test-threads",
            "2",
        ];
        run(&mut cargo(&arguments))
    });
    if !was_up {
        step("test bed down", testbed::down)?;
    }
    scenarios
}
