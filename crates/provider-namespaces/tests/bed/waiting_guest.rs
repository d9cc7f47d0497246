//! A guest that says a word and waits, for tests of what launches guests.

fn main() {
    eprintln!("process {} waits", std::process::id());
    loop {
        std::thread::park();
    }
}
