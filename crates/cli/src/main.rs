//! The program `peerpodctl`.

fn main() -> std::process::ExitCode {
    peerpods_cli::main()
}
