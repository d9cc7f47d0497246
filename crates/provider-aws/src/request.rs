//! From settings, image and pod to RunInstances.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use peerpods_aws::Parameters;
use peerpods_provider::{InstanceId, LaunchRequest, ProviderError, Shape};
use zeroize::Zeroizing;

use crate::{
    AwsProviderSettings, ConfidentialVm, InstanceProfile, Interfaces, Tenancy,
    answers::{Addressing, Reached},
    image::Image,
    tags::{self, ADDRESSING, ELASTIC, INSTANCE, INTERFACE, NAME},
    worker::Attachment,
};

/// The most bytes of user data, by EC2, before they are written in base64.
const USER_DATA_LIMIT_BYTES: usize = 16 * 1024;

/// What carries the tags, from the launch on.
const TAGGED: [&str; 3] = ["instance", "volume", "network-interface"];

/// One way to launch the VM; the next is tried when there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// None leaves it to the launch template.
    pub(crate) instance_type: Option<String>,
    /// None leaves it to the launch template.
    pub(crate) subnet: Option<String>,
    pub(crate) bought: Bought,
}

/// What one launch buys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bought {
    OnDemand,
    Spot,
}

/// Checks what EC2 would refuse, before it is asked.
pub(crate) fn check_payload(payload: &[u8]) -> Result<(), ProviderError> {
    if payload.len() <= USER_DATA_LIMIT_BYTES {
        return Ok(());
    }
    Err(ProviderError::InvalidRequest(format!(
        "the boot payload has {} bytes, and EC2 takes {USER_DATA_LIMIT_BYTES}: the pod's routes or its init data are too large",
        payload.len()
    )))
}

/// The parameters of one launch of up to `count` instances. All that EC2 makes for it is tagged, and goes with it.
pub(crate) fn run_instances(
    settings: &AwsProviderSettings,
    attachment: &Attachment,
    image: &Image,
    request: &LaunchRequest,
    candidate: &Candidate,
    count: usize,
) -> Result<Parameters, ProviderError> {
    check_payload(&request.payload)?;
    let mut parameters = Parameters::new();
    parameters
        .set("MinCount", 1)
        .set("MaxCount", count)
        .set("ClientToken", &request.token)
        .set(
            "UserData",
            &*Zeroizing::new(BASE64_STANDARD.encode(&request.payload)),
        )
        // A VM whose guest gave up its lease powers itself off, and must not stay.
        .set("InstanceInitiatedShutdownBehavior", "terminate")
        .set("MetadataOptions.HttpEndpoint", "enabled")
        .set("MetadataOptions.HttpTokens", "required")
        // One hop reaches the VM's own processes, and none in a network namespace behind it.
        .set("MetadataOptions.HttpPutResponseHopLimit", 1)
        .set_some("InstanceType", candidate.instance_type.as_ref());
    match candidate.bought {
        Bought::OnDemand => {}
        Bought::Spot => {
            parameters
                .set("InstanceMarketOptions.MarketType", "spot")
                // Without a request behind it that would launch another one, which nobody knows of.
                .set("InstanceMarketOptions.SpotOptions.SpotInstanceType", "one-time")
                .set(
                    "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior",
                    "terminate",
                );
        }
    }
    let addressing = match settings.addressing() {
        Addressing::Automatic => None,
        Addressing::Elastic => Some((ADDRESSING, ELASTIC.to_owned())),
    };
    set_tags(
        &mut parameters,
        &TAGGED,
        &all_tags(settings, request, addressing)?,
    );
    set_root_volume(&mut parameters, settings, image);
    match &settings.launch_template {
        Some(template) => {
            parameters
                .set("LaunchTemplate.LaunchTemplateName", &template.name)
                .set("LaunchTemplate.Version", "$Default")
                .set_some("ImageId", request.shape.image.as_ref());
        }
        None => {
            parameters.set("ImageId", &image.id);
            set_network(&mut parameters, settings, attachment, candidate);
            set_machine(&mut parameters, settings);
        }
    }
    Ok(parameters)
}

/// An elastic address for the interface of this number, with what says whose it is.
pub(crate) fn allocate_address(
    settings: &AwsProviderSettings,
    request: &LaunchRequest,
    instance: &InstanceId,
    interface: u32,
) -> Result<Parameters, ProviderError> {
    let mut parameters = Parameters::new();
    parameters.set("Domain", "vpc");
    let own = [
        (INSTANCE, instance.to_string()),
        (INTERFACE, interface.to_string()),
    ];
    set_tags(
        &mut parameters,
        &["elastic-ip"],
        &all_tags(settings, request, own)?,
    );
    Ok(parameters)
}

