//! What containerd or CRI-O is told, and in which file.

use std::time::Duration;

use super::{NodeRoot, NodeRuntimeError, SHIM, files::Change};

const CRIO: &str = "/etc/crio";
const CRIO_SOCKET: &str = "/run/crio/crio.sock";
const CONTAINERD: &str = "/etc/containerd/config.toml";
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
const CONTAINERD_DROP_INS: &str = "/etc/containerd/conf.d/*.toml";
const BEGIN: &str = "# BEGIN peerpods: written by peerpods-operator, do not change\n";
const END: &str = "# END peerpods\n";

/// What runs the node's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerRuntime {
    Containerd,
    CriO,
}

impl ContainerRuntime {
    /// The one whose socket is there; else the one whose folder is.
    pub(super) fn of(node: &NodeRoot) -> Result<Self, NodeRuntimeError> {
        let has = |path| node.exists(path);
        if has(CRIO_SOCKET) || (has(CRIO) && !has(CONTAINERD_SOCKET)) {
            Ok(Self::CriO)
        } else if has(CONTAINERD_SOCKET) || has("/etc/containerd") {
            Ok(Self::Containerd)
        } else {
            Err(NodeRuntimeError::NoContainerRuntime)
        }
    }

    /// The name of its program, of its process and of its systemd unit.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "crio",
        }
    }

    pub(super) fn socket(self) -> &'static str {
        match self {
            Self::Containerd => CONTAINERD_SOCKET,
            Self::CriO => CRIO_SOCKET,
        }
    }
}

/// Where the configuration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A file of ours in CRI-O's folder, which it reads by itself; the name is today's.
    CriODropIn,
    /// A file of ours in a folder that containerd's configuration imports. Only containerd 2 joins parts of one plugin's
    /// configuration, and its configuration has version 3 or later.
    ContainerdDropIn { version: u32 },
    /// Marked lines in containerd's configuration itself.
    ContainerdBlock { version: u32 },
}

const CRIO_FILE: &str = "/etc/crio/crio.conf.d/50-kata-remote";
const CONTAINERD_FILE: &str = "/etc/containerd/conf.d/50-kata-remote.toml";

impl Place {
    pub(super) fn of(runtime: ContainerRuntime, node: &NodeRoot) -> Result<Self, NodeRuntimeError> {
        if runtime == ContainerRuntime::CriO {
            return Ok(Self::CriODropIn);
        }
        let Some(text) = node.read(CONTAINERD)? else {
            return Ok(Self::ContainerdBlock { version: NEW_VERSION });
        };
        // A configuration without a version has the first.
        let version = top_level(&text, "version")
            .and_then(|value| value.parse().ok())
            .unwrap_or(1);
        let imports = top_level(&text, "imports").is_some_and(|value| value.contains(CONTAINERD_DROP_INS));
        Ok(if version >= 3 && imports {
            Self::ContainerdDropIn { version }
        } else {
            Self::ContainerdBlock { version }
        })
    }

    /// Files as they are to be.
    pub(super) fn install(self, node: &NodeRoot) -> Result<Vec<Change>, NodeRuntimeError> {
        let one = |path: &'static str, after: String| -> Result<Vec<Change>, NodeRuntimeError> {
            Ok(vec![Change {
                path,
                before: node.read(path)?,
                after: Some(after),
            }])
        };
        match self {
            Self::CriODropIn => one(CRIO_FILE, crio()),
            Self::ContainerdDropIn { version } => {
                let mut changes = one(
                    CONTAINERD_FILE,
                    format!("version = {version}\n{}", containerd(version)),
                )?;
                let main = node.read(CONTAINERD)?;
                let without = main.as_deref().map(without_block).transpose()?;
                refuse_others(without.as_deref())?;
                changes.push(Change {
                    path: CONTAINERD,
                    before: main,
                    after: without,
                });
                Ok(changes)
            }
            Self::ContainerdBlock { version } => {
                let before = node.read(CONTAINERD)?;
                let mut after = before
                    .as_deref()
                    .map(without_block)
                    .transpose()?
                    .unwrap_or_else(new_configuration);
                refuse_others(Some(&after))?;
                if !after.is_empty() && !after.ends_with('\n') {
                    after.push('\n');
                }
                after.extend([BEGIN, &containerd(version), END]);
                Ok(vec![Change {
                    path: CONTAINERD,
                    before,
                    after: Some(after),
                }])
            }
        }
    }

    /// Files as they are without us, wherever an earlier version put something.
    pub(super) fn remove_all(
        runtime: ContainerRuntime,
        node: &NodeRoot,
    ) -> Result<Vec<Change>, NodeRuntimeError> {
        let gone = |path: &'static str| -> Result<Change, NodeRuntimeError> {
            Ok(Change {
                path,
                before: node.read(path)?,
                after: None,
            })
        };
        if runtime == ContainerRuntime::CriO {
            return Ok(vec![gone(CRIO_FILE)?]);
        }
        let before = node.read(CONTAINERD)?;
        let after = before.as_deref().map(without_block).transpose()?;
        // What we made is gone again.
        let after = after.filter(|text| *text != new_configuration());
        Ok(vec![
            gone(CONTAINERD_FILE)?,
            Change {
                path: CONTAINERD,
                before,
                after,
            },
        ])
    }
}

