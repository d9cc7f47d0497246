//! Rules for the VM image in EC2: it is published where nobody names one.

use peerpods_api::names::conditions;

use super::{World, installed};
use crate::{
    managed::Kind,
    names,
    observed::{Credentials, PodState},
    plan::Action,
};

fn on_aws() -> World {
    let mut world = World::with_workers(&["one"]);
    world.set("CLOUD_PROVIDER", "aws");
    world.create_kata_config("kata");
    world.settle();
    world
}

fn finished(message: &str) -> PodState {
    PodState::Finished {
        message: message.to_owned(),
    }
}

fn image(world: &World) -> Option<&str> {
    world
        .observed
        .settings
        .as_ref()?
        .get("PODVM_AMI_ID")
        .map(String::as_str)
}

fn says(world: &World, status: &str, reason: &str) -> String {
    let said = world.condition(conditions::IMAGE_PUBLISHED);
    assert_eq!((said.status.as_str(), said.reason.as_str()), (status, reason));
    said.message
}

fn is_said(world: &World) -> bool {
    let status = world.observed.kata_configs[0].status.as_ref().unwrap();
    status
        .conditions
        .iter()
        .any(|one| one.type_ == conditions::IMAGE_PUBLISHED)
}

#[test]
fn without_an_image_ours_is_published_and_then_adaptors_start() {
    let mut world = on_aws();
    let job = world.object(Kind::Job, names::IMAGE_PUBLISHER).unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "vm-image:1");
    says(&world, "False", "Publishing");
    assert_eq!(world.condition(conditions::READY).reason, "Publishing");
    assert_eq!(world.condition(conditions::SETTINGS_VALID).status, "True");
    assert!(world.object(Kind::DaemonSet, names::ADAPTOR).is_none());

    world.publisher = finished("ami-0123456789abcdef0");
    world.settle();
    assert_eq!(image(&world), Some("ami-0123456789abcdef0"));
    let said = says(&world, "True", "Published");
    assert!(said.ends_with("PODVM_AMI_ID is ami-0123456789abcdef0"), "{said}");
    assert_eq!(world.condition(conditions::READY).status, "True");
    assert!(world.object(Kind::DaemonSet, names::ADAPTOR).is_some());
    assert!(world.object(Kind::Job, names::IMAGE_PUBLISHER).is_none());
}

#[test]
fn a_failure_is_said_with_what_to_do_and_other_credentials_begin_anew() {
    let mut world = on_aws();
    world.publisher = PodState::Failing {
        reason: "CrashLoopBackOff".to_owned(),
        message: "error: cannot begin a snapshot: not permitted".to_owned(),
    };
    world.settle();
    let said = says(&world, "False", "PublishingFailed");
    assert!(said.contains("cannot begin a snapshot: not permitted"), "{said}");
    assert!(said.contains("or set PODVM_AMI_ID in peer-pods-cm"), "{said}");
    assert_eq!(world.condition(conditions::READY).reason, "ImageNotPublished");

    world.log.clear();
    world.observed.credentials = Some(Credentials::default());
    world.settle();
    let of_the_job = |line: &&String| line.contains("Job");
    assert_eq!(
        world.log.iter().filter(of_the_job).collect::<Vec<_>>(),
        [
            "remove Job peerpods-image-publisher",
            "apply Job peerpods-image-publisher"
        ]
    );
    world.publisher = finished("what is no id");
    world.settle();
    says(&world, "False", "PublishingFailed");
    assert_eq!(image(&world), None);
}

#[test]
fn a_pod_of_an_earlier_job_says_nothing_of_this_one() {
    let mut world = on_aws();
    world.publisher = finished("ami-1");
    world.be_kubernetes();
    for pod in &mut world.observed.components {
        pod.owner = Some("another".to_owned());
    }
    let sets = |action: &Action| matches!(action, Action::SetImage(_));
    assert!(!world.plan().actions.iter().any(sets));
}

#[test]
fn an_image_that_somebody_names_is_left_alone() {
    let mut world = installed(&["one"]);
    world.set("CLOUD_PROVIDER", "aws");
    world.set("PODVM_AMI_ID", "ami-theirs");
    world.publisher = finished("ami-ours");
    world.settle();
    assert!(world.log.iter().all(|line| !line.contains("Job")));
    assert!(!is_said(&world));

    // In the Secret it is named as well.
    world.set("PODVM_AMI_ID", "");
    world.observed.credentials = Some(Credentials {
        keys: ["PODVM_AMI_ID".to_owned()].into(),
        version: "1".to_owned(),
    });
    world.settle();
    assert_eq!(image(&world), Some(""));

    // While ours is being published, theirs wins, and nothing is said of ours any more.
    world.observed.credentials = None;
    world.publisher = PodState::Starting;
    world.settle();
    says(&world, "False", "Publishing");
    world.set("PODVM_AMI_ID", "ami-theirs");
    world.settle();
    assert_eq!(image(&world), Some("ami-theirs"));
    assert!(!is_said(&world));
}

#[test]
fn without_its_image_an_adaptor_that_runs_goes_on() {
    let mut world = installed(&["one"]);
    let before = world.object(Kind::DaemonSet, names::ADAPTOR).cloned();
    world.set("CLOUD_PROVIDER", "aws");
    world.settle();
    assert_eq!(world.object(Kind::DaemonSet, names::ADAPTOR).cloned(), before);
}

#[test]
fn the_job_goes_with_the_kata_config_and_the_setting_stays() {
    let mut world = on_aws();
    world.config_mut().spec.enable_peer_pods = false;
    world.settle();
    world.assert_clean();
    assert!(!is_said(&world));
}
