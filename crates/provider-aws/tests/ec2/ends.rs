//! How instances end, and who notices.

use futures::future::join_all;
use peerpods_provider::{InstanceId, InstanceStatus, Provider, ProviderError, conformance::request};
use peerpods_provider_aws::Timing;
use peerpods_testkit::ec2::Fault;

use crate::bed::{Bed, HURRY};

#[tokio::test]
async fn a_stopped_instance_is_gone_for_its_pod_and_still_ended() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(HURRY).await;
    let instance = provider.launch(&request("stopped", "node-a")).await.unwrap();
    bed.emulator.stop(instance.id.as_str());
    let status = provider.describe(&instance.id).await.unwrap();
    assert!(
        matches!(&status, InstanceStatus::Gone(why) if why.contains("was stopped")),
        "{status:?}"
    );
    // It costs its volume as long as it is there.
    assert_eq!(bed.listed(&provider).await, std::slice::from_ref(&instance.id));
    provider.terminate(&instance.id).await.unwrap();
    assert_eq!(bed.listed(&provider).await, []);
}

#[tokio::test]
async fn an_end_that_is_lost_on_the_way_is_asked_for_again() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(HURRY).await;
    for (number, fault) in [Fault::LoseReply, Fault::LoseRequest, Fault::Duplicate]
        .into_iter()
        .enumerate()
    {
        let instance = provider
            .launch(&request(&format!("end-{number}"), "node-a"))
            .await
            .unwrap();
        let mut next = Some(fault);
        bed.emulator.set_faults(move |request| {
            if request.action == "TerminateInstances" {
                next.take()
            } else {
                None
            }
        });
        provider.terminate(&instance.id).await.unwrap();
        assert_eq!(bed.emulator.living_instances(), [""; 0]);
    }
}

#[tokio::test]
async fn an_end_that_is_not_permitted_is_no_end() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(HURRY).await;
    let instance = provider.launch(&request("protected", "node-a")).await.unwrap();
    bed.emulator.set_faults(|request| {
        let protected = request.action == "TerminateInstances";
        protected.then_some(Fault::Refuse(403, "UnauthorizedOperation"))
    });
    let error = provider.terminate(&instance.id).await.unwrap_err();
    assert!(
        matches!(
            error,
            ProviderError::Denied {
                action: "terminate",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        provider.describe(&instance.id).await.unwrap(),
        InstanceStatus::Alive
    );
}

#[tokio::test]
async fn what_has_ended_need_not_be_permitted_to_end() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(HURRY).await;
    let instance = provider.launch(&request("tagless", "node-a")).await.unwrap();
    bed.emulator.terminate(instance.id.as_str());
    // The policy goes by tags, and they are gone.
    bed.emulator.set_faults(|request| {
        let protected = request.action == "TerminateInstances";
        protected.then_some(Fault::Refuse(403, "UnauthorizedOperation"))
    });
    provider.terminate(&instance.id).await.unwrap();
}

#[tokio::test]
async fn all_vms_of_a_node_are_looked_at_together() {
    let Some(bed) = Bed::start(&[]).await else { return };
    // Nothing is stale during the test.
    let timing = Timing {
        freshness: std::time::Duration::from_secs(3600),
        ..HURRY
    };
    let provider = bed.connect(timing).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(
            provider
                .launch(&request(&format!("many-{number}"), "node-a"))
                .await
                .unwrap()
                .id,
        );
    }
    let ask = async |ids: &[InstanceId]| {
        let before = bed.emulator.requests_of("DescribeInstances").len();
        let all = join_all(ids.iter().map(|id| provider.describe(id))).await;
        assert!(
            all.into_iter()
                .all(|status| status.unwrap() == InstanceStatus::Alive)
        );
        bed.emulator.requests_of("DescribeInstances").len() - before
    };
    assert!(ask(&ids[..1]).await == 1);
    // Those that are new come while the first of them is asked about.
    let questions = ask(&ids).await;
    assert!((1..=2).contains(&questions), "{questions} questions");
    assert_eq!(ask(&ids).await, 0, "nothing is asked that is known");
}

#[tokio::test]
async fn ends_that_are_waited_for_are_waited_for_together() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let provider = bed.connect(HURRY).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(
            provider
                .launch(&request(&format!("leaving-{number}"), "node-a"))
                .await
                .unwrap()
                .id,
        );
    }
    let ended = join_all(ids.iter().map(|id| provider.terminate(id))).await;
    ended.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
    assert_eq!(bed.emulator.living_instances(), [""; 0]);
    let asked = bed.emulator.requests_of("DescribeInstances").len();
    assert!(asked <= 20, "{asked} questions about 20 VMs");
}

#[tokio::test]
async fn interruptions_are_asked_for_together_and_of_spot_instances_alone() {
    let Some(bed) = Bed::start(&[("PODVM_SPOT", "true")]).await else {
        return;
    };
    // Each answer serves all that ask during the test.
    let timing = Timing {
        interruption: std::time::Duration::from_secs(3600),
        ..HURRY
    };
    let launcher = bed.connect(timing).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let request = request(&format!("spot-{number}"), "node-a");
        ids.push(launcher.launch(&request).await.unwrap().id);
    }
    ids.iter().for_each(|id| bed.emulator.interrupt(id.as_str()));
    bed.emulator.set_faults(|request| {
        let is_spot = request.parameter("InstanceMarketOptions.MarketType") == Some("spot");
        is_spot.then_some(Fault::Refuse(500, "InsufficientInstanceCapacity"))
    });
    let on_demand = launcher.launch(&request("on-demand", "node-a")).await.unwrap().id;

    // As after a restart: each of the node's VMs is new to it, and asked for with all that were before.
    let provider = bed.connect(timing).await;
    let wait = async || {
        let before = bed.emulator.requests_of("DescribeSpotInstanceRequests").len();
        let waited = join_all(ids.iter().map(|id| provider.interruption(id)));
        tokio::select! {
            biased;
            words = provider.interruption(&on_demand) => panic!("{words}"),
            words = waited => assert!(words.iter().all(|words| words.contains("no-capacity")), "{words:?}"),
        }
        bed.emulator.requests_of("DescribeSpotInstanceRequests").len() - before
    };
    let questions = wait().await;
    assert!((1..=20).contains(&questions), "{questions} questions");
    assert_eq!(wait().await, 0, "nothing is asked that is known");
    let asked = bed.emulator.requests_of("DescribeSpotInstanceRequests");
    let mut values = asked.iter().flat_map(|request| request.parameters.values());
    assert!(values.all(|value| value != on_demand.as_str()));
}
