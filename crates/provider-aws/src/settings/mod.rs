//! What an administrator can set in `peer-pods-cm` and `peer-pods-secret`, and what it comes to.

mod parse;
mod value;

use std::{collections::BTreeMap, fmt, path::PathBuf};

use peerpods_aws::AwsSettings;

pub(crate) use parse::is_image;
pub use value::{ConfidentialVm, InstanceProfile, Interfaces, LaunchTemplate, Market, Tenancy};

pub(crate) use crate::answers::{Addressing, Reached};

/// The settings as they are written, each under its name in the environment. An empty text counts as none, because a key
/// that was emptied in a ConfigMap leaves one.
#[derive(Clone, Default)]
pub struct AwsArguments {
    values: BTreeMap<&'static str, String>,
}

impl AwsArguments {
    /// Every name that means something here; the first three are secret.
    pub const NAMES: [&'static str; 26] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_PROFILE",
        "PODVM_AMI_ID",
        "PODVM_INSTANCE_TYPE",
        "PODVM_INSTANCE_TYPES",
        "PODVM_INSTANCE_PRICES",
        "AWS_SUBNET_ID",
        "AWS_SG_IDS",
        "SSH_KP_NAME",
        "USE_PUBLIC_IP",
        "ROOT_VOLUME_SIZE",
        "ROOT_VOLUME_KMS_KEY",
        "DISABLECVM",
        "USE_PODVM_LAUNCHTEMPLATE",
        "PODVM_LAUNCHTEMPLATE_NAME",
        "TAGS",
        "PODVM_INSTANCE_PROFILE",
        "PODVM_PLACEMENT_GROUP",
        "PODVM_TENANCY",
        "PODVM_HOST_ID",
        "PODVM_HOST_RESOURCE_GROUP",
        "PODVM_SPOT",
        "EXTERNAL_NETWORK_VIA_PODVM",
    ];

    /// Takes what `value` says of each name.
    pub fn from_values(value: impl Fn(&str) -> Option<String>) -> Self {
        let set = Self::NAMES.into_iter().filter_map(|name| {
            let text = value(name)?.trim().to_owned();
            (!text.is_empty()).then_some((name, text))
        });
        Self {
            values: set.collect(),
        }
    }

    /// Takes what the environment says.
    pub fn from_environment() -> Self {
        Self::from_values(|name| std::env::var(name).ok())
    }

    fn get(&self, name: &'static str) -> Option<&str> {
        debug_assert!(
            Self::NAMES.contains(&name),
            "{name} is not in the list of settings"
        );
        self.values.get(name).map(String::as_str)
    }

    /// Reads what says whose account is used, and where, and nothing else.
    ///
    /// # Errors
    /// All that is wrong with it, each by its name.
    pub fn account(&self) -> Result<AwsSettings, InvalidSettings> {
        parse::account(self)
    }

    /// Reads all of it, and finds everything that is wrong.
    ///
    /// # Errors
    /// All that is wrong or missing, each by its name.
    pub fn parse(&self) -> Result<AwsProviderSettings, InvalidSettings> {
        parse::settings(self)
    }
}

impl fmt::Debug for AwsArguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {problem}")]
pub struct InvalidSetting {
    /// Its name in `peer-pods-cm` or `peer-pods-secret`.
    pub name: &'static str,
    /// What is wrong with it, as the rest of a sentence.
    pub problem: String,
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidSettings(pub Vec<InvalidSetting>);

/// The settings of [`crate::AwsProvider`], each in its own form.
#[derive(Clone, Debug)]
pub struct AwsProviderSettings {
    /// Account and region.
    pub aws: AwsSettings,
    /// The VM image of pods that name none.
    pub image: String,
    /// The instance type of pods that ask for nothing.
    pub default_type: String,
    /// Further types that pods may get.
    pub allowed_types: Vec<String>,
    /// A table of prices instead of the bundled one.
    pub prices: Option<PathBuf>,
    /// The subnets of VMs, tried in this order; by default the worker's.
    pub subnets: Vec<String>,
    /// The security groups of VMs; by default the worker's.
    pub security_groups: Vec<String>,
    /// An SSH key pair for images that use one.
    pub key_name: Option<String>,
    /// By which address workers reach VMs.
    pub(crate) reached: Reached,
    /// How many network interfaces VMs have.
    pub interfaces: Interfaces,
    /// The least size of the root volume in GiB; the image may need more.
    pub root_volume_gib: u32,
    /// The key that root volumes are encrypted with; by default the account's own for EBS.
    pub root_volume_key: Option<String>,
    /// Whether VMs are confidential ones.
    pub confidential: ConfidentialVm,
    /// A launch template, which then says all that this project does not have to.
    pub launch_template: Option<LaunchTemplate>,
    /// Further tags of everything that is launched.
    pub tags: BTreeMap<String, String>,
    /// The role of VMs; by default they have none.
    pub instance_profile: Option<InstanceProfile>,
    /// The placement group of VMs.
    pub placement_group: Option<String>,
    /// Whose hardware VMs share.
    pub tenancy: Tenancy,
    /// What VMs are bought as.
    pub market: Market,
}

impl AwsProviderSettings {
    /// Where VMs get public addresses from, if they need any: EC2 itself gives one only to an instance with one interface.
    pub(crate) fn addressing(&self) -> Addressing {
        match (self.reached, self.interfaces) {
            (Reached::Publicly, Interfaces::Two) => Addressing::Elastic,
            (Reached::Privately, _) | (Reached::Publicly, Interfaces::One) => Addressing::Automatic,
        }
    }
}
