//! `cargo xtask check`: all that can be said of the code without running it.

mod crds;
mod directions;
mod manifests;
mod permissions;
mod policies;
mod tidy;
mod what_works;

use anyhow::Result;

use crate::{
    process::{cargo, command, output, run, step},
    tools,
};

/// Writes everything that is generated and kept with the sources.
pub(crate) fn write_generated() -> Result<()> {
    what_works::write()?;
    crds::write()?;
    policies::write()?;
    permissions::write()?;
    // From what was just written.
    manifests::write()
}

/// Formatting, lints, dependencies and their directions, and the rules of the house.
pub(crate) fn check() -> Result<()> {
    step("formatting", || {
        run(&mut cargo(&["fmt", "--all", "--check"]))?;
        let unformatted = output(&mut command("gofmt", &["-l", "testbed"]))?;
        anyhow::ensure!(unformatted.is_empty(), "run gofmt on:\n{unformatted}");
        Ok(())
    })?;
    step("rules of the house", tidy::check)?;
    step("generated documents", || {
        what_works::check()?;
        crds::check()?;
        policies::check()?;
        permissions::check()?;
        manifests::check()
    })?;
    // The two steps after this one look at the dependencies of every platform, which no build here downloads.
    step("dependencies, of every platform", || {
        run(&mut cargo(&["fetch", "--locked"]))
    })?;
    step("directions of dependencies", directions::check)?;
    step("licences, sources and banned crates", || {
        let deny = tools::cargo_deny()?;
        let deny = deny.to_string_lossy();
        run(&mut command(
            &deny,
            &[
                "--offline",
                "--all-features",
                "check",
                "bans",
                "licenses",
                "sources",
            ],
        ))
    })?;
    step("clippy, warnings are errors", || {
        let arguments = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "--deny",
            "warnings",
        ];
        run(&mut cargo(&arguments))
    })
}
