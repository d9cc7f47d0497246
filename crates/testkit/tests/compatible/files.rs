//! Files as the shims copy them into the VM.

use peerpods_proto::agent::CopyFileRequest;

use crate::agent::{Agent, soon};

const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const FILE: u32 = 0o100_000;
/// The mode of missing parents, with Go's own bit for a directory above the kernel's.
const GO_PARENT: u32 = 0o20_000_000_750;
/// The same from the Rust shim.
const RUST_PARENT: u32 = 0o040_750;
/// Go's chunks of a file.
const GO_CHUNK: usize = 1 << 20;

/// Which shim copies.
#[derive(Clone, Copy)]
pub(crate) enum Sender {
    Go,
    Rust,
}

/// Where a shim puts what a container mounts at `name`.
pub(crate) fn guest_path(container: &str, name: &str) -> String {
    format!("/run/kata-containers/shared/containers/{container}-0123456789abcdef-{name}")
}

impl Sender {
    /// A single file: the Go shim's comes in pieces, and the Rust shim's has no mode for parents.
    pub(crate) async fn file(self, agent: &Agent, path: &str, content: &[u8]) {
        let parent = match self {
            Self::Go => GO_PARENT,
            Self::Rust => 0,
        };
        self.pieces(agent, path, content, parent).await;
    }

    /// A volume of the kubelet: a version's folder with one file, and the links to it.
    pub(crate) async fn volume(self, agent: &Agent, path: &str, version: &str, file: &str, content: &str) {
        let parent = match self {
            Self::Go => GO_PARENT,
            Self::Rust => RUST_PARENT,
        };
        self.directory(agent, path, 0o777, parent).await;
        self.directory(agent, &format!("{path}/{version}"), 0o755, parent)
            .await;
        let inside = format!("{path}/{version}/{file}");
        self.pieces(agent, &inside, content.as_bytes(), parent).await;
        self.link(agent, &format!("{path}/..data"), version, parent).await;
        let target = format!("..data/{file}");
        self.link(agent, &format!("{path}/{file}"), &target, parent).await;
    }

    async fn directory(self, agent: &Agent, path: &str, mode: u32, parent: u32) {
        send(agent, path, DIRECTORY | mode, parent, 0, 0, b"").await;
    }

    async fn link(self, agent: &Agent, path: &str, target: &str, parent: u32) {
        let size = match self {
            Self::Go => 0,
            Self::Rust => target.len(),
        };
        send(agent, path, LINK | 0o777, parent, size, 0, target.as_bytes()).await;
    }

    async fn pieces(self, agent: &Agent, path: &str, content: &[u8], parent: u32) {
        let piece = match self {
            Self::Go => GO_CHUNK,
            Self::Rust => content.len().max(1),
        };
        let mode = FILE | 0o644;
        if content.is_empty() {
            return send(agent, path, mode, parent, 0, 0, b"").await;
        }
        for (number, data) in content.chunks(piece).enumerate() {
            send(agent, path, mode, parent, content.len(), number * piece, data).await;
        }
    }
}

async fn send(agent: &Agent, path: &str, mode: u32, parent: u32, size: usize, offset: usize, data: &[u8]) {
    let request = CopyFileRequest {
        path: path.to_owned(),
        file_mode: mode,
        dir_mode: parent,
        file_size: size.try_into().unwrap(),
        offset: offset.try_into().unwrap(),
        data: data.into(),
        ..Default::default()
    };
    let copied = agent.service.copy_file(soon(), &request).await;
    copied.unwrap_or_else(|error| panic!("{path}: {error}"));
}
