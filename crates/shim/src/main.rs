//! containerd-shim-kata-v2: translates the containerd task API to the Kata agent API of the VM.

fn main() -> std::process::ExitCode {
    peerpods_shim::run()
}
