//! The program `peerpods-operator`.

fn main() -> std::process::ExitCode {
    peerpods_operator::main()
}
