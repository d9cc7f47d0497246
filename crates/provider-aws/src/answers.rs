//! What is read of EC2's answers.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use peerpods_aws::{Action, Items, Listed, Tag};
use peerpods_provider::{Instance, InstanceId, InstanceStatus};
use serde::Deserialize;

use crate::{
    tags::{self, ADDRESSING, ELASTIC, TOKEN},
    watch::View,
};

/// What one launch made: the answer to RunInstances, and an entry of DescribeInstances.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Launched {
    #[serde(default)]
    pub(crate) instances_set: Items<InstanceView>,
}

impl Launched {
    /// The instances of these launches.
    pub(crate) fn instances(launches: Vec<Self>) -> impl Iterator<Item = InstanceView> {
        launches
            .into_iter()
            .flat_map(|launched| launched.instances_set.items)
    }
}

impl Listed for Launched {
    const ACTION: Action = Action::DescribeInstances;
    const SET: &'static str = "reservationSet";
}

/// An instance as EC2 shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceView {
    instance_id: String,
    instance_type: String,
    instance_state: State,
    /// `spot`, for one that EC2 may take back; none for others.
    instance_lifecycle: Option<String>,
    private_ip_address: Option<Ipv4Addr>,
    /// Its public address.
    ip_address: Option<Ipv4Addr>,
    /// Why it changed to its state, for a person; empty while it runs.
    #[serde(default)]
    reason: String,
    #[serde(default)]
    state_reason: StateReason,
    #[serde(default)]
    pub(crate) tag_set: Items<Tag>,
    #[serde(default)]
    block_device_mapping: Items<AttachedVolume>,
    #[serde(default)]
    network_interface_set: Items<AttachedInterface>,
}

#[derive(Clone, Debug, Deserialize)]
struct AttachedVolume {
    ebs: Option<VolumeName>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeName {
    volume_id: String,
}

/// A network interface of an instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttachedInterface {
    pub(crate) network_interface_id: String,
    pub(crate) attachment: Attachment,
}

/// Where an interface is attached.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attachment {
    /// Its number in the instance, from 0.
    pub(crate) device_index: u32,
}

#[derive(Clone, Debug, Deserialize)]
struct State {
    name: StateName,
}

/// EC2's states of an instance.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum StateName {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct StateReason {
    #[serde(default)]
    message: String,
}

/// Whether there is something to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existence {
    /// It runs or can run again.
    Lives,
    /// It ends by itself from here on.
    Ends,
    /// It is no more.
    Ended,
}

/// Which of its addresses a worker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// Within the VPC.
    Privately,
    /// From anywhere.
    Publicly,
}

/// Where an instance has its public addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// From EC2, if it has any: they come and go with it.
    Automatic,
    /// Each interface has an elastic address, which stays until it is given up.
    Elastic,
}

impl View for InstanceView {
    type Entry = Launched;
    const FILTER: &'static str = "instance-id";

    fn by_instance(launches: Vec<Launched>) -> BTreeMap<InstanceId, Self> {
        let views = Launched::instances(launches);
        views.map(|view| (view.id(), view)).collect()
    }
}

impl InstanceView {
    pub(crate) fn id(&self) -> InstanceId {
        InstanceId::new(&self.instance_id)
    }

    pub(crate) fn is_spot(&self) -> bool {
        self.instance_lifecycle.as_deref() == Some("spot")
    }

    /// Where its public addresses are from; none where its tags, which EC2 takes from an instance some time after its end,
    /// do not say so any more.
    pub(crate) fn addressing(&self) -> Option<Addressing> {
        let value = |key| tags::value(&self.tag_set.items, key);
        match value(ADDRESSING) {
            Some(ELASTIC) => Some(Addressing::Elastic),
            Some(_) => None,
            None => value(TOKEN).map(|_| Addressing::Automatic),
        }
    }

    pub(crate) fn interfaces(&self) -> &[AttachedInterface] {
        &self.network_interface_set.items
    }

    /// The same, with this public address of its first interface.
    pub(crate) fn with_public(self, address: Ipv4Addr) -> Self {
        Self {
            ip_address: Some(address),
            ..self
        }
    }

