//! What completes the program's arguments: `peerpodctl completion` for shells, and an answer to kubectl.

pub(crate) mod kubectl;

use clap::Args;
use clap_complete::Shell;

const HELP: &str = "\
Examples:
  source <(peerpodctl completion bash)
  peerpodctl completion zsh > ~/.zfunc/_peerpodctl";

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) {
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut std::io::stdout());
}
