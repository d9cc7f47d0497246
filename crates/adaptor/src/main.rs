//! The program `cloud-api-adaptor`.

fn main() -> std::process::ExitCode {
    peerpods_adaptor::main()
}
