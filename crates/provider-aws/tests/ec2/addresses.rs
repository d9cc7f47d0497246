//! Two network interfaces, and their elastic addresses: each has one, and none is left.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use peerpods_provider::{
    Instance, OwnerScope, Provider, ProviderError,
    conformance::{request, warm_request},
};
use peerpods_provider_aws::{AwsReaper, Timing};
use peerpods_testkit::ec2::{Emulator, Fault, Request};

use crate::bed::{Bed, ELASTIC, HURRY, settings};

/// Shorter than what the provider allows for, as it must be.
const HIDDEN: Duration = Duration::from_millis(60);
const TIMING: Timing = Timing {
    visibility: Duration::from_millis(250),
    ..HURRY
};

const TWO_INTERFACES: [(&str, &str); 1] = [("EXTERNAL_NETWORK_VIA_PODVM", "true")];

/// The requests so far that concern elastic addresses.
fn of_addresses(emulator: &Emulator) -> Vec<String> {
    let actions = emulator.requests().into_iter().map(|request| request.action);
    actions.filter(|action| action.contains("Address")).collect()
}

/// Lets faults strike the next requests of this action, one each.
fn strike(emulator: &Emulator, action: &'static str, faults: &[Option<Fault>]) {
    let mut faults = faults.to_vec();
    emulator.set_faults(move |request: &Request| {
        let strikes = request.action == action && !faults.is_empty();
        if strikes { faults.remove(0) } else { None }
    });
}

/// How many addresses the instance has.
fn held_by(bed: &Bed, instance: &Instance) -> usize {
    let of_instance = bed
        .emulator
        .addresses_with("kata.peerpods.io/instance", instance.id.as_str());
    of_instance.len()
}

/// What the operator has: it knows the account, and no other settings.
async fn reaper(bed: &Bed, timing: Timing) -> Box<dyn peerpods_provider::Reaper> {
    Box::new(AwsReaper::connect(&bed.settings.aws, timing).await.unwrap())
}

#[tokio::test]
async fn one_call_describes_both_interfaces() {
    let Some(bed) = Bed::start(&TWO_INTERFACES).await else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    let instance = provider.launch(&request("two", "node-a")).await.unwrap();
    let asked = bed.emulator.requests_of("RunInstances").remove(0);
    for device in ["0", "1"] {
        let has = |name: &str, value: &str| {
            let name = format!("NetworkInterface.{}.{name}", device.parse::<u32>().unwrap() + 1);
            assert_eq!(asked.parameter(&name), Some(value), "{name}");
        };
        has("DeviceIndex", device);
        has("SubnetId", &bed.settings.subnets[0]);
        has("SecurityGroupId.1", &bed.settings.security_groups[0]);
        has("DeleteOnTermination", "true");
    }
    for of_one_interface in [
        "SubnetId",
        "SecurityGroupId.1",
        "NetworkInterface.1.AssociatePublicIpAddress",
    ] {
        assert_eq!(asked.parameter(of_one_interface), None, "{of_one_interface}");
    }
    let is_private = |address: &IpAddr| matches!(address, IpAddr::V4(address) if address.is_private());
    assert!(instance.addresses.iter().all(is_private), "{instance:?}");

    // Where nobody wants public addresses, nobody asks for any.
    provider.terminate(&instance.id).await.unwrap();
    assert_eq!(of_addresses(&bed.emulator), [""; 0]);
}

