//! What the worker's own instance says where settings do not.

use peerpods_aws::{AwsError, Metadata};
use peerpods_provider::ProviderError;

use crate::{
    AwsProviderSettings,
    settings::{InvalidSetting, InvalidSettings},
};

/// Where VMs are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Tried in this order; none only where a launch template has one.
    pub(crate) subnets: Vec<String>,
    /// Empty where a launch template has some.
    pub(crate) security_groups: Vec<String>,
}

impl Attachment {
    /// Takes the settings, and asks the worker's metadata for what is not there.
    pub(crate) async fn find(settings: &AwsProviderSettings) -> Result<Self, ProviderError> {
        let mut found = Self {
            subnets: settings.subnets.clone(),
            security_groups: settings.security_groups.clone(),
        };
        let complete = !found.subnets.is_empty() && !found.security_groups.is_empty();
        if complete || settings.launch_template.is_some() {
            return Ok(found);
        }
        let interface = Interface::of_worker(settings).await;
        if found.subnets.is_empty() {
            found.subnets = vec![found_on(&interface, "AWS_SUBNET_ID", |of| &of.subnet)?];
        }
        if found.security_groups.is_empty() {
            let groups = found_on(&interface, "AWS_SG_IDS", |of| &of.security_groups)?;
            found.security_groups = groups.lines().map(str::to_owned).collect();
        }
        Ok(found)
    }
}

/// The worker's first network interface.
struct Interface {
    subnet: Option<String>,
    security_groups: Option<String>,
}

impl Interface {
    async fn of_worker(settings: &AwsProviderSettings) -> Result<Self, AwsError> {
        let metadata = Metadata::new(&settings.aws)?;
        let Some(mac) = metadata.get("mac").await? else {
            return Ok(Self {
                subnet: None,
                security_groups: None,
            });
        };
        let of_interface = format!("network/interfaces/macs/{}", mac.trim());
        Ok(Self {
            subnet: metadata.get(&format!("{of_interface}/subnet-id")).await?,
            security_groups: metadata
                .get(&format!("{of_interface}/security-group-ids"))
                .await?,
        })
    }
}

fn found_on(
    interface: &Result<Interface, AwsError>,
    name: &'static str,
    value: fn(&Interface) -> &Option<String>,
) -> Result<String, ProviderError> {
    let problem = match interface {
        Ok(interface) => match value(interface).as_deref().map(str::trim) {
            Some(found) if !found.is_empty() => return Ok(found.to_owned()),
            _ => "is not set, and the worker's instance metadata does not have it".to_owned(),
        },
        Err(error) => format!(
            "is not set, and the worker's instance metadata cannot be read ({})",
            peerpods_error::chain(error)
        ),
    };
    Err(ProviderError::InvalidRequest(
        InvalidSettings(vec![InvalidSetting { name, problem }]).to_string(),
    ))
}
