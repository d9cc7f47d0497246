//! What an administrator can set: flags, or the variables of `peer-pods-cm`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{
    ArgAction, Parser, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use peerpods_api::names::node_folders;
use peerpods_proto::{
    payload::{InstanceMetadata, IpNet, ScratchEncryption},
    shim_settings::{HostPaths, LogLevel},
};
use peerpods_provider::AddressPool;
use peerpods_provider_qemu::Accelerator;
use peerpods_tunnel::channel::AGENT_PORT;

use crate::{
    credentials::ImagePullSecrets,
    external_network::{Networks, networks, switch},
    peer_pods::PeerPodObjects,
};

/// The node daemon of peer pods: gives every pod of runtime class kata-remote a virtual machine of its own.
///
/// It serves the hypervisor interface of Kata shims on a socket of this node, launches and ends VMs through a cloud
/// provider, and connects the pods' network with them. Every VM is in its journal before it is launched: killed and
/// started again it takes up all that lives, and pods notice nothing.
#[derive(Clone, Debug, Parser)]
#[command(name = "cloud-api-adaptor", version, after_help = AWS_HELP)]
pub(crate) struct Settings {
    /// Where VMs run.
    #[arg(long, env = "CLOUD_PROVIDER", value_enum, default_value_t = CloudProvider::Qemu)]
    pub(crate) cloud_provider: CloudProvider,
    /// This node's name, as Kubernetes knows it.
    #[arg(long, env = "NODE_NAME")]
    pub(crate) node_name: String,
    /// The cluster's id: VMs carry it, and only VMs that carry it are ever ended.
    #[arg(long, env = "CLUSTER_ID")]
    pub(crate) cluster_id: String,
    /// The address and prefix of this node for pod tunnels; by default that of its default route.
    #[arg(long, env = "NODE_ADDRESS", value_name = "ADDRESS/PREFIX")]
    pub(crate) node_address: Option<IpNet>,
    /// The socket on which shims find this daemon.
    #[arg(
        long,
        env = "REMOTE_HYPERVISOR_ENDPOINT",
        default_value = "/run/peerpod/hypervisor.sock"
    )]
    pub(crate) socket: PathBuf,
    /// One directory per pod, with what shims need to reach its VM.
    #[arg(long, env = "PODS_DIR", default_value = "/run/peerpod/pods")]
    pub(crate) pods_dir: PathBuf,
    /// Where the journal is kept: on a disk, so that nothing is lost when the node restarts.
    #[arg(long, env = "JOURNAL_DIR", default_value = node_folders::JOURNAL)]
    pub(crate) journal_dir: PathBuf,
    /// The UDP port of pod tunnels, from this node to the VMs.
    #[arg(long, env = "VXLAN_PORT", default_value_t = 4789)]
    pub(crate) vxlan_port: u16,
    /// The TCP port of the agents in the VMs.
    #[arg(long, env = "FORWARDER_PORT", default_value_t = AGENT_PORT)]
    pub(crate) forwarder_port: u16,
    /// How long a VM may take from its launch until its agent answers, for example 5m.
    #[arg(long, env = "PROXY_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub(crate) proxy_timeout: Duration,
    /// How long a VM lives on without a word from its node; longer than a node drain or an outage.
    #[arg(long, env = "LEASE", default_value = "1h", value_parser = duration)]
    pub(crate) lease: Duration,
    /// How many VMs wait, booted, for pods that ask for no special size or image: such a pod then starts without a boot.
    /// Each takes a VM's memory, or what the cloud bills.
    #[arg(long, env = "WARM_VMS", value_name = "COUNT", default_value_t = 0, value_parser = warm_vms)]
    pub(crate) warm_vms: usize,
    /// Registries that VMs speak to in plain HTTP, as host:port, separated by commas.
    #[arg(long, env = "INSECURE_REGISTRIES", value_delimiter = ',')]
    pub(crate) insecure_registries: Vec<String>,
    /// Whether VMs encrypt their scratch disks, where images and what containers write are.
    #[arg(long, env = "SCRATCH_ENCRYPTION", default_value = "none", value_parser = scratch_encryption())]
    pub(crate) scratch_encryption: ScratchEncryption,
    /// Whether containers reach the metadata service of the EC2 instance that they are in, and so the credentials of its role.
    #[arg(long, env = "INSTANCE_METADATA", default_value = "refuse", value_parser = instance_metadata())]
    pub(crate) instance_metadata: InstanceMetadata,
    /// Whether what pods send to the outside of the cluster leaves by a second network interface of their VMs, and not by this
    /// node: true or false. With provider aws.
    #[arg(
        long,
        env = "EXTERNAL_NETWORK_VIA_PODVM",
        value_name = "SWITCH",
        default_value = "false",
        action = ArgAction::Set,
        value_parser = switch
    )]
    pub(crate) external_network_via_podvm: bool,
    /// With it: networks that pods reach by this node all the same, separated by commas. Those of the cluster's pods and
    /// services, where the CNI gives pods no routes to them.
    #[arg(long, env = "POD_SUBNET_CIDRS", value_name = "NETWORKS", default_value = "", value_parser = networks)]
    pub(crate) pod_subnet_cidrs: Networks,
    /// What becomes of hostPath volumes, whose files are on this node and not in the VM.
    #[arg(long, env = "HOST_PATHS", default_value = "copy", value_parser = host_paths())]
    pub(crate) host_paths: HostPaths,
    /// How much is logged, by this daemon and by the shims of pods that start from now on. `RUST_LOG` and
    /// `PEERPODS_SHIM_LOG` say more.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = log_level())]
    pub(crate) log_level: LogLevel,
    /// How to reach the API server; in a pod it is found without. Read for imagePullSecrets.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// What becomes of the imagePullSecrets of pods, whose images are pulled in the VM.
    #[arg(long, env = "IMAGE_PULL_SECRETS", default_value = "read", value_parser = image_pull_secrets())]
    pub(crate) image_pull_secrets: ImagePullSecrets,
    /// Registry credentials for the images of all pods, after their own: a docker config.json. Need not be there.
    #[arg(
        long,
        env = "AUTH_JSON_FILE",
        default_value = "/root/containers/auth.json",
        value_name = "FILE"
    )]
    pub(crate) auth_json_file: PathBuf,
    /// Whether there is a PeerPod object for each VM, where the API server can be reached.
    #[arg(long, env = "PEER_PODS", default_value = "write", value_parser = peer_pods())]
    pub(crate) peer_pods: PeerPodObjects,
    /// Where /healthz, /readyz and /metrics are answered.
    #[arg(long, env = "HEALTH_ADDRESS", default_value = "127.0.0.1:8000")]
    pub(crate) health_address: SocketAddr,
    #[command(flatten)]
    pub(crate) qemu: QemuArguments,
    #[command(flatten)]
    pub(crate) namespaces: NamespacesArguments,
}

