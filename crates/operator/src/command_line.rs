//! What an administrator can set: flags, or variables of the Deployment.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use peerpods_api::names::OPERATOR_NAMESPACE;

use crate::{
    installation::{Images, Issuer, NodeRuntime},
    manifests::NODE_ROOT,
    node_runtime::{Extent, RestartWay},
};

/// Brings nodes to run pods of runtime class kata-remote in virtual machines of their own.
///
/// Create a KataConfig with enablePeerPods: true, and a ConfigMap peer-pods-cm with at least CLOUD_PROVIDER: the operator
/// labels the selected nodes, installs the runtime there, counts how many VMs each may have, and runs the node daemon and
/// the admission webhook. `kubectl describe kataconfig` says, node by node, what is there and what is missing. Deleting the
/// KataConfig removes all of it again.
#[derive(Debug, Parser)]
#[command(name = "peerpods-operator", version)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Acts for the cluster, until SIGTERM. Of several processes one acts; the others stand by.
    Run(Box<RunArguments>),
    /// Installs the runtime on the node that this runs on, and stays: what the operator's DaemonSet runs.
    InstallNode(NodeArguments),
    /// Removes what install-node installed, and stays.
    CleanNode(NodeArguments),
    /// Runs a program with another root. A part of install-node, which needs it to speak to the node's systemd.
    #[command(hide = true)]
    RunIn {
        /// The root.
        root: PathBuf,
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Prints all that the operator may do, for `kubectl apply`.
    Permissions {
        /// Where the operator runs.
        #[arg(long, env = "POD_NAMESPACE", default_value = OPERATOR_NAMESPACE)]
        namespace: String,
    },
}

/// How the operator acts.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Where the operator runs, and what it installs.
    #[arg(long, env = "POD_NAMESPACE", default_value = OPERATOR_NAMESPACE)]
    pub(crate) namespace: String,
    /// The name of this process's pod, which no other has.
    #[arg(long, env = "POD_NAME")]
    pub(crate) pod_name: String,
    /// The image of the node daemon.
    #[arg(long, env = "RELATED_IMAGE_CAA")]
    pub(crate) adaptor_image: String,
    /// The image of the admission webhook.
    #[arg(long, env = "RELATED_IMAGE_PEERPODS_WEBHOOK")]
    pub(crate) webhook_image: String,
    /// The image of this program with the shim beside it, which installs the runtime on nodes.
    #[arg(long, env = "RELATED_IMAGE_PEERPODS_NODE_RUNTIME")]
    pub(crate) node_runtime_image: String,
    /// The image of peerpodctl with the VM's disk beside it, which is published to EC2 where no VM image is named.
    #[arg(long, env = "RELATED_IMAGE_PEERPODS_VM_IMAGE")]
    pub(crate) vm_image: String,
    /// How the runtime comes to nodes.
    #[arg(long, env = "NODE_RUNTIME", value_enum, default_value_t = NodeRuntimeWay::Auto)]
    pub(crate) node_runtime: NodeRuntimeWay,
    /// An issuer of cert-manager for the webhook's certificate, as ClusterIssuer/NAME or Issuer/NAME; it must tell its
    /// authority. By default the operator issues and renews the certificate itself.
    #[arg(long, env = "WEBHOOK_ISSUER")]
    pub(crate) issuer: Option<Issuer>,
    /// The cluster's id, which VMs carry; by default the UID of namespace kube-system.
    #[arg(long, env = "CLUSTER_ID")]
    pub(crate) cluster_id: Option<String>,
    /// Where /healthz, /readyz and /metrics are.
    #[arg(long, env = "HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    pub(crate) health_address: SocketAddr,
}

impl RunArguments {
    pub(crate) fn images(&self) -> Images {
        Images {
            adaptor: self.adaptor_image.clone(),
            webhook: self.webhook_image.clone(),
            node_runtime: self.node_runtime_image.clone(),
            vm_image: self.vm_image.clone(),
        }
    }
}

/// How the runtime comes to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NodeRuntimeWay {
    /// By MachineConfigs where pools of OpenShift manage the nodes, else by pods.
    Auto,
    /// Pods install and remove it.
    #[value(name = "daemonset")]
    DaemonSet,
    /// It is there already.
    Preinstalled,
}

impl From<NodeRuntimeWay> for NodeRuntime {
    fn from(way: NodeRuntimeWay) -> Self {
        match way {
            NodeRuntimeWay::Auto => Self::Auto,
            NodeRuntimeWay::DaemonSet => Self::DaemonSet,
            NodeRuntimeWay::Preinstalled => Self::Preinstalled,
        }
    }
}

/// What is installed where.
#[derive(Debug, Args)]
pub(crate) struct NodeArguments {
    /// Where the node's root is.
    #[arg(long, env = "NODE_ROOT", default_value = NODE_ROOT)]
    pub(crate) root: PathBuf,
    /// The shim to install.
    #[arg(long, env = "SHIM", default_value = "/usr/bin/containerd-shim-kata-v2")]
    pub(crate) shim: PathBuf,
    /// Leaves the container runtime's configuration alone, which somebody else writes.
    #[arg(long)]
    pub(crate) shim_only: bool,
    /// How the container runtime takes up what changed. Its pods go on in every way.
    #[arg(long, env = "RUNTIME_RESTART", value_enum, default_value_t = RestartWay::Auto)]
    pub(crate) restart: RestartWay,
    /// Where /readyz answers that the work is done.
    #[arg(long, env = "READY_ADDRESS", default_value = "0.0.0.0:8080")]
    pub(crate) ready_address: SocketAddr,
}

impl NodeArguments {
    /// How much of it is installed.
    pub(crate) fn extent(&self) -> Extent {
        match self.shim_only {
            true => Extent::Shim,
            false => Extent::Everything,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
        let variables = [
            "--pod-name",
            "a",
            "--adaptor-image",
            "b",
            "--webhook-image",
            "c",
            "--node-runtime-image",
            "d",
            "--vm-image",
            "e",
        ];
        let parsed =
            CommandLine::try_parse_from([&["peerpods-operator", "run"][..], &variables].concat()).unwrap();
        let Command::Run(run) = parsed.command else {
            panic!("another command")
        };
        assert_eq!(run.namespace, "openshift-sandboxed-containers-operator");
    }
}
