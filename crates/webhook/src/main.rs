//! The program `peerpods-webhook`.

fn main() -> std::process::ExitCode {
    peerpods_webhook::main()
}