/// The settings of the provider `aws`, which are those of today's ConfigMap and Secret and have no flags.
const AWS_HELP: &str = "\
Provider aws, by variables:
  PODVM_AMI_ID               The VM image; required
  PODVM_INSTANCE_TYPE        The type for pods that ask for nothing [default: m6a.large]
  PODVM_INSTANCE_TYPES       Further types that pods may get, separated by commas; each gets the cheapest that fits
  PODVM_INSTANCE_PRICES      A file with TYPE,DOLLARS on each line, instead of the table of this program
  AWS_REGION                 [default: the worker's]
  AWS_SUBNET_ID              Subnets, separated by commas and tried in this order [default: the worker's]
  AWS_SG_IDS                 Security groups, separated by commas [default: the worker's]
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE
                             Credentials [default: EKS Pod Identity, else the worker's role]
  ROOT_VOLUME_SIZE           GiB; the image's size where that is more [default: 30]
  ROOT_VOLUME_KMS_KEY        Encrypts root volumes [default: the account's key for EBS]
  USE_PUBLIC_IP              Reach VMs by public addresses [default: false]
  TAGS                       KEY=VALUE,KEY=VALUE for instances, volumes and interfaces
  DISABLECVM                 false for confidential VMs (AMD SEV-SNP) [default: true]
  PODVM_SPOT                 Spot instances where there are any, else on demand [default: false]
  PODVM_INSTANCE_PROFILE     The role of VMs, by name or ARN [default: none]
  SSH_KP_NAME                A key pair, for images that use one
  PODVM_PLACEMENT_GROUP, PODVM_TENANCY (default, dedicated, host), PODVM_HOST_ID, PODVM_HOST_RESOURCE_GROUP
  USE_PODVM_LAUNCHTEMPLATE, PODVM_LAUNCHTEMPLATE_NAME [default: false, kata]
  AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_EC2, AWS_EC2_METADATA_SERVICE_ENDPOINT
                             Other addresses than AWS's own";

/// A pool of more VMs than a node has pods is a slip of the finger, and an expensive one.
const WARM_VMS_LIMIT: usize = 250;

fn warm_vms(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count <= WARM_VMS_LIMIT);
    count.ok_or_else(|| format!("{text:?} is no number from 0 to {WARM_VMS_LIMIT}"))
}

fn log_level() -> impl TypedValueParser<Value = LogLevel> {
    let values = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]);
    values.map(|value| match value.as_str() {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => LogLevel::Info,
    })
}

fn scratch_encryption() -> impl TypedValueParser<Value = ScratchEncryption> {
    let values = PossibleValuesParser::new([
        PossibleValue::new("none").help("Who reads the disk, or a copy of it, reads what is on it"),
        PossibleValue::new("ephemeral")
            .help("With a key that each VM makes for itself and keeps in its memory alone"),
    ]);
    values.map(|value| match value.as_str() {
        "ephemeral" => ScratchEncryption::Ephemeral,
        _ => ScratchEncryption::None,
    })
}

fn instance_metadata() -> impl TypedValueParser<Value = InstanceMetadata> {
    let values = PossibleValuesParser::new([
        PossibleValue::new("refuse").help("They do not"),
        PossibleValue::new("allow").help("They do, by IPv4"),
    ]);
    values.map(|value| match value.as_str() {
        "allow" => InstanceMetadata::Allow,
        _ => InstanceMetadata::Refuse,
    })
}

fn host_paths() -> impl TypedValueParser<Value = HostPaths> {
    let values = PossibleValuesParser::new([
        PossibleValue::new("copy")
            .help("Files and folders are copied into the VM once, and cannot be written to"),
        PossibleValue::new("refuse").help("The container is refused"),
    ]);
    values.map(|value| match value.as_str() {
        "refuse" => HostPaths::Refuse,
        _ => HostPaths::Copy,
    })
}

fn image_pull_secrets() -> impl TypedValueParser<Value = ImagePullSecrets> {
    let values = PossibleValuesParser::new([
        PossibleValue::new("read").help("The Secrets are read for each image pull, and sent to the VM"),
        PossibleValue::new("ignore").help("No Secret is ever read"),
    ]);
    values.map(|value| match value.as_str() {
        "ignore" => ImagePullSecrets::Ignore,
        _ => ImagePullSecrets::Read,
    })
}

fn peer_pods() -> impl TypedValueParser<Value = PeerPodObjects> {
    let values = PossibleValuesParser::new([
        PossibleValue::new("write").help("There is, made before the VM and gone after it"),
        PossibleValue::new("omit").help("There is not"),
    ]);
    values.map(|value| match value.as_str() {
        "omit" => PeerPodObjects::Omit,
        _ => PeerPodObjects::Write,
    })
}

/// The providers of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CloudProvider {
    /// EC2 instances.
    Aws,
    /// QEMU processes on this node itself.
    Qemu,
    /// No VMs: guests in namespaces of this node, isolated by nothing. For benchmarks and tests only.
    Namespaces,
}

impl CloudProvider {
    /// The name by which it is set, and by which PeerPods tell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Qemu => "qemu",
            Self::Namespaces => "namespaces",
        }
    }
}

