//! A real kube-apiserver with its etcd, on loopback: up in seconds, and gone with the test's process.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use crate::{Output, bed::run, https, wait_for};

/// Names the folder with `etcd`, `kube-apiserver` and `kubectl`, which the test bed builds.
const PROGRAMS: &str = "PEERPODS_TEST_KUBERNETES";
/// The administrator's token. The server listens on loopback, and lives as long as a test.
const TOKEN: &str = "administrator";
/// Seconds as a rule; a machine busy with other builds takes several times that.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Runs etcd and the server until its input ends, which is when the test's process does, whatever its end is; then
/// nothing of them stays.
const SCRIPT: &str = r#"
folder=$1 etcd=$2 server=$3; shift 3
# The shell itself would tell of every kill.
exec 3<&0 4>&2 2>/dev/null
$etcd --data-dir "$folder/etcd" --unsafe-no-fsync --listen-client-urls "$ETCD" --advertise-client-urls "$ETCD" \
    --listen-peer-urls "$PEERS" --initial-advertise-peer-urls "$PEERS" --initial-cluster "default=$PEERS" \
    >"$folder/etcd.log" 2>&1 3<&- & database=$!
$server "$@" >"$folder/server.log" 2>&1 3<&- & api=$!
{ cat <&3 >/dev/null; kill -KILL $api; } & watcher=$!
wait $api
[ $? = 137 ] || tail -n 3 "$folder/server.log" >&4
kill -KILL $database $watcher; wait; rm -rf "$folder"
"#;

/// A running API server. Nothing else of Kubernetes runs: no controllers, no scheduler, no nodes.
pub struct ApiServer {
    folder: PathBuf,
    programs: PathBuf,
    address: SocketAddr,
    /// The shell that ends everything when it is let go.
    shell: Child,
}

impl ApiServer {
    /// Starts one, or says what is missing and gives none.
    pub fn start() -> Option<Self> {
        let Some(programs) = std::env::var_os(PROGRAMS).map(PathBuf::from) else {
            eprintln!("skipped: {PROGRAMS} names no folder with etcd, kube-apiserver and kubectl");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("api-server-").tempdir();
        let folder = folder.expect("a temporary folder can be made").keep();
        let ports = free_ports().expect("loopback has free ports");
        write_credentials(&folder, ports.server).expect("credentials can be written");
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "api-server"]).arg(&folder);
        shell.args([programs.join("etcd"), programs.join("kube-apiserver")]);
        shell.args(arguments(&folder, &ports));
        shell.env("ETCD", url(ports.etcd)).env("PEERS", url(ports.peers));
        shell.stdin(Stdio::piped());
        let mut server = Self {
            folder,
            programs,
            address: ([127, 0, 0, 1], ports.server).into(),
            shell: shell.spawn().expect("a shell starts"),
        };
        server.wait_ready();
        Some(server)
    }

    /// One server for all tests of this process.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<ApiServer>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// The file by which clients of any kind reach the server as its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// `kubectl ARGS…`
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_with_input(arguments, "")
    }

    /// `kubectl ARGS… < INPUT`
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig());
        command.env("KUBECACHEDIR", self.folder.join("cache"));
        command.args(arguments);
        run(command, input)
    }

    /// `kubectl apply -f -` with one object.
    pub fn apply(&self, object: &Value) -> Output {
        self.kubectl_with_input(&["apply", "-f", "-"], &object.to_string())
    }

    /// Creates one object by the path of its collection, for example `/api/v1/namespaces`: what became of it, or the
    /// server's refusal. A path that ends in `?dryRun=All` leaves nothing.
    ///
    /// # Errors
    /// The server's message.
    pub fn create_at(&self, path: &str, object: &Value) -> Result<Value, String> {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [
            ("Authorization", &*authorization),
            ("Content-Type", "application/json"),
        ];
        let authority = self.folder.join("ca.crt");
        let body = object.to_string();
        let reply = https(
            self.address,
            &authority,
            ("POST", path),
            &headers,
            body.as_bytes(),
        );
        let reply = reply.expect("the API server answers");
        let answer: Value = serde_json::from_str(&reply.body).expect("the API server answers with JSON");
        match reply.status {
            200..=299 => Ok(answer),
            _ => Err(answer["message"].as_str().unwrap_or(&reply.body).to_owned()),
        }
    }

    /// `kubectl create -f - --output json` with one object: what became of it, or the server's refusal.
    ///
    /// # Errors
    /// What `kubectl` printed.
    pub fn create(&self, object: &Value) -> Result<Value, String> {
        let output = self.kubectl_with_input(
            &["create", "--output", "json", "--filename", "-"],
            &object.to_string(),
        );
        if output.code == 0 {
            Ok(serde_json::from_str(&output.stdout).expect("kubectl prints JSON"))
        } else {
            Err(output.stderr)
        }
    }

    fn wait_ready(&mut self) {
        wait_for("the API server is ready", START_LIMIT, || {
            let ended = self.shell.try_wait().expect("the shell can be waited for");
            assert!(
                ended.is_none(),
                "the API server ended at once; its last lines are above"
            );
            let ready = self.kubectl(&["get", "--raw", "/readyz"]);
            let namespace = self.kubectl(&["get", "namespace", "default"]);
            if ready.code == 0 && namespace.code == 0 {
                Ok(())
            } else {
                Err(format!("{}\n{}", ready.stderr, namespace.stderr))
            }
        });
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // What cannot be waited for has ended.
        let _ = self.shell.wait();
    }
}

struct Ports {
    etcd: u16,
    peers: u16,
    server: u16,
}

/// Ports that were free just now, all held until the last is known.
fn free_ports() -> io::Result<Ports> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let [etcd, peers, server] = listeners.map(|listener| listener?.local_addr());
    Ok(Ports {
        etcd: etcd?.port(),
        peers: peers?.port(),
        server: server?.port(),
    })
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn arguments(folder: &Path, ports: &Ports) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        format!("--etcd-servers={}", url(ports.etcd)),
        "--bind-address=127.0.0.1".into(),
        // Its own service would need an address that is not of loopback.
        "--endpoint-reconciler-type=none".into(),
        format!("--secure-port={}", ports.server),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--token-auth-file={}", file("tokens")),
        "--authorization-mode=RBAC".into(),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        // Pods without a service account: nothing here makes any.
        "--disable-admission-plugins=ServiceAccount".into(),
        "--allow-privileged=true".into(),
        "--profiling=false".into(),
    ]
}

fn write_credentials(folder: &Path, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let write = |name: &str, text: String| fs::write(folder.join(name), text);
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    write("ca.crt", authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
    server
        .subject_alt_names
        .push(SanType::IpAddress([127, 0, 0, 1].into()));
    write("server.crt", server.signed_by(&key, &issuer)?.pem())?;
    write("server.key", key.serialize_pem())?;
    let accounts = KeyPair::generate()?;
    write("accounts.key", accounts.serialize_pem())?;
    write("accounts.pub", accounts.public_key_pem())?;
    write("tokens", format!("{TOKEN},admin,admin,system:masters\n"))?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": "ca.crt",
        }}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    write("kubeconfig", config.to_string())?;
    Ok(())
}
