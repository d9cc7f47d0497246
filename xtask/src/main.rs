//! `cargo xtask`: everything around the build. The Makefile names the common ones.

mod at_once;
mod bench;
mod check;
mod demo;
mod images;
mod oci;
mod process;
mod stamp;
mod test;
mod testbed;
mod tools;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use self::testbed::{Profile, Provider};

/// Everything around the build: checks, tests, and a real Kubernetes on this machine.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Starts the test bed: a real Kubernetes with peer pods, in namespaces of its own.
    Up {
        /// Where VMs run; on a bed that is up too.
        #[arg(long, value_enum, default_value_t = Provider::Qemu)]
        provider: Provider,
    },
    /// Ends the test bed and removes all of it.
    Down,
    /// Formatting, lints, dependencies and the rules of the house.
    Check,
    /// Writes what is generated: documents, and the definitions of custom resources.
    Docs,
    /// The container images of our programs, as OCI archives in target/images.
    Images,
    /// Every test, the cheapest first; starts the test bed for the last of them.
    Test,
    /// Hundreds of pods and execs on a test bed that is up: nothing grows.
    Soak,
    /// Measures what the stack costs, beside runc; starts the test bed where it is not up.
    Bench(bench::Options),
    /// The half of `bench` that runs in the test bed.
    #[command(hide = true)]
    BenchNode(bench::Options),
    /// Takes one connection and counts its bytes; `bench` starts it in other network namespaces.
    #[command(hide = true)]
    BenchSink,
    /// A guided tour of one peer pod, on a test bed that is up.
    Demo,
    /// Installs the version of the plan; `up` runs it in a bed that is up.
    #[command(hide = true)]
    TestbedRefresh {
        /// The bed's state folder.
        state: PathBuf,
    },
    /// PID 1 of the test bed; `up` starts it in new namespaces.
    #[command(hide = true)]
    TestbedInit {
        /// The bed's state folder.
        state: PathBuf,
        /// Does the part that needs the daemons, as a child of PID 1.
        #[arg(long)]
        bring_up: bool,
    },
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Up { provider } => testbed::up(Profile::Testbed, provider),
        Task::Down => testbed::down(),
        Task::Check => check::check(),
        Task::Docs => check::write_generated(),
        Task::Images => images::images(),
        Task::Test => test::test(),
        Task::Soak => test::soak(),
        Task::Bench(options) => bench::bench(&options),
        Task::BenchNode(options) => bench::bench_node(&options),
        Task::BenchSink => bench::sink(),
        Task::Demo => demo::demo(),
        Task::TestbedRefresh { state } => testbed::refresh(&state),
        Task::TestbedInit { state, bring_up } => testbed::init(&state, bring_up),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