#[tokio::test]
async fn each_interface_has_an_elastic_address_until_the_instance_has_ended() {
    let Some(bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    let request = request("elastic", "node-a");
    let instance = provider.launch(&request).await.unwrap();

    let made = bed.emulator.requests_of("AllocateAddress");
    let interfaces: Vec<String> = made
        .iter()
        .map(|asked| {
            assert_eq!(
                asked.parameter("TagSpecification.1.ResourceType"),
                Some("elastic-ip")
            );
            let tags = asked.tags("TagSpecification.1.Tag");
            assert_eq!(tags["Name"], "podvm-elastic");
            assert_eq!(tags["kata.peerpods.io/cluster"], "conformance");
            assert_eq!(tags["kata.peerpods.io/token"], request.token.as_str());
            assert_eq!(tags["kata.peerpods.io/instance"], instance.id.as_str());
            tags["kata.peerpods.io/interface"].clone()
        })
        .collect();
    assert_eq!(interfaces, ["0", "1"]);
    let associated = bed.emulator.requests_of("AssociateAddress");
    let of: BTreeSet<_> = associated
        .iter()
        .map(|asked| asked.parameter("NetworkInterfaceId"))
        .collect();
    assert_eq!(of.len(), 2);
    assert!(
        associated
            .iter()
            .all(|asked| asked.parameter("AllowReassociation") == Some("false"))
    );

    // The worker's way to the VM is the first one's, whoever asks.
    let is_private =
        |index: usize| matches!(instance.addresses[index], IpAddr::V4(address) if address.is_private());
    assert!(!is_private(0) && is_private(1), "{:?}", instance.addresses);
    let found = bed.connect(HURRY).await.find(&request.token).await.unwrap();
    assert_eq!(found.as_ref(), Some(&instance));
    assert_eq!(held_by(&bed, &instance), 2);

    provider.terminate(&instance.id).await.unwrap();
    assert_eq!(bed.emulator.addresses(), [""; 0]);
    let order = bed.emulator.requests().into_iter().map(|request| request.action);
    let order: Vec<String> = order
        .filter(|action| ["TerminateInstances", "ReleaseAddress"].contains(&action.as_str()))
        .collect();
    assert_eq!(order, ["TerminateInstances", "ReleaseAddress", "ReleaseAddress"]);
}

#[tokio::test]
async fn what_was_launched_with_elastic_addresses_is_ended_with_them_whatever_the_settings_say_now() {
    let Some(mut bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    let launcher = bed.connect(HURRY).await;
    let [first, second] = ["first", "second"].map(|name| request(name, "node-a"));
    let first = launcher.launch(&first).await.unwrap();
    let second = launcher.launch(&second).await.unwrap();
    bed.settings = settings(&bed.emulator, &bed.settings.image, &[]);
    bed.connect(HURRY).await.terminate(&first.id).await.unwrap();
    let reaper = reaper(&bed, HURRY).await;
    reaper.terminate(&second.id).await.unwrap();
    assert_eq!(bed.emulator.addresses(), [""; 0]);
}

#[tokio::test]
async fn whatever_is_lost_on_the_way_each_interface_has_one_address_and_none_is_left() {
    let Some(bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    bed.emulator.set_visibility(HIDDEN);
    let provider = bed.connect(TIMING).await;
    let mut number = 0;
    for action in [
        "DescribeAddresses",
        "AllocateAddress",
        "AssociateAddress",
        "ReleaseAddress",
    ] {
        for fault in [
            Fault::LoseReply,
            Fault::LoseRequest,
            Fault::Duplicate,
            Fault::FailAfter(500, "InternalError"),
            Fault::Refuse(503, "RequestLimitExceeded"),
        ] {
            number += 1;
            strike(&bed.emulator, action, &[Some(fault.clone())]);
            let instance = provider
                .launch(&request(&format!("lost-{number}"), "node-a"))
                .await
                .unwrap();
            // Nobody knows of what the network doubles, unless it is looked again.
            let most = match (action, &fault) {
                ("AllocateAddress", Fault::Duplicate) => 3,
                _ => 2,
            };
            let held = held_by(&bed, &instance);
            assert!((2..=most).contains(&held), "{action}: {fault:?}: {held}");
            provider.terminate(&instance.id).await.unwrap();
            assert_eq!(bed.emulator.addresses(), [""; 0], "{action}: {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_launch_that_stopped_anywhere_goes_on_there() {
    let Some(bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    bed.emulator.set_visibility(HIDDEN);
    let denied = Some(Fault::Refuse(403, "UnauthorizedOperation"));
    for (number, (action, faults)) in [
        ("AllocateAddress", vec![denied.clone()]),
        ("AssociateAddress", vec![denied.clone()]),
        (
            "AllocateAddress",
            vec![None, Some(Fault::LoseReply), denied.clone()],
        ),
        ("AssociateAddress", vec![None, denied.clone()]),
    ]
    .into_iter()
    .enumerate()
    {
        strike(&bed.emulator, action, &faults);
        let request = request(&format!("stopped-{number}"), "node-a");
        let stopped = bed.connect(TIMING).await.launch(&request).await;
        bed.emulator.set_faults(|_| None);
        if let Err(error) = &stopped {
            assert!(matches!(error, ProviderError::Denied { .. }), "{error}");
        }
        // The next process knows nothing of it.
        let next = bed.connect(TIMING).await;
        let instance = next.launch(&request).await.unwrap();
        assert_eq!(bed.emulator.living_instances(), [instance.id.as_str()]);
        assert_eq!(held_by(&bed, &instance), 2, "{action}, {faults:?}");
        next.terminate(&instance.id).await.unwrap();
        assert_eq!(bed.emulator.addresses(), [""; 0]);
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_named_and_takes_nothing_with_it() {
    let Some(bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    bed.emulator.limit_addresses(3);
    let provider = bed.connect(HURRY).await;
    let first = provider.launch(&request("first", "node-a")).await.unwrap();
    let request = request("second", "node-a");
    let error = provider.launch(&request).await.unwrap_err();
    assert!(matches!(error, ProviderError::Capacity(_)), "{error:?}");
    let text = error.to_string();
    for part in [
        "AddressLimitExceeded",
        "\"EC2-VPC Elastic IPs\"",
        "two elastic addresses",
        "Service Quotas",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    // As the adaptor gives it up.
    let second = provider.find(&request.token).await.unwrap().unwrap();
    assert_eq!(bed.emulator.addresses().len(), 3);
    provider.terminate(&second.id).await.unwrap();
    assert_eq!((bed.emulator.addresses().len(), held_by(&bed, &first)), (2, 2));
}

#[tokio::test]
async fn an_instance_that_ended_by_itself_leaves_nothing_where_it_is_looked_for() {
    let Some(bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    let [by_token, by_owner] = ["by-token", "by-owner"].map(|name| request(name, "node-a"));
    let first = provider.launch(&by_token).await.unwrap();
    let second = provider.launch(&by_owner).await.unwrap();
    for instance in [&first, &second] {
        bed.emulator.terminate(instance.id.as_str());
    }
    assert_eq!(provider.find(&by_token.token).await.unwrap(), None);
    assert_eq!((held_by(&bed, &first), held_by(&bed, &second)), (0, 2));

    let reaper = reaper(&bed, HURRY).await;
    let scope = |node: &str| OwnerScope {
        cluster: "conformance".to_owned(),
        node: Some(node.to_owned()),
    };
    reaper.list(&scope("node-b")).await.unwrap();
    assert_eq!(held_by(&bed, &second), 2, "they are another node's");
    reaper.list(&scope("node-a")).await.unwrap();
    assert_eq!(bed.emulator.addresses(), [""; 0]);
}

#[tokio::test]
async fn addresses_of_what_lives_stay_whoever_lists_it() {
    let Some(bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    bed.emulator.set_visibility(HIDDEN);
    let reaper = reaper(&bed, TIMING).await;
    let scope = OwnerScope {
        cluster: "conformance".to_owned(),
        node: None,
    };
    let provider = bed.connect(TIMING).await;
    let request = request("launching", "node-a");
    // An address is made, and no interface has it yet; EC2 does not show the instance to anybody.
    let denied = Some(Fault::Refuse(403, "UnauthorizedOperation"));
    strike(&bed.emulator, "AssociateAddress", &[None, denied]);
    let (launched, listed) = tokio::join!(provider.launch(&request), reaper.list(&scope));
    launched.unwrap_err();
    listed.unwrap();
    reaper.list(&scope).await.unwrap();
    let instance = provider.launch(&request).await.unwrap();
    assert_eq!(held_by(&bed, &instance), 2);
    assert_eq!(bed.emulator.requests_of("ReleaseAddress"), []);
}

#[tokio::test]
async fn all_addresses_of_a_batch_are_looked_for_together() {
    let Some(bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    // What a process before this one made would be shown.
    let timing = Timing {
        visibility: Duration::ZERO,
        ..HURRY
    };
    let provider = bed.connect(timing).await;
    assert_eq!(provider.batch_limit(), 5);
    let instances = provider.launch_together(&warm_request("batch"), 5).await.unwrap();
    assert_eq!((instances.len(), bed.emulator.addresses().len()), (5, 10));
    assert_eq!(bed.emulator.requests_of("DescribeAddresses").len(), 1);
}

#[tokio::test]
async fn a_claimed_vms_addresses_are_called_by_its_pod() {
    let Some(bed) = Bed::start(&ELASTIC).await else {
        return;
    };
    let provider = bed.connect(HURRY).await;
    let instance = provider.launch(&warm_request("idle")).await.unwrap();
    let peerpods_provider::Assignment::Pod(pod) = request("claimer", "node-a").owner.assignment else {
        unreachable!()
    };
    provider.claim(&instance.id, &pod, "podvm-claimer").await.unwrap();
    assert_eq!(bed.emulator.addresses_with("Name", "podvm-claimer").len(), 2);
    assert_eq!(
        bed.emulator
            .addresses_with("kata.peerpods.io/sandbox", &pod.sandbox)
            .len(),
        2
    );
}

#[tokio::test]
async fn an_instance_without_a_second_interface_is_told_apart() {
    let Some(mut bed) = Bed::start(&[]).await else {
        return;
    };
    let request = request("narrow", "node-a");
    bed.connect(HURRY).await.launch(&request).await.unwrap();
    // As one of a launch template that describes one interface.
    bed.settings = settings(&bed.emulator, &bed.settings.image, &TWO_INTERFACES);
    let error = bed.connect(HURRY).await.launch(&request).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("has 1 network interface, and EXTERNAL_NETWORK_VIA_PODVM needs 2"),
        "{text}"
    );
    assert!(!error.retryable());
}
