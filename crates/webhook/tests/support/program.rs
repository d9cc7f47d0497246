//! The program, as a cluster runs it, with a certificate of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use peerpods_testkit::{Reply, https, wait_for};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// It starts in milliseconds; a machine busy with builds takes longer.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running webhook.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    pub(crate) health: SocketAddr,
    folder: tempfile::TempDir,
    process: Child,
}

impl Program {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let [address, health] = [(); 2].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
            listener.local_addr().expect("a listener has an address")
        });
        let mut program = Self {
            address,
            health,
            process: Command::new("true").spawn().expect("true is a program"),
            folder,
        };
        program.renew_certificate("first");
        program.start_again();
        program
    }

    /// Starts the process, on the same addresses.
    pub(crate) fn start_again(&mut self) {
        let log = fs::File::create(self.file("log")).expect("a log can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerpods-webhook"));
        command.args([
            "--listen",
            &self.address.to_string(),
            "--health-listen",
            &self.health.to_string(),
        ]);
        command.args(["--tls-certificate".as_ref(), self.file("tls.crt").as_os_str()]);
        command.args(["--tls-key".as_ref(), self.file("tls.key").as_os_str()]);
        command.stdin(Stdio::null()).stderr(log);
        self.process.wait().expect("the process before can be waited for");
        self.process = command.spawn().expect("the webhook starts");
        wait_for("the webhook answers", START_LIMIT, || {
            self.get("/readyz")
                .map_err(|error| format!("{error}\n{}", self.log()))
        });
    }

    /// Makes a new authority and a certificate under it, in place of those that are there.
    pub(crate) fn renew_certificate(&self, name: &str) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, name);
        let authority_key = KeyPair::generate().expect("keys can be made");
        let certificate = authority
            .self_signed(&authority_key)
            .expect("an authority signs itself");
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("keys can be made");
        let mut server = CertificateParams::default();
        server
            .subject_alt_names
            .push(SanType::IpAddress(self.address.ip()));
        let signed = server.signed_by(&key, &issuer).expect("the authority signs");
        for (file, text) in [
            ("ca.crt", certificate.pem()),
            ("tls.crt", signed.pem()),
            ("tls.key", key.serialize_pem()),
        ] {
            fs::write(self.file(file), text).expect("a certificate can be written");
        }
    }

    pub(crate) fn authority(&self) -> String {
        fs::read_to_string(self.file("ca.crt")).expect("the authority is there")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Sends a review, or what is none.
    pub(crate) fn post(&self, body: &[u8]) -> Reply {
        self.send(("POST", "/mutate-v1-pod"), body)
            .expect("the webhook answers")
    }

    pub(crate) fn send(&self, what: (&str, &str), body: &[u8]) -> std::io::Result<Reply> {
        https(
            self.address,
            &self.file("ca.crt"),
            what,
            &[("Content-Type", "application/json")],
            body,
        )
    }

    /// Gets a page of health or metrics.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<String> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.health)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// `kill PID`
    pub(crate) fn terminate(&self) {
        let kill = Command::new("kill").arg(self.id().to_string()).status();
        assert!(kill.expect("kill is a program").success());
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("the webhook runs");
        self.process.wait().expect("the webhook can be waited for");
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait().expect("the webhook can be waited for")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
