//! Images made in memory, a real registry to push them to, and a mount namespace to mount them in.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

pub(crate) mod script;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    secrets::RegistryAuth,
};
use peerpods_guest::image::{Digest, ImageStore, PullSettings};
use tar::{Builder, EntryType, Header};

/// How long anything here may take to become true.
const PATIENCE: Duration = Duration::from_secs(20);

/// An archive under construction. Names go in as they are: attackers use no path library.
pub(crate) struct Archive(Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Archive {
        Archive(Builder::new(Vec::new()))
    }

    pub(crate) fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        link: &str,
        mode: u32,
        content: &[u8],
    ) -> Archive {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(2000);
        header.set_mtime(1_234_567_890);
        header.set_size(content.len() as u64);
        if kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Archive {
        self.entry(EntryType::Regular, name, "", 0o644, content)
    }

    pub(crate) fn directory(self, name: &str) -> Archive {
        self.entry(EntryType::Directory, name, "", 0o755, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Archive {
        self.entry(EntryType::Symlink, name, target, 0o777, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Archive {
        self.entry(EntryType::Link, name, target, 0o644, b"")
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Archive {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A layer as it lies in a registry, and the digest of what is in it.
pub(crate) struct Layer {
    pub(crate) packed: Vec<u8>,
    pub(crate) media_type: &'static str,
    pub(crate) diff_id: Digest,
}

impl Layer {
    pub(crate) fn plain(archive: Vec<u8>) -> Layer {
        let diff_id = Digest::of(&archive);
        Layer {
            packed: archive,
            media_type: "application/vnd.oci.image.layer.v1.tar",
            diff_id,
        }
    }

    pub(crate) fn gzip(archive: &[u8]) -> Layer {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(archive).unwrap();
        let media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        Layer {
            packed: encoder.finish().unwrap(),
            media_type,
            diff_id: Digest::of(archive),
        }
    }

    pub(crate) fn zstd(archive: &[u8]) -> Layer {
        let packed = zstd::encode_all(archive, 1).unwrap();
        Layer {
            packed,
            media_type: "application/vnd.oci.image.layer.v1.tar+zstd",
            diff_id: Digest::of(archive),
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.packed)
    }
}

/// Debian's registry, serving plain HTTP on a free loopback port for as long as the test runs.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    process: Child,
    storage: PathBuf,
    directory: tempfile::TempDir,
}

impl Registry {
    /// Starts it, or says why the test is skipped.
    pub(crate) fn start() -> Option<Registry> {
        let directory = tempfile::tempdir().unwrap();
        let storage = directory.path().join("storage");
        Registry::launch(directory, storage, "")
    }

    /// Another one for the same images, with more in its configuration: `extra` is a section of YAML, in which `@` is the
    /// folder of its files.
    pub(crate) fn again(&self, extra: &str, files: &[(&str, &[u8])]) -> Registry {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let extra = extra.replace('@', &directory.path().display().to_string());
        Registry::launch(directory, self.storage.clone(), &extra).expect("the first one was started as well")
    }

    fn launch(directory: tempfile::TempDir, storage: PathBuf, extra: &str) -> Option<Registry> {
        let Some(program) = std::env::var_os("PEERPODS_TEST_REGISTRY") else {
            println!("skipped: PEERPODS_TEST_REGISTRY does not name a docker-registry program");
            return None;
        };
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let configuration = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n{extra}\n",
            storage.display()
        );
        fs::write(&configuration, text).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let process = Command::new(program)
            .arg("serve")
            .arg(configuration)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap();
        let registry = Registry {
            address,
            process,
            storage,
            directory,
        };
        wait_for("the registry to listen", || TcpStream::connect(address).ok());
        Some(registry)
    }

    /// A file of its configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Pushes an image of these layers, whose configuration names these diff ids.
    pub(crate) async fn push(&self, image: &str, layers: &[&Layer], diff_ids: &[Digest]) {
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config).unwrap();
        let image: Reference = self.name(image).parse().unwrap();
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| ImageLayer::new(layer.packed.clone(), layer.media_type.to_owned(), None))
            .collect();
        let configuration = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Env": ["GREETING=hello"], "Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>()},
        });
        let configuration = Config::new(
            configuration.to_string().into_bytes(),
            "application/vnd.oci.image.config.v1+json".into(),
            None,
        );
        client
            .push(&image, &layers, configuration, &RegistryAuth::Anonymous, None)
            .await
            .unwrap();
    }

    /// Pushes an image whose configuration is truthful.
    pub(crate) async fn push_honest(&self, image: &str, layers: &[&Layer]) {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        self.push(image, layers, &diff_ids).await;
    }

    /// The file in which the registry keeps a blob.
    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// How often the blob was downloaded, once it was at all.
    pub(crate) fn downloads(&self, digest: Digest) -> usize {
        let wanted = format!("/blobs/{digest} ");
        wait_for("the access log", || {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap();
            let count = log
                .lines()
                .filter(|line| line.contains("\"GET ") && line.contains(&wanted))
                .count();
            (count > 0).then_some(count)
        })
    }

    pub(crate) fn settings(&self) -> PullSettings {
        insecure(self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Settings with plain HTTP for one registry, and little patience.
pub(crate) fn insecure(address: SocketAddr) -> PullSettings {
    PullSettings {
        insecure_registries: vec![address.to_string()],
        stall_timeout: Duration::from_secs(1),
        ..PullSettings::default()
    }
}

/// A server that gives every connection the same answer; `None` is silence.
pub(crate) fn canned_server(answer: Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test program.
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            match answer.clone() {
                Some(answer) => drop(std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    let _ = connection.read(&mut request);
                    let _ = connection.write_all(&answer);
                })),
                None => silent.push(connection),
            }
        }
    });
    address
}

/// A server of HTTP that answers by what it is asked: the whole request's head, without its end. What it was asked is kept.
pub(crate) fn server(
    answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (heads, answer) = (asked.clone(), Arc::new(answer));
    // Ends with the test program.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, heads, answer) = (connection.unwrap(), heads.clone(), answer.clone());
            std::thread::spawn(move || {
                let lines = BufReader::new(&connection).lines().map(Result::unwrap);
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let head = head.join("\n");
                let _ = connection.write_all(&answer(&head));
                heads.lock().unwrap().push(head);
            });
        }
    });
    (address, asked)
}

/// An answer that ends its connection.
pub(crate) fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// What a store holds: whole layers, and leftovers.
pub(crate) fn content(root: &Path) -> (usize, usize) {
    let count = |name: &str| fs::read_dir(root.join(name)).unwrap().count();
    (count("layers"), count("incoming"))
}

/// Runs a test on a thread with its own mounts and an own tmpfs, and a runtime; says so when that is not allowed.
pub(crate) fn in_own_mounts<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F + Send) {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            use nix::sched::{CloneFlags, unshare};
            use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
            if let Err(error) = unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS) {
                println!("skipped: cannot make a mount namespace: {error}");
                return;
            }
            let directory = tempfile::tempdir().unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), None).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test(directory.path().to_owned()));
            drop(runtime);
            rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        });
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

pub(crate) fn open(root: &Path, settings: PullSettings) -> ImageStore {
    ImageStore::open(root, settings).unwrap()
}

pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "timeout while waiting for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
