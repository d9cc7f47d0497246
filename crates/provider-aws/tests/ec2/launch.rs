//! What EC2 is asked for, and what is tried when it has no room.

use peerpods_provider::{
    Provider, ProviderError, Shape,
    conformance::{request, warm_request},
};
use peerpods_testkit::ec2::{Emulator, Fault, Request};

use crate::bed::{Bed, HURRY};

/// Refuses launches of these types or in these subnets.
fn fill(emulator: &Emulator, places: &[&str]) {
    let full: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
    emulator.set_faults(move |request| {
        let place = [request.parameter("InstanceType"), request.parameter("SubnetId")];
        let is_full = place
            .into_iter()
            .flatten()
            .any(|name| full.iter().any(|place| place == name));
        is_full.then_some(Fault::Refuse(500, "InsufficientInstanceCapacity"))
    });
}

fn launches(bed: &Bed) -> Vec<Request> {
    bed.emulator.requests_of("RunInstances")
}

#[tokio::test]
async fn one_call_says_all_that_ec2_should_know() {
    let Some(bed) = Bed::start(&[
        ("TAGS", "cost-center=7,team=nobody"),
        ("ROOT_VOLUME_SIZE", "50"),
        ("PODVM_INSTANCE_PROFILE", "vm"),
        ("SSH_KP_NAME", "admin"),
        ("PODVM_PLACEMENT_GROUP", "near"),
        ("PODVM_TENANCY", "dedicated"),
        ("DISABLECVM", "false"),
    ])
    .await
    else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    let wanted = request("told", "node-a");
    // moto knows neither the profile nor the group; what counts is what it was asked for.
    let _refusal = provider.launch(&wanted).await;

    let asked = launches(&bed).remove(0);
    let has = |name: &str, value: &str| assert_eq!(asked.parameter(name), Some(value), "{name}");
    has("ClientToken", "conformance-told");
    has("MinCount", "1");
    has("MaxCount", "1");
    has("ImageId", &bed.settings.image);
    has("InstanceType", "m6a.large");
    has("SubnetId", &bed.settings.subnets[0]);
    has("SecurityGroupId.1", &bed.settings.security_groups[0]);
    // "#cloud-config\n"
    has("UserData", "I2Nsb3VkLWNvbmZpZwo=");
    has("InstanceInitiatedShutdownBehavior", "terminate");
    has("MetadataOptions.HttpTokens", "required");
    has("MetadataOptions.HttpPutResponseHopLimit", "1");
    has("BlockDeviceMapping.1.DeviceName", "/dev/sda1");
    has("BlockDeviceMapping.1.Ebs.VolumeSize", "50");
    has("BlockDeviceMapping.1.Ebs.VolumeType", "gp3");
    has("BlockDeviceMapping.1.Ebs.Encrypted", "true");
    has("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "true");
    has("IamInstanceProfile.Name", "vm");
    has("KeyName", "admin");
    has("Placement.GroupName", "near");
    has("Placement.Tenancy", "dedicated");
    has("CpuOptions.AmdSevSnp", "enabled");

    for (number, kind) in ["instance", "volume", "network-interface"]
        .into_iter()
        .enumerate()
    {
        let specification = format!("TagSpecification.{}", number + 1);
        has(&format!("{specification}.ResourceType"), kind);
        let tags = asked.tags(&format!("{specification}.Tag"));
        let is = |key: &str, value: &str| assert_eq!(tags.get(key).map(String::as_str), Some(value), "{key}");
        is("Name", "podvm-told");
        is("cost-center", "7");
        // The launch's own wins over the setting's.
        is("team", "storage");
        is("kata.peerpods.io/cluster", "conformance");
        is("kata.peerpods.io/node", "node-a");
        is(
            "kata.peerpods.io/pod-namespace",
            "namespace with \"quotes\" and ünïcode",
        );
        is("kata.peerpods.io/pod-name", "told");
        is("kata.peerpods.io/pod-uid", "8a7c0f6e-0000-4000-8000-000000000000");
        is("kata.peerpods.io/sandbox", "sandbox-told");
        is("kata.peerpods.io/token", "conformance-told");
    }
}

#[tokio::test]
async fn a_root_volume_is_as_large_as_its_image_at_least() {
    let Some(bed) = Bed::start(&[("ROOT_VOLUME_SIZE", "0")]).await else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    provider.launch(&request("small", "node-a")).await.unwrap();
    // moto's images have 15 GiB.
    assert_eq!(
        launches(&bed)[0].parameter("BlockDeviceMapping.1.Ebs.VolumeSize"),
        Some("15")
    );
}

#[tokio::test]
async fn a_launch_template_says_what_settings_do_not() {
    let Some(bed) = Bed::start(&[("USE_PODVM_LAUNCHTEMPLATE", "true")]).await else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    // moto has no such template, and was asked for it.
    let _refusal = provider.launch(&request("template", "node-a")).await;
    let asked = launches(&bed).remove(0);
    assert_eq!(asked.parameter("LaunchTemplate.LaunchTemplateName"), Some("kata"));
    for of_the_template in [
        "ImageId",
        "InstanceType",
        "SubnetId",
        "SecurityGroupId.1",
        "KeyName",
    ] {
        assert_eq!(asked.parameter(of_the_template), None, "{of_the_template}");
    }
    assert_eq!(asked.parameter("MetadataOptions.HttpTokens"), Some("required"));
}

#[tokio::test]
async fn a_public_address_comes_first_where_it_is_asked_for() {
    let Some(bed) = Bed::start(&[("USE_PUBLIC_IP", "true")]).await else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    let instance = provider.launch(&request("public", "node-a")).await.unwrap();
    let asked = launches(&bed).remove(0);
    assert_eq!(
        asked.parameter("NetworkInterface.1.AssociatePublicIpAddress"),
        Some("true")
    );
    assert_eq!(asked.parameter("SubnetId"), None);
    let is_private = |index: usize| match instance.addresses[index] {
        std::net::IpAddr::V4(address) => address.is_private(),
        std::net::IpAddr::V6(_) => false,
    };
    assert!(!is_private(0) && is_private(1), "{:?}", instance.addresses);
}

#[tokio::test]
async fn where_there_is_no_room_the_next_subnet_and_then_the_next_type_is_tried() {
    let Some(mut bed) = Bed::start(&[("PODVM_INSTANCE_TYPES", "m6i.large,c6a.large,r6a.large")]).await else {
        return;
    };
    bed.settings.subnets = bed.emulator.subnets()[..2].to_vec();
    let [first, second] = [bed.settings.subnets[0].clone(), bed.settings.subnets[1].clone()];
    let provider = bed.connect(HURRY).await;
    fill(&bed.emulator, &["m6a.large", &first]);
    let launched = provider.launch(&request("squeezed", "node-a")).await.unwrap();
    assert_eq!(launched.machine_type.as_deref(), Some("m6i.large"));
    let tried: Vec<(String, String)> = launches(&bed)
        .iter()
        .map(|launch| {
            let of = |name: &str| launch.parameter(name).unwrap().to_owned();
            (of("InstanceType"), of("SubnetId"))
        })
        .collect();
    let expected = [
        ("m6a.large", &first),
        ("m6a.large", &second),
        ("m6i.large", &first),
        ("m6i.large", &second),
    ];
    let expected = expected.map(|(name, subnet)| (name.to_owned(), subnet.clone()));
    assert_eq!(tried, expected);

    // The default comes first, then what is as large: by price.
    fill(&bed.emulator, &[&first, &second]);
    let error = provider.launch(&request("full", "node-a")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Capacity(_)) && error.retryable());
    let text = error.to_string();
    assert!(text.contains(&format!("m6a.large in {first}")), "{text}");
    assert!(text.contains(&format!("r6a.large in {second}")), "{text}");
    assert!(
        !text.contains("c6a.large"),
        "it has less memory than the default: {text}"
    );
    // There is nothing of it, and that is known at once.
    assert_eq!(
        provider.find(&request("full", "node-a").token).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn spot_instances_come_first_where_they_are_wanted_and_then_others() {
    let Some(bed) = Bed::start(&[("PODVM_SPOT", "true")]).await else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    bed.emulator.set_faults(|request| {
        let spot = request.parameter("InstanceMarketOptions.MarketType") == Some("spot");
        spot.then_some(Fault::Refuse(500, "InsufficientInstanceCapacity"))
    });
    provider.launch(&request("spare", "node-a")).await.unwrap();
    let [spot, on_demand] = launches(&bed).try_into().unwrap();
    let behaviour = "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior";
    assert_eq!(spot.parameter(behaviour), Some("terminate"));
    assert_eq!(on_demand.parameter("InstanceMarketOptions.MarketType"), None);
}

#[tokio::test]
async fn a_pod_gets_the_cheapest_type_that_fits_or_the_one_it_names() {
    let Some(bed) = Bed::start(&[(
        "PODVM_INSTANCE_TYPES",
        "c6a.4xlarge,r6a.2xlarge,m6i.large,g4dn.xlarge",
    )])
    .await
    else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    let shaped = async |name: &str, shape: Shape| {
        let mut request = request(name, "node-a");
        request.shape = shape;
        provider.launch(&request).await.map(|_| {
            let asked = launches(&bed);
            asked
                .last()
                .unwrap()
                .parameter("InstanceType")
                .unwrap()
                .to_owned()
        })
    };
    let many = Shape {
        vcpus: Some(16),
        memory_mib: Some(2048),
        ..Shape::default()
    };
    assert_eq!(shaped("many", many).await.unwrap(), "c6a.4xlarge");
    let gpu = Shape {
        gpus: Some(1),
        ..Shape::default()
    };
    assert_eq!(shaped("gpu", gpu).await.unwrap(), "g4dn.xlarge");
    let named = Shape {
        machine_type: Some("m6i.large".to_owned()),
        ..Shape::default()
    };
    assert_eq!(shaped("named", named).await.unwrap(), "m6i.large");
    let huge = Shape {
        vcpus: Some(192),
        ..Shape::default()
    };
    let error = shaped("huge", huge).await.unwrap_err();
    assert!(
        error.to_string().contains("the nearest are c6a.4xlarge"),
        "{error}"
    );
    assert!(!error.retryable());
}

#[tokio::test]
async fn what_ec2_would_refuse_is_refused_before_it_is_asked() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(HURRY).await;
    let mut large = request("large", "node-a");
    large.payload = vec![b'x'; 16 * 1024 + 1].into();
    let error = provider.launch(&large).await.unwrap_err();
    assert!(
        error.to_string().contains("16385 bytes, and EC2 takes 16384"),
        "{error}"
    );

    let mut image = request("image", "node-a");
    image.shape.image = Some("podvm:latest".to_owned());
    let error = provider.launch(&image).await.unwrap_err();
    assert!(
        error.to_string().contains("one is named like ami-0123abcd"),
        "{error}"
    );
    assert!(launches(&bed).is_empty());

    image.shape.image = Some("ami-00000000000000000".to_owned());
    let error = provider.launch(&image).await.unwrap_err();
    assert!(
        error.to_string().contains("InvalidAMIID.NotFound") && !error.retryable(),
        "{error}"
    );
    assert!(launches(&bed).is_empty());
}

#[tokio::test]
async fn a_claimed_vm_and_all_that_belongs_to_it_is_called_by_its_pod() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(HURRY).await;
    let instance = provider.launch(&warm_request("idle")).await.unwrap();
    let peerpods_provider::Assignment::Pod(pod) = request("claimer", "node-a").owner.assignment else {
        unreachable!()
    };
    provider.claim(&instance.id, &pod, "podvm-claimer").await.unwrap();
    let asked = bed.emulator.requests_of("CreateTags").remove(0);
    let resources: Vec<&str> = (1..=3)
        .map(|number| asked.parameter(&format!("ResourceId.{number}")).unwrap())
        .map(|id| id.split('-').next().unwrap())
        .collect();
    assert_eq!(resources, ["i", "vol", "eni"]);
    assert_eq!(asked.tags("Tag")["Name"], "podvm-claimer");
}
