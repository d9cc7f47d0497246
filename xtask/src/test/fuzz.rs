//! Every fuzz target for a few seconds: enough to see that it builds, runs and finds nothing at once.

use anyhow::{Context, Result};

use crate::{
    process::{command, root, run},
    tools,
};

/// How long each target runs, in seconds.
const SECONDS_PER_TARGET: u32 = 10;

/// Builds and runs all targets.
pub(crate) fn fuzz() -> Result<()> {
    let program = tools::cargo_fuzz()?;
    let program = program.to_string_lossy();
    let targets =
        std::fs::read_dir(root().join("fuzz/fuzz_targets")).context("cannot list the fuzz targets")?;
    for target in targets {
        let target = target?
            .path()
            .file_stem()
            .context("a target has no name")?
            .to_string_lossy()
            .into_owned();
        let limit = format!("-max_total_time={SECONDS_PER_TARGET}");
        // Without a sanitizer: our programs are static, which AddressSanitizer cannot be, and safe Rust but for a few
        // lines. That also lets the stable toolchain build them. Unoptimised: minutes less for a build that runs seconds.
        let build = ["fuzz", "run", "--dev", "--sanitizer", "none", &target];
        run(command(&program, &build).args(["--", &limit, "-rss_limit_mb=2048"]))?;
    }
    Ok(())
}
