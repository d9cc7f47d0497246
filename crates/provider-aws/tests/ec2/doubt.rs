//! One token, one instance, whatever is lost on the way.

use std::time::Duration;

use peerpods_provider::{InstanceStatus, Provider, ProviderError, conformance::request};
use peerpods_testkit::ec2::{Emulator, Fault, Request};

use crate::bed::{Bed, HIDDEN, HURRY, PATIENT};

/// Lets faults strike the next launches, one each.
fn strike(emulator: &Emulator, faults: &[Option<Fault>]) {
    let mut faults = faults.to_vec();
    emulator.set_faults(move |request: &Request| {
        let strikes = request.action == "RunInstances" && !faults.is_empty();
        if strikes { faults.remove(0) } else { None }
    });
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(HURRY).await;
    for (number, fault) in [
        Fault::LoseReply,
        Fault::LoseRequest,
        Fault::Duplicate,
        Fault::FailAfter(500, "InternalError"),
        Fault::Refuse(503, "RequestLimitExceeded"),
    ]
    .into_iter()
    .enumerate()
    {
        strike(&bed.emulator, &[Some(fault.clone())]);
        let instance = provider
            .launch(&request(&format!("lost-{number}"), "node-a"))
            .await
            .unwrap();
        assert_eq!(
            bed.emulator.living_instances(),
            [instance.id.as_str()],
            "{fault:?}"
        );
        provider.terminate(&instance.id).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_stays_lost_leaves_an_instance_that_is_found() {
    let Some(bed) = Bed::start(&[]).await else { return };
    bed.emulator.set_visibility(HIDDEN);
    let provider = bed.connect(PATIENT).await;
    let request = request("silent", "node-a");
    // It was launched; what follows tells only that the credentials are not enough any more.
    strike(
        &bed.emulator,
        &[
            Some(Fault::LoseReply),
            Some(Fault::Refuse(403, "UnauthorizedOperation")),
        ],
    );
    let error = provider.launch(&request).await.unwrap_err();
    assert!(matches!(error, ProviderError::Denied { .. }), "{error}");
    // EC2 does not show it yet, and the provider does not believe that.
    let found = provider.find(&request.token).await.unwrap().unwrap();
    assert_eq!(bed.emulator.living_instances(), [found.id.as_str()]);
    assert_eq!(provider.launch(&request).await.unwrap(), found);
}

#[tokio::test]
async fn a_refusal_leaves_no_doubt() {
    let Some(bed) = Bed::start(&[]).await else { return };
    // Longer than the test may take.
    let provider = bed.connect(peerpods_provider_aws::Timing {
        visibility: Duration::from_secs(3600),
        ..HURRY
    });
    let provider = provider.await;
    strike(
        &bed.emulator,
        &[Some(Fault::Refuse(403, "UnauthorizedOperation"))],
    );
    let request = request("denied", "node-a");
    provider.launch(&request).await.unwrap_err();
    assert_eq!(provider.find(&request.token).await.unwrap(), None);
}

#[tokio::test]
async fn what_ec2_does_not_show_yet_is_there() {
    let Some(bed) = Bed::start(&[]).await else { return };
    bed.emulator.set_visibility(HIDDEN);
    let provider = bed.connect(PATIENT).await;
    let request = request("hidden", "node-a");
    let instance = provider.launch(&request).await.unwrap();
    assert_eq!(bed.listed(&provider).await, std::slice::from_ref(&instance.id));
    assert_eq!(
        provider.find(&request.token).await.unwrap(),
        Some(instance.clone())
    );
    assert_eq!(
        provider.describe(&instance.id).await.unwrap(),
        InstanceStatus::Alive
    );
    provider.terminate(&instance.id).await.unwrap();
    assert_eq!(bed.emulator.living_instances(), [""; 0]);
    assert_eq!(bed.listed(&provider).await, []);
}

#[tokio::test]
async fn a_new_process_does_not_believe_at_once_that_there_is_nothing() {
    let Some(bed) = Bed::start(&[]).await else { return };
    bed.emulator.set_visibility(HIDDEN);
    let request = request("before", "node-a");
    let instance = bed.connect(PATIENT).await.launch(&request).await.unwrap();
    let restarted = bed.connect(PATIENT).await;
    let (status, found) = tokio::join!(restarted.describe(&instance.id), restarted.find(&request.token));
    assert_eq!(status.unwrap(), InstanceStatus::Alive);
    assert_eq!(found.unwrap(), Some(instance.clone()));

    let other = crate::doubt::request("elsewhere", "node-a");
    let instance = bed.connect(PATIENT).await.launch(&other).await.unwrap();
    bed.connect(PATIENT).await.terminate(&instance.id).await.unwrap();
    assert!(!bed.emulator.living_instances().contains(&instance.id.to_string()));
}

#[tokio::test]
async fn settings_that_changed_meanwhile_make_no_second_instance() {
    let Some(mut bed) = Bed::start(&[]).await else {
        return;
    };
    let request = request("changed", "node-a");
    let instance = bed.connect(HURRY).await.launch(&request).await.unwrap();
    bed.settings.root_volume_gib = 77;
    bed.settings.default_type = "m6i.large".to_owned();
    let restarted = bed.connect(HURRY).await;
    assert_eq!(restarted.launch(&request).await.unwrap(), instance);
    assert_eq!(bed.emulator.living_instances(), [instance.id.as_str()]);
}

#[tokio::test]
async fn room_that_comes_back_in_the_first_zone_makes_no_second_instance() {
    let Some(mut bed) = Bed::start(&[]).await else {
        return;
    };
    bed.settings.subnets = bed.emulator.subnets()[..2].to_vec();
    bed.emulator.set_visibility(HIDDEN);
    let request = request("zones", "node-a");
    let full = Some(Fault::Refuse(500, "InsufficientInstanceCapacity"));
    strike(&bed.emulator, std::slice::from_ref(&full));
    let instance = bed.connect(PATIENT).await.launch(&request).await.unwrap();
    // The adaptor was killed before it heard of it, and a client token means nothing in another zone.
    let restarted = bed.connect(PATIENT).await;
    assert_eq!(restarted.launch(&request).await.unwrap(), instance);
    assert_eq!(bed.emulator.living_instances(), [instance.id.as_str()]);

    // The same without a restart: the second zone's answer was lost, and its repetition is not for the first.
    let request = crate::doubt::request("zones-again", "node-a");
    strike(
        &bed.emulator,
        &[
            full,
            Some(Fault::LoseReply),
            Some(Fault::Refuse(403, "UnauthorizedOperation")),
        ],
    );
    restarted.launch(&request).await.unwrap_err();
    let instance = restarted.launch(&request).await.unwrap();
    assert_eq!(bed.emulator.living_instances().len(), 2, "{instance:?}");
}

#[tokio::test]
async fn no_room_after_a_lost_answer_makes_no_second_instance() {
    let Some(mut bed) = Bed::start(&[]).await else {
        return;
    };
    bed.settings.subnets = bed.emulator.subnets()[..2].to_vec();
    bed.emulator.set_visibility(HIDDEN);
    let provider = bed.connect(PATIENT).await;
    let full = || Some(Fault::Refuse(500, "InsufficientInstanceCapacity"));
    // The first zone's last place was taken by the launch whose answer was lost.
    let request = request("last-place", "node-a");
    strike(&bed.emulator, &[Some(Fault::LoseReply), full()]);
    let instance = provider.launch(&request).await.unwrap();
    assert_eq!(bed.emulator.living_instances(), [instance.id.as_str()]);
    provider.terminate(&instance.id).await.unwrap();

    // The same where the first call was given up, and where the lost request launched nothing.
    let request = crate::doubt::request("given-up", "node-a");
    let denied = Some(Fault::Refuse(403, "UnauthorizedOperation"));
    strike(&bed.emulator, &[Some(Fault::LoseReply), denied, full()]);
    provider.launch(&request).await.unwrap_err();
    let instance = provider.launch(&request).await.unwrap();
    assert_eq!(bed.emulator.living_instances(), [instance.id.as_str()]);
    provider.terminate(&instance.id).await.unwrap();
    let request = crate::doubt::request("elsewhere", "node-a");
    strike(&bed.emulator, &[Some(Fault::LoseRequest), full()]);
    let instance = provider.launch(&request).await.unwrap();
    assert_eq!(bed.emulator.living_instances(), [instance.id.as_str()]);
}

#[tokio::test]
async fn a_token_whose_instance_ended_launches_nothing() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let request = request("spent", "node-a");
    let provider = bed.connect(HURRY).await;
    let instance = provider.launch(&request).await.unwrap();
    provider.terminate(&instance.id).await.unwrap();
    for provider in [provider, bed.connect(HURRY).await] {
        let error = provider.launch(&request).await.unwrap_err();
        assert!(
            matches!(&error, ProviderError::Ended(id) if *id == instance.id),
            "{error}"
        );
    }
    assert_eq!(bed.emulator.living_instances(), [""; 0]);
}

#[tokio::test]
async fn a_launch_that_nobody_waits_for_goes_on_to_its_answer() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(PATIENT).await;
    let request = request("abandoned", "node-a");
    tokio::time::timeout(Duration::from_millis(1), provider.launch(&request))
        .await
        .unwrap_err();
    let found = provider.find(&request.token).await.unwrap().unwrap();
    assert_eq!(bed.emulator.living_instances(), [found.id.as_str()]);
    assert_eq!(bed.emulator.requests_of("RunInstances").len(), 1);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_the_same_batch() {
    let Some(bed) = Bed::start(&[]).await else { return };
    bed.emulator.set_visibility(HIDDEN);
    let provider = bed.connect(PATIENT).await;
    let request = peerpods_provider::conformance::warm_request("batch-lost");
    strike(&bed.emulator, &[Some(Fault::LoseReply)]);
    let instances = provider.launch_together(&request, 5).await.unwrap();
    assert_eq!((instances.len(), bed.emulator.living_instances().len()), (5, 5));

    // The answer stays lost: all of them are found, although EC2 does not show them yet.
    let request = peerpods_provider::conformance::warm_request("batch-silent");
    let lost = [
        Some(Fault::LoseReply),
        Some(Fault::Refuse(403, "UnauthorizedOperation")),
    ];
    strike(&bed.emulator, &lost);
    provider.launch_together(&request, 5).await.unwrap_err();
    assert_eq!(provider.find_all(&request.token).await.unwrap().len(), 5);
}
