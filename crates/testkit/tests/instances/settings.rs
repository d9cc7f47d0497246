//! A cluster whose administrator names neither a VM image nor where VMs are attached, and buys spot instances.

use peerpods_testkit::{Bed, ChangedSettings, NAMESPACE, Pod, replaced, wait_adaptor_serves, wait_for};
use serde_json::{Value, json};

use crate::{
    BOOT_LIMIT, END_LIMIT, NOTICE_LIMIT, PUBLICATION_LIMIT,
    account::{Account, describe, images, interrupt, remove_image},
    created, instance_of, wait_as_before, wait_killed,
};

const IMAGE: &str = "PODVM_AMI_ID";
const ADAPTOR: &str = "cloud-api-adapt";
/// From the announcement to the end, as EC2 has it.
const NOTICE_SECONDS: u64 = 120;
/// The announcement.
const WORDS: &str = "EC2 takes the spot instance back";

fn image_set(bed: &Bed) -> String {
    let set = bed.settings().remove(IMAGE);
    set.and_then(|id| id.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Removes the image, and changes the settings; gives them, and the image that the operator has published then.
#[track_caller]
fn without_an_image<'bed>(bed: &'bed Bed, settings: &Value) -> (ChangedSettings<'bed>, String) {
    let first = image_set(bed);
    remove_image(bed, &first);
    assert!(images(bed).is_empty());
    // As soon as there is an image, the adaptor gets it.
    let changed = replaced(bed, ADAPTOR, |_| {
        let mut changed = ChangedSettings::set(bed, settings);
        // What it was is gone.
        changed.keep(IMAGE);
        wait_for("an image is published", PUBLICATION_LIMIT, || {
            let pods = bed.kubectl(&["-n", NAMESPACE, "get", "pods"]).stdout;
            if image_set(bed).is_empty() {
                Err(pods)
            } else {
                Ok(())
            }
        });
        changed
    });
    wait_adaptor_serves(bed);
    let published = image_set(bed);
    assert_ne!(published, first);
    assert!(images(bed).contains(&published));
    (changed, published)
}

/// The pod's events of its VM being taken back, as a user sees them.
#[track_caller]
fn interruptions(bed: &Bed, pod: &Pod<'_>) -> Vec<String> {
    let described = bed.kubectl(&["describe", "pod", &pod.name]).text();
    let lines = described.lines();
    lines
        .filter(|line| line.contains("SpotInterruption"))
        .map(str::to_owned)
        .collect()
}

// All in one scenario: it costs the time of one start, and of one change of the settings.
#[test]
fn an_image_is_published_where_none_is_named_and_a_pod_on_a_spot_instance_of_it_learns_of_its_end() {
    let bed = Bed::connect();
    let (settings, published) = without_an_image(
        &bed,
        &json!({(IMAGE): "", "AWS_SUBNET_ID": Value::Null, "AWS_SG_IDS": Value::Null, "PODVM_SPOT": "true"}),
    );
    let condition = "jsonpath={.status.conditions[?(@.type==\"ImagePublished\")].message}";
    let said = bed.kubectl(&["get", "kataconfig", "cluster", "--output", condition]);
    assert!(said.text().ends_with(&published), "{}", said.stdout);
    wait_for("the Job is gone", END_LIMIT, || {
        let jobs = bed
            .kubectl(&["-n", NAMESPACE, "get", "jobs", "--output", "name"])
            .text();
        if jobs.is_empty() { Ok(()) } else { Err(jobs) }
    });

    // A spot instance of that image, attached where the worker is.
    let before = Account::of(&bed);
    let pod = created(&bed, "interrupted");
    let id = instance_of(&bed, &pod);
    let shown = describe(&bed, &id);
    for (name, value) in [
        ("imageId", published.as_str()),
        ("subnetId", &before.subnets[0]),
        ("groupId", &before.security_groups[0]),
        ("instanceLifecycle", "spot"),
    ] {
        assert!(shown.contains(&format!("<{name}>{value}</{name}>")), "{shown}");
    }

    // Taken back while it boots: the pod is told, and runs for what is left.
    interrupt(&bed, &id, NOTICE_SECONDS);
    wait_for("the pod is told", NOTICE_LIMIT, || {
        let told = interruptions(&bed, &pod);
        let is_told = |event: &String| event.contains("Warning") && event.contains(WORDS);
        if told.iter().any(is_told) {
            Ok(())
        } else {
            Err(pod.events())
        }
    });
    pod.wait_ready_within(BOOT_LIMIT);
    assert_eq!(pod.shell("echo works"), "works");
    interrupt(&bed, &id, 0);
    let message = wait_killed(&pod);
    assert!(message.contains(WORDS), "{message}");
    let told = interruptions(&bed, &pod);
    assert_eq!(told.len(), 1, "{told:#?}");
    pod.delete();
    drop(settings);
    wait_as_before(&bed, &before);
}