    /// The instance and all that was made with it: what carries its tags.
    pub(crate) fn tagged(&self) -> impl Iterator<Item = &str> {
        let volumes = self
            .block_device_mapping
            .items
            .iter()
            .filter_map(|volume| volume.ebs.as_ref());
        let interfaces = self.network_interface_set.items.iter();
        [self.instance_id.as_str()]
            .into_iter()
            .chain(volumes.map(|volume| volume.volume_id.as_str()))
            .chain(interfaces.map(|interface| interface.network_interface_id.as_str()))
    }

    pub(crate) fn existence(&self) -> Existence {
        match self.instance_state.name {
            StateName::Pending | StateName::Running | StateName::Stopping | StateName::Stopped => {
                Existence::Lives
            }
            StateName::ShuttingDown => Existence::Ends,
            StateName::Terminated => Existence::Ended,
        }
    }

    /// What it is to a pod: a stopped instance is no use to any.
    pub(crate) fn status(&self) -> InstanceStatus {
        match self.instance_state.name {
            StateName::Pending | StateName::Running => InstanceStatus::Alive,
            StateName::Stopping | StateName::Stopped => InstanceStatus::Gone(self.told("was stopped")),
            StateName::ShuttingDown | StateName::Terminated => {
                InstanceStatus::Gone(self.told("was terminated"))
            }
        }
    }

    fn told(&self, what: &str) -> String {
        let words = [&self.state_reason.message, &self.reason];
        match words.into_iter().find(|words| !words.is_empty()) {
            Some(words) => format!("the instance {what}: {words}"),
            None => format!("the instance {what}"),
        }
    }

    /// The instance with its addresses, the one to use first; none while it does not have that one.
    pub(crate) fn instance(&self, reached: Reached) -> Option<Instance> {
        let private = self.private_ip_address.map(IpAddr::from);
        let public = self.ip_address.map(IpAddr::from);
        let (used, other) = match reached {
            Reached::Privately => (private?, public),
            Reached::Publicly => (public?, private),
        };
        Some(Instance {
            id: self.id(),
            addresses: [used].into_iter().chain(other).collect(),
            machine_type: Some(self.instance_type.clone()),
        })
    }
}

/// An instance type's size.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceTypeView {
    pub(crate) instance_type: String,
    pub(crate) processor_info: ProcessorInfo,
    pub(crate) v_cpu_info: VcpuInfo,
    pub(crate) memory_info: MemoryInfo,
    pub(crate) network_info: NetworkInfo,
    #[serde(default)]
    pub(crate) gpu_info: GpuInfo,
}

impl Listed for InstanceTypeView {
    const ACTION: Action = Action::DescribeInstanceTypes;
    const SET: &'static str = "instanceTypeSet";
}

/// What its processors are.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessorInfo {
    #[serde(default)]
    pub(crate) supported_architectures: Items<String>,
}

/// How many virtual processors it has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VcpuInfo {
    #[serde(rename = "defaultVCpus")]
    pub(crate) default_vcpus: u32,
}

/// How much memory it has.
#[derive(Debug, Deserialize)]
pub(crate) struct MemoryInfo {
    #[serde(rename = "sizeInMiB")]
    pub(crate) size_mib: u32,
}

/// What it has of networks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkInfo {
    pub(crate) maximum_network_interfaces: u32,
}

/// Its accelerators.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct GpuInfo {
    #[serde(default)]
    pub(crate) gpus: Items<Gpu>,
}

/// Accelerators of one kind.
#[derive(Debug, Deserialize)]
pub(crate) struct Gpu {
    pub(crate) count: u32,
}

/// A VM image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageView {
    pub(crate) architecture: Option<String>,
    pub(crate) root_device_name: Option<String>,
    #[serde(default)]
    pub(crate) block_device_mapping: Items<BlockDevice>,
}

impl Listed for ImageView {
    const ACTION: Action = Action::DescribeImages;
    const SET: &'static str = "imagesSet";
}

/// A disk of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockDevice {
    pub(crate) device_name: String,
    pub(crate) ebs: Option<EbsDevice>,
}

/// A disk that is made of a snapshot.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EbsDevice {
    pub(crate) volume_size: Option<u32>,
}

/// The answer to GetConsoleOutput.
#[derive(Debug, Deserialize)]
pub(crate) struct Console {
    /// In base64.
    pub(crate) output: Option<String>,
}
