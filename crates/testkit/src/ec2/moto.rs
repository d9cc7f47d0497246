//! `moto`, which answers the APIs of AWS: its real server, in a process of its own, gone with the test's process.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use crate::wait_for;

/// Names the folder that `pip` installed moto into.
const FOLDER: &str = "PEERPODS_TEST_MOTO";

/// Half a second as a rule.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs the server until its input ends, which is when the test's process does, whatever its end is.
const SCRIPT: &str = "
import os, sys, threading
def watch():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=watch, daemon=True).start()
from moto.server import main
main(sys.argv[1:])
";

/// A running server. It knows no images, and has a VPC with a subnet in every zone of every region.
pub struct Moto {
    address: SocketAddr,
    process: Child,
}

impl Moto {
    /// Starts one, or says what is missing and gives none.
    pub fn start() -> Option<Self> {
        let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
            eprintln!("skipped: {FOLDER} names no folder that moto is installed in");
            return None;
        };
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("loopback has a free port");
        let process = Command::new("python3")
            .args(["-c", SCRIPT, "--host", "127.0.0.1", "--port"])
            .arg(address.port().to_string())
            .env("PYTHONPATH", folder)
            // Thousands of public images, which no test wants.
            .env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A line for every request.
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 starts");
        let mut server = Self { address, process };
        wait_for("moto answers", START_LIMIT, || {
            let ended = server.process.try_wait().expect("moto can be waited for");
            assert!(ended.is_none(), "moto ended at once: {ended:?}");
            TcpStream::connect(address).map_err(|error| error.to_string())
        });
        Some(server)
    }

    /// One server for all tests of this process, in which each has an account of its own.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Moto>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for clients of any service.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // What cannot be waited for has ended.
        let _ = self.process.wait();
    }
}