/// How VMs start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resume {
    /// From one that was saved, where there is one.
    On,
    /// Each by itself.
    Off,
}

/// Settings of the provider `qemu`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Provider qemu")]
pub(crate) struct QemuArguments {
    /// The kernel of the VM image.
    #[arg(
        long = "qemu-kernel",
        env = "QEMU_KERNEL",
        default_value = "/usr/share/peerpods/vmlinuz"
    )]
    pub(crate) kernel: PathBuf,
    /// The initrd of the VM image.
    #[arg(
        long = "qemu-initrd",
        env = "QEMU_INITRD",
        default_value = "/usr/share/peerpods/initrd.img"
    )]
    pub(crate) initrd: PathBuf,
    /// NAME/vmlinuz and NAME/initrd.img for pods that ask for the image NAME.
    #[arg(
        long = "qemu-images",
        env = "QEMU_IMAGES",
        default_value = "/run/peerpod/images"
    )]
    pub(crate) images: PathBuf,
    /// Where the provider keeps one directory per VM.
    #[arg(
        long = "qemu-state",
        env = "QEMU_STATE",
        default_value = "/run/peerpod/instances"
    )]
    pub(crate) state: PathBuf,
    /// The bridge that VMs join.
    #[arg(long = "qemu-bridge", env = "QEMU_BRIDGE", default_value = "peerpods0")]
    pub(crate) bridge: String,
    /// The addresses of VMs, as FIRST-LAST.
    #[arg(
        long = "qemu-address-pool",
        env = "QEMU_ADDRESS_POOL",
        default_value = "10.250.0.100-10.250.0.200"
    )]
    pub(crate) address_pool: AddressPool,
    /// The VMs' default route.
    #[arg(long = "qemu-gateway", env = "QEMU_GATEWAY", default_value = "10.250.0.1")]
    pub(crate) gateway: Ipv4Addr,
    /// The prefix length of the VMs' network.
    #[arg(long = "qemu-prefix-length", env = "QEMU_PREFIX_LENGTH", default_value_t = 24)]
    pub(crate) prefix_length: u8,
    /// The MTU of the VMs' network.
    #[arg(long = "qemu-mtu", env = "QEMU_MTU", default_value_t = 1500)]
    pub(crate) mtu: u32,
    /// auto, kvm or tcg; auto boots a kernel to see whether KVM works.
    #[arg(long = "qemu-accelerator", env = "QEMU_ACCELERATOR", default_value = "auto")]
    pub(crate) accelerator: Accelerator,
    /// CPUs of a VM whose pod asks for none.
    #[arg(long = "qemu-vcpus", env = "QEMU_VCPUS", default_value_t = 1)]
    pub(crate) vcpus: u32,
    /// Memory, in MiB, of a VM whose pod asks for none.
    #[arg(long = "qemu-memory", env = "QEMU_MEMORY", default_value_t = 512)]
    pub(crate) memory: u32,
    /// Size, in GiB, of the disk for images and for what containers write, of each VM; 0 for none, and then both take
    /// the VM's memory.
    ///
    /// It takes no more of the node's disk than is written to it.
    #[arg(long = "qemu-scratch-size", env = "QEMU_SCRATCH_SIZE", default_value_t = 8)]
    pub(crate) scratch_size: u32,
    /// Where these disks are, as files without names: on a disk of the node, not in its memory.
    #[arg(
        long = "qemu-scratch-dir",
        env = "QEMU_SCRATCH_DIR",
        default_value = node_folders::SCRATCH
    )]
    pub(crate) scratch_dir: PathBuf,
    /// Whether VMs of the default size go on from one that has booted and was saved, instead of booting each.
    #[arg(long = "qemu-resume", env = "QEMU_RESUME", value_enum, default_value_t = Resume::On)]
    pub(crate) resume: Resume,
    /// Where that VM is saved: on a disk, as it takes some hundred MiB.
    #[arg(
        long = "qemu-template-dir",
        env = "QEMU_TEMPLATE_DIR",
        default_value = node_folders::TEMPLATES
    )]
    pub(crate) template_dir: PathBuf,
    /// The QEMU program.
    #[arg(
        long = "qemu-binary",
        env = "QEMU_BINARY",
        default_value = "qemu-system-x86_64"
    )]
    pub(crate) binary: PathBuf,
    /// Where that program is, and VMs run.
    #[arg(long = "qemu-placement", env = "QEMU_PLACEMENT", value_enum, default_value_t = QemuPlacement::Here)]
    pub(crate) placement: QemuPlacement,
    /// With `node`: the control group of all VMs, on the node.
    #[arg(long = "qemu-cgroup", env = "QEMU_CGROUP", default_value = "peerpods")]
    pub(crate) cgroup: String,
}

