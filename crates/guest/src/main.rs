//! The program `peerpods-guest`.

fn main() -> std::process::ExitCode {
    peerpods_guest::main()
}