/// Every containerd with the CRI reads it.
const NEW_VERSION: u32 = 2;

/// For a node whose containerd has none: with what containerd 2 does by itself then.
fn new_configuration() -> String {
    format!("version = {NEW_VERSION}\nimports = [\"{CONTAINERD_DROP_INS}\"]\n")
}

/// The value of a key before the first table, as text.
fn top_level<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| {
            let value = value.trim();
            // No value that is looked for has a # in it.
            value.split_once('#').map_or(value, |(value, _)| value.trim())
        })
}

/// The configuration without our lines.
fn without_block(text: &str) -> Result<String, NodeRuntimeError> {
    let Some(start) = text.find(BEGIN) else {
        return Ok(text.to_owned());
    };
    let broken = NodeRuntimeError::BrokenBlock { path: CONTAINERD };
    let length = text[start..].find(END).ok_or(broken)? + END.len();
    Ok(format!("{}{}", &text[..start], &text[start + length..]))
}

/// Two tables of one name are an error that containerd does not start with.
fn refuse_others(text: Option<&str>) -> Result<(), NodeRuntimeError> {
    let is_other = |line: &str| {
        let line = line.trim();
        line.starts_with('[') && line.replace('"', "").ends_with("runtimes.kata-remote]")
    };
    match text.is_some_and(|text| text.lines().any(is_other)) {
        true => Err(NodeRuntimeError::NotOurs { path: CONTAINERD }),
        false => Ok(()),
    }
}

fn containerd(version: u32) -> String {
    let plugin = if version >= 3 {
        "io.containerd.cri.v1.runtime"
    } else {
        "io.containerd.grpc.v1.cri"
    };
    // Devices of the node are of no use in a VM; annotations say its size.
    format!(
        "[plugins.\"{plugin}\".containerd.runtimes.kata-remote]\n\
         \x20 runtime_type = \"io.containerd.kata.v2\"\n\
         \x20 runtime_path = \"{SHIM}\"\n\
         \x20 privileged_without_host_devices = true\n\
         \x20 pod_annotations = [\"io.katacontainers.*\", \"kata.peerpods.io/*\"]\n"
    )
}

/// CRI-O's file and what is in it.
pub(crate) fn crio_drop_in() -> (&'static str, String) {
    (CRIO_FILE, crio())
}

/// A VM's start, and the pull of an image in it, are part of creating a container. CRI-O gives it 4 minutes by default;
/// versions that do not know the setting pass over it, as over every key that they do not know.
const CRIO_CREATE_LIMIT: Duration = Duration::from_secs(15 * 60);

fn crio() -> String {
    let limit = CRIO_CREATE_LIMIT.as_secs();
    format!(
        "[crio.runtime.runtimes.kata-remote]\n\
         runtime_path = \"{SHIM}\"\n\
         runtime_type = \"vm\"\n\
         runtime_root = \"/run/vc\"\n\
         privileged_without_host_devices = true\n\
         runtime_pull_image = true\n\
         container_create_timeout = {limit}\n\
         allowed_annotations = [\"io.kubernetes.cri-o.Devices\"]\n"
    )
}
