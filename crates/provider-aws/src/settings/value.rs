//! The forms of single settings.

/// Whether VMs are confidential ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfidentialVm {
    /// Ordinary VMs.
    Off,
    /// AMD SEV-SNP, which few types in few regions have.
    SevSnp,
}

/// What VMs are bought as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Market {
    /// Instances that EC2 does not take back.
    OnDemand,
    /// Spare ones, which EC2 may take back; where there are none, instances on demand.
    SpotFirst,
}

/// The network interfaces of VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// One: the pod's traffic leaves through its node.
    One,
    /// Two: the pod's own traffic leaves by the second.
    Two,
}

impl Interfaces {
    /// How many there are.
    pub fn count(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// The role of VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceProfile {
    /// By its name.
    Name(String),
    /// By its ARN.
    Arn(String),
}

/// A launch template, of which the default version is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchTemplate {
    /// Its name.
    pub name: String,
}

/// Whose hardware VMs share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// Anybody's.
    Shared,
    /// The account's alone.
    Dedicated,
    /// A dedicated host of the account's: this one, where one is named.
    Host {
        /// The host's id.
        host: Option<String>,
        /// The ARN of a group of hosts.
        group: Option<String>,
    },
}