/// What everything of one launch carries, and these.
fn all_tags(
    settings: &AwsProviderSettings,
    request: &LaunchRequest,
    own: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<BTreeMap<String, String>, ProviderError> {
    // In this order: nothing overrides what says whose the instance is.
    let mut all: BTreeMap<String, String> = settings.tags.clone();
    all.extend(request.tags.clone());
    all.insert(NAME.to_owned(), request.name.clone());
    all.extend(tags::of_launch(&request.token, &request.owner)?);
    all.extend(own.into_iter().map(|(key, value)| (key.to_owned(), value)));
    if all.len() > tags::COUNT_LIMIT {
        return Err(ProviderError::InvalidRequest(format!(
            "the VM would have {} tags, and EC2 takes {}",
            all.len(),
            tags::COUNT_LIMIT
        )));
    }
    Ok(all)
}

fn set_tags(parameters: &mut Parameters, kinds: &[&str], tags: &BTreeMap<String, String>) {
    for (index, kind) in kinds.iter().enumerate() {
        let number = index + 1;
        parameters.set(format!("TagSpecification.{number}.ResourceType"), kind);
        parameters.set_tags(
            &format!("TagSpecification.{number}.Tag"),
            tags.iter().map(|(key, value)| (key.as_str(), value.as_str())),
        );
    }
}

fn set_root_volume(parameters: &mut Parameters, settings: &AwsProviderSettings, image: &Image) {
    parameters
        .set("BlockDeviceMapping.1.DeviceName", &image.root_device)
        .set("BlockDeviceMapping.1.Ebs.VolumeType", "gp3")
        .set("BlockDeviceMapping.1.Ebs.Encrypted", true)
        .set("BlockDeviceMapping.1.Ebs.DeleteOnTermination", true)
        .set_some(
            "BlockDeviceMapping.1.Ebs.KmsKeyId",
            settings.root_volume_key.as_ref(),
        );
    let size = settings.root_volume_gib.max(image.root_gib);
    if size > 0 {
        parameters.set("BlockDeviceMapping.1.Ebs.VolumeSize", size);
    }
}

fn set_network(
    parameters: &mut Parameters,
    settings: &AwsProviderSettings,
    attachment: &Attachment,
    candidate: &Candidate,
) {
    match (settings.interfaces, settings.reached) {
        (Interfaces::One, Reached::Privately) => {
            parameters
                .set_some("SubnetId", candidate.subnet.as_ref())
                .set_list("SecurityGroupId", &attachment.security_groups);
        }
        // Only a description of the interface can ask for an address of the other kind than the subnet's.
        (Interfaces::One, Reached::Publicly) => {
            set_interface(parameters, attachment, candidate, 0);
            parameters.set("NetworkInterface.1.AssociatePublicIpAddress", true);
        }
        // With several interfaces EC2 does not take that wish: elastic addresses follow.
        (Interfaces::Two, Reached::Privately | Reached::Publicly) => {
            for device in 0..settings.interfaces.count() {
                set_interface(parameters, attachment, candidate, device);
            }
        }
    }
}

/// Describes the interface of this number, which goes with its instance.
fn set_interface(parameters: &mut Parameters, attachment: &Attachment, candidate: &Candidate, device: u32) {
    let name = format!("NetworkInterface.{}", device + 1);
    parameters
        .set(format!("{name}.DeviceIndex"), device)
        .set(format!("{name}.DeleteOnTermination"), true)
        .set_some(format!("{name}.SubnetId"), candidate.subnet.as_ref())
        .set_list(&format!("{name}.SecurityGroupId"), &attachment.security_groups);
}

fn set_machine(parameters: &mut Parameters, settings: &AwsProviderSettings) {
    parameters
        .set_some("KeyName", settings.key_name.as_ref())
        .set_some("Placement.GroupName", settings.placement_group.as_ref());
    match settings.confidential {
        ConfidentialVm::Off => {}
        ConfidentialVm::SevSnp => {
            parameters.set("CpuOptions.AmdSevSnp", "enabled");
        }
    }
    match &settings.instance_profile {
        None => {}
        Some(InstanceProfile::Name(name)) => {
            parameters.set("IamInstanceProfile.Name", name);
        }
        Some(InstanceProfile::Arn(arn)) => {
            parameters.set("IamInstanceProfile.Arn", arn);
        }
    }
    match &settings.tenancy {
        Tenancy::Shared => {}
        Tenancy::Dedicated => {
            parameters.set("Placement.Tenancy", "dedicated");
        }
        Tenancy::Host { host, group } => {
            parameters
                .set("Placement.Tenancy", "host")
                .set_some("Placement.HostId", host.as_ref())
                .set_some("Placement.HostResourceGroupArn", group.as_ref());
        }
    }
}

/// What tells instances from each other, beside their types and whose they are.
pub(crate) fn description(settings: &AwsProviderSettings, attachment: &Attachment, shape: &Shape) -> String {
    let image = shape.image.as_ref().unwrap_or(&settings.image);
    format!(
        "{image} in {attachment:?}, {:?}, {:?}, {:?}, {} GiB {:?}, {:?}, {:?}, {:?}, {:?}, {:?}, {:?}",
        settings.reached,
        settings.interfaces,
        settings.key_name,
        settings.root_volume_gib,
        settings.root_volume_key,
        settings.confidential,
        settings.launch_template,
        settings.instance_profile,
        settings.placement_group,
        settings.tenancy,
        settings.market,
    )
}