/// Where QEMU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QemuPlacement {
    /// Where this program does.
    Here,
    /// On the node, of which this program's container has processes, network and capabilities: VMs are no part of the
    /// container, and outlive it.
    Node,
}

/// Settings of the provider `namespaces`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Provider namespaces, for benchmarks and tests only")]
pub(crate) struct NamespacesArguments {
    /// The guest program.
    #[arg(
        id = "namespaces-guest",
        long = "namespaces-guest",
        env = "NAMESPACES_GUEST",
        default_value = "/usr/share/peerpods/peerpods-guest"
    )]
    pub(crate) guest: PathBuf,
    /// The program that starts it in namespaces.
    #[arg(
        id = "namespaces-launcher",
        long = "namespaces-launcher",
        env = "NAMESPACES_LAUNCHER",
        default_value = "/usr/share/peerpods/peerpods-namespaces-launcher"
    )]
    pub(crate) launcher: PathBuf,
    /// Where the provider keeps one directory per guest.
    #[arg(
        id = "namespaces-state",
        long = "namespaces-state",
        env = "NAMESPACES_STATE",
        default_value = "/run/peerpod/namespaces"
    )]
    pub(crate) state: PathBuf,
    /// The control group, of version 2, that guests' groups go into.
    #[arg(
        id = "namespaces-cgroup",
        long = "namespaces-cgroup",
        env = "NAMESPACES_CGROUP",
        default_value = "/sys/fs/cgroup"
    )]
    pub(crate) cgroup: PathBuf,
    /// The bridge that guests join.
    #[arg(
        id = "namespaces-bridge",
        long = "namespaces-bridge",
        env = "NAMESPACES_BRIDGE",
        default_value = "peerpods0"
    )]
    pub(crate) bridge: String,
    /// The addresses of guests, as FIRST-LAST.
    #[arg(
        id = "namespaces-address-pool",
        long = "namespaces-address-pool",
        env = "NAMESPACES_ADDRESS_POOL",
        default_value = "10.250.0.201-10.250.0.240"
    )]
    pub(crate) address_pool: AddressPool,
    /// The guests' default route.
    #[arg(
        id = "namespaces-gateway",
        long = "namespaces-gateway",
        env = "NAMESPACES_GATEWAY",
        default_value = "10.250.0.1"
    )]
    pub(crate) gateway: Ipv4Addr,
    /// The prefix length of the guests' network.
    #[arg(
        id = "namespaces-prefix-length",
        long = "namespaces-prefix-length",
        env = "NAMESPACES_PREFIX_LENGTH",
        default_value_t = 24
    )]
    pub(crate) prefix_length: u8,
    /// The MTU of the guests' network.
    #[arg(
        id = "namespaces-mtu",
        long = "namespaces-mtu",
        env = "NAMESPACES_MTU",
        default_value_t = 1500
    )]
    pub(crate) mtu: u32,
}

/// Reads `90`, `90s`, `5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|character: char| !character.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("{text:?} is no duration such as 90s, 5m or 1h")),
    };
    let number: u32 = number
        .parse()
        .map_err(|_| format!("{text:?} is no duration such as 90s, 5m or 1h"))?;
    match u64::from(number) * seconds {
        0 => Err("a duration of 0 would end every VM at once".to_owned()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Settings::command().debug_assert();
        let settings = Settings::try_parse_from([
            "cloud-api-adaptor",
            "--node-name",
            "n",
            "--cluster-id",
            "c",
            "--lease",
            "90s",
        ]);
        assert_eq!(settings.unwrap().lease, Duration::from_secs(90));
    }

    #[test]
    fn the_pool_is_bounded() {
        assert_eq!((warm_vms("0"), warm_vms("250")), (Ok(0), Ok(250)));
        for wrong in ["", "-1", "251", "many"] {
            assert!(warm_vms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["", "m", "5d", "0", "-1s", "1.5h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
