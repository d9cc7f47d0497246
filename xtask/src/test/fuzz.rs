//! Every fuzz target for a few seconds: enough to see that it builds, runs and finds nothing at once.

use anyhow::{Context, Result};

use crate::{
    at_once::run_at_once,
    process::{command, root, run},
    tools,
};

/// How long each target runs, in seconds.
const SECONDS_PER_TARGET: u32 = 10;
/// Without a sanitizer: our programs are static, which AddressSanitizer cannot be, and safe Rust but for a few
/// lines. That also lets the stable toolchain build them. Unoptimised: minutes less for a build that runs seconds.
const BUILD: [&str; 3] = ["--dev", "--sanitizer", "none"];

/// Builds and runs all targets.
pub(crate) fn fuzz() -> Result<()> {
    let program = tools::cargo_fuzz()?;
    let program = program.to_string_lossy();
    run(command(&program, &["fuzz", "build"]).args(BUILD))?;
    let targets =
        std::fs::read_dir(root().join("fuzz/fuzz_targets")).context("cannot list the fuzz targets")?;
    let limit = format!("-max_total_time={SECONDS_PER_TARGET}");
    let mut commands = Vec::new();
    for target in targets {
        let path = target?.path();
        let name = path.file_stem().context("a target has no name")?;
        let mut command = command(&program, &["fuzz", "run"]);
        command.args(BUILD).arg(name);
        // What it finds is printed at the end; what it tries on the way is thousands of lines.
        command.args(["--", &limit, "-rss_limit_mb=2048", "-verbosity=0"]);
        commands.push(command);
    }
    // Each keeps one processor busy.
    run_at_once(commands, super::AT_ONCE)
}
