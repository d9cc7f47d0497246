//! Instance types: how large they are, what they cost, and which one a pod gets.

mod choice;
mod prices;

use std::{collections::BTreeSet, fmt};

use peerpods_aws::{AwsError, Ec2, Parameters};

pub(crate) use choice::choose;
pub(crate) use prices::{Price, Prices};

use crate::{Interfaces, answers::InstanceTypeView};

/// A processor architecture, of types and images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Architecture {
    X86,
    Arm,
}

impl Architecture {
    /// By EC2's name; none for those that no VM image of ours is for.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        match name {
            "x86_64" => Some(Self::X86),
            "arm64" => Some(Self::Arm),
            _ => None,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::X86 => "x86_64",
            Self::Arm => "arm64",
        })
    }
}

/// One instance type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceType {
    pub(crate) name: String,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) gpus: u32,
    pub(crate) architectures: BTreeSet<Architecture>,
    /// The most network interfaces of an instance.
    pub(crate) interfaces: u32,
    pub(crate) price: Option<Price>,
}

impl InstanceType {
    fn new(view: InstanceTypeView, prices: &Prices) -> Self {
        let architectures = &view.processor_info.supported_architectures.items;
        Self {
            price: prices.of(&view.instance_type),
            name: view.instance_type,
            vcpus: view.v_cpu_info.default_vcpus,
            memory_mib: view.memory_info.size_mib,
            gpus: view.gpu_info.gpus.items.iter().map(|gpu| gpu.count).sum(),
            architectures: architectures
                .iter()
                .filter_map(|name| Architecture::of_name(name))
                .collect(),
            interfaces: view.network_info.maximum_network_interfaces,
        }
    }
}

impl fmt::Display for InstanceType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, vcpus, memory) = (&self.name, self.vcpus, self.memory_mib);
        write!(formatter, "{name} ({vcpus} vCPUs, {memory} MiB")?;
        if self.gpus > 0 {
            write!(formatter, ", {} GPUs", self.gpus)?;
        }
        formatter.write_str(")")
    }
}

/// The types that pods may get. The default is among them.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    pub(crate) default: String,
    pub(crate) types: Vec<InstanceType>,
    /// How many network interfaces a VM has.
    pub(crate) interfaces: Interfaces,
}

impl Catalog {
    /// Asks EC2 how large the types are.
    ///
    /// # Errors
    /// EC2 refuses all of them where it does not have one in this region, and names it.
    pub(crate) async fn load(
        ec2: &Ec2,
        default: &str,
        allowed: &[String],
        interfaces: Interfaces,
        prices: &Prices,
    ) -> Result<Self, AwsError> {
        let names: BTreeSet<&str> = allowed.iter().map(String::as_str).chain([default]).collect();
        let mut parameters = Parameters::new();
        parameters.set_list("InstanceType", names);
        let views: Vec<InstanceTypeView> = ec2.list(&parameters).await?;
        Ok(Self {
            default: default.to_owned(),
            interfaces,
            types: views
                .into_iter()
                .map(|view| InstanceType::new(view, prices))
                .collect(),
        })
    }
}
